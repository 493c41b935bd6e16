//! The DaemonSet's process on a node: installs, publishes, keeps watch, and on its own end decides whether Tandem
//! leaves the node with it.

use std::{fs, path::PathBuf, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep},
};
use tracing::{error, info, warn};

use crate::{
    error::{Error, Result},
    kubernetes::{Intent, NodeClient, intent},
    ops::{self, Context, Outcome},
};

/// Time between two looks at the node.
const WATCH: Duration = Duration::from_secs(60);
/// Wait after the first failure; each one doubles it. A retry may restart containerd.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// Longest wait between two tries.
const LAST_RETRY: Duration = Duration::from_secs(3600);
/// Wait between two looks whether the operator has restarted containerd.
const AWAIT: Duration = Duration::from_secs(10);
/// How long an API server may be away.
const API_SERVER: Duration = Duration::from_secs(180);
/// How long evicted pods may take to end.
const DRAIN: Duration = Duration::from_secs(240);

/// What the agent knows of its own DaemonSet.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The pod's namespace.
    pub namespace: String,
    /// The DaemonSet's name.
    pub daemon_set: String,
    /// A file that exists while the node is ready, for the pod's readiness probe.
    pub ready_file: Option<PathBuf>,
}

struct Running<'a> {
    agent: &'a Agent,
    context: &'a Context,
    node: NodeClient,
    end: Signal,
    /// Whether the last look found the node verified.
    ready: bool,
}

/// Runs until the pod is ended.
///
/// # Errors
/// Where not even a beginning can be made: no API server, no signal handler.
pub async fn run(context: &Context, agent: &Agent) -> Result<()> {
    let name = context.options.node.as_deref();
    let name = name.ok_or_else(|| Error::Usage("the agent needs the name of its node: --node".into()))?;
    let mut running = Running {
        agent,
        context,
        node: NodeClient::connect(name).await?,
        end: signal(SignalKind::terminate()).map_err(Error::io("handle", "SIGTERM"))?,
        ready: false,
    };
    running.set_ready(false)?;
    running.watch().await?;
    running.set_ready(false)?;
    running.leave_if_asked().await
}

impl Running<'_> {
    /// Installs and looks after the node until the pod is to end.
    async fn watch(&mut self) -> Result<()> {
        let mut retry = FIRST_RETRY;
        let mut told: Option<String> = None;
        loop {
            let wait = match self.converge().await {
                Ok(Outcome::Awaiting(how)) => {
                    if told.as_deref() != Some(how) {
                        self.node.tell(true, "TandemAwaitsRestart", how).await;
                        told = Some(how.to_owned());
                    }
                    AWAIT
                }
                Ok(outcome) => {
                    retry = FIRST_RETRY;
                    if outcome == Outcome::Installed || told.take().is_some() {
                        self.node
                            .tell(false, "TandemReady", "Tandem is installed and verified")
                            .await;
                    }
                    WATCH
                }
                Err(cause) => {
                    error!("{cause}");
                    if !matches!(cause, Error::Locked(_)) {
                        self.set_ready(false)?;
                    }
                    let message = cause.to_string();
                    if told.as_ref() != Some(&message) {
                        self.node.tell(true, cause.reason(), &message).await;
                        told = Some(message);
                    }
                    let wait = retry;
                    retry = (retry * 2).min(LAST_RETRY);
                    info!("trying again in {} s", wait.as_secs());
                    wait
                }
            };
            tokio::select! {
                // An end that was asked for during a look comes before the next one.
                biased;
                _ = self.end.recv() => return Ok(()),
                () = sleep(wait) => {}
            }
        }
    }

    /// One look: installs what is missing, and publishes or withdraws the node accordingly. An operation is never
    /// dropped half-way by a signal: it ends first.
    async fn converge(&mut self) -> Result<Outcome> {
        if self.is_healthy().await {
            return Ok(Outcome::Unchanged);
        }
        let result = ops::install(self.context).await;
        let record = self.context.store.record()?;
        let version = record
            .as_ref()
            .and_then(|record| record.current())
            .map(|version| version.name.clone());
        match (&result, version) {
            (Ok(Outcome::Installed | Outcome::Unchanged), Some(version)) => {
                self.publish(&version).await?;
                self.set_ready(true)?;
            }
            // Somebody else is at work, and nothing is known of the node until that is done.
            (Err(Error::Locked(_)), _) => {}
            // A failed upgrade leaves the earlier version, which may be as good as ever.
            (Err(_), Some(_)) if self.is_verified().await => {}
            // The reason for closing the node is what should be told, not that closing it failed too.
            _ => {
                if let Err(error) = self.node.withdraw().await {
                    warn!("{error}");
                }
            }
        }
        result
    }

    /// Opens the node. On a k3s server the API server has just been restarted along with containerd.
    async fn publish(&self, version: &str) -> Result<()> {
        let since = Instant::now();
        loop {
            match self.node.publish(version).await {
                Err(error) if since.elapsed() < API_SERVER => warn!("{error}"),
                other => return other,
            }
            sleep(AWAIT).await;
        }
    }

    /// Whether the last installation still stands, without running a guest or planning anew.
    async fn is_healthy(&self) -> bool {
        if !self.ready {
            return false;
        }
        match ops::stands(self.context).await {
            Ok(()) => true,
            Err(error) => {
                warn!("the installation does not stand any more: {error}");
                false
            }
        }
    }

    async fn is_verified(&self) -> bool {
        ops::verify(self.context).await.is_ok()
    }

    /// The pod ends: leaves the node if the cluster wants that, and only then.
    async fn leave_if_asked(&self) -> Result<()> {
        let reason = match intent(&self.node, &self.agent.namespace, &self.agent.daemon_set).await {
            Ok(Intent::Leave(reason)) => reason,
            Ok(Intent::Stay) => {
                info!("the pod is replaced; Tandem stays on the node");
                return Ok(());
            }
            Err(error) => {
                warn!("Tandem stays on the node, because nobody could say whether it should leave: {error}");
                return Ok(());
            }
        };
        info!("Tandem leaves the node: {reason}");
        let left = leave(self.context, &self.node).await;
        match &left {
            Ok(outcome) => {
                self.node
                    .tell(false, "TandemRemoved", &format!("{reason}: {outcome}"))
                    .await
            }
            Err(cause) => self.node.tell(true, cause.reason(), &cause.to_string()).await,
        }
        left.map(|outcome| info!("{outcome}"))
    }

    fn set_ready(&mut self, ready: bool) -> Result<()> {
        self.ready = ready;
        let Some(file) = &self.agent.ready_file else {
            return Ok(());
        };
        let done = if ready {
            fs::write(file, "")
        } else {
            fs::remove_file(file)
        };
        match done {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("write", file)(error)),
            _ => Ok(()),
        }
    }
}

/// Withdraws the node, evicts its pods where that is wanted, and uninstalls.
///
/// # Errors
/// As [`ops::uninstall`]; the node stays withdrawn then.
pub async fn leave(context: &Context, node: &NodeClient) -> Result<String> {
    node.withdraw().await?;
    if context.options.drain {
        drain(context, node).await?;
    }
    let outcome = ops::uninstall(context).await?;
    node.forget().await?;
    Ok(outcome)
}

async fn drain(context: &Context, node: &NodeClient) -> Result<()> {
    let detected = context.detect().await?;
    let cri = context.cri(&detected)?;
    let since = Instant::now();
    loop {
        let pods = cri.pods_of(&context.options.handler).await?;
        if pods.is_empty() || since.elapsed() > DRAIN {
            return Ok(());
        }
        for pod in pods.iter().filter_map(|pod| pod.metadata.as_ref()) {
            if let Err(error) = node.evict(&pod.namespace, &pod.name, &pod.uid).await {
                warn!("{error}");
            }
        }
        sleep(Duration::from_secs(5)).await;
    }
}
