//! Whether the node runs Tandem, and still runs all else.

use std::time::Duration;

use tracing::info;

use super::{Context, records::tidy};
use crate::{
    cri::{Cri, Ended, Probe, logs},
    detect::Detected,
    error::{Error, Result},
    service::READY,
    txn::Writer,
};

/// How long after a restart CRI may take to list a handler. k0s notices a new file and restarts containerd itself.
const HANDLER: Duration = Duration::from_secs(60);

/// The containers that ran before a restart, which must have survived it.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningBefore {
    /// Their ids.
    pub containers: Vec<String>,
    /// Ends in this time count as the restart's.
    pub ended: Ended,
}

/// Runs the verification on its own.
///
/// # Errors
/// [`Error::Verify`] names the step that failed; [`Error::Locked`] where another installer works on the host.
pub async fn verify(context: &Context) -> Result<()> {
    let detected = context.detect().await?;
    let store = context.store.lock()?;
    let verified = require_verified(context, &store, &detected, &RunningBefore::default()).await;
    let tidied = tidy(context, &store);
    verified.and(tidied)
}

/// Requires that the runtime is ready, that the handler is there, that nothing was lost, and that the probe answers.
///
/// # Errors
/// [`Error::Verify`] names the step that failed.
pub(super) async fn require_verified(
    context: &Context,
    store: &Writer,
    detected: &Detected,
    before: &RunningBefore,
) -> Result<()> {
    let cri = context.cri(detected)?;
    let handler = &context.options.handler;
    cri.wait_ready(READY).await?;
    cri.wait_handler(handler, true, HANDLER).await?;
    require_alive(&cri, before).await?;
    let probe = Probe {
        handler,
        systemd_cgroup: systemd_cgroup(context)?,
        logs: logs(store.dir()),
    };
    cri.probe(&context.host, &probe).await?;
    info!("verified: a Wasm container ran with the handler {handler:?} and answered");
    Ok(())
}

/// Requires that no container was lost by a restart.
pub(super) async fn require_alive(cri: &Cri, before: &RunningBefore) -> Result<()> {
    let lost = cri.lost(&before.containers, before.ended).await?;
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::Verify {
        step: "containers",
        why: format!(
            "containerd's restart ended containers that ran before: {}",
            lost.join(", ")
        ),
    })
}

/// What the installed options say.
fn systemd_cgroup(context: &Context) -> Result<bool> {
    let path = context.options.runtime_options();
    let text = context.host.read_text(&path)?.unwrap_or_default();
    let document = crate::containerd::format::parse(&path, &text)?;
    Ok(document
        .get("SystemdCgroup")
        .and_then(toml_edit::Item::as_bool)
        .unwrap_or(false))
}
