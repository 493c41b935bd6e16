//! What each command does.

use super::{Cli, HELP, check};
use crate::{
    agent::{self, Agent},
    error::{Error, Result},
    kubernetes::{NodeClient, READY, READY_ALIAS, RetireOptions, VERSION, retire},
    ops::{self, Context},
};

impl Cli {
    /// Runs the command; returns what it prints.
    ///
    /// # Errors
    /// The command's.
    pub async fn run(self) -> Result<String> {
        check(&self.options)?;
        let context = Context::new(self.options.clone());
        self.run_on(&context).await
    }

    /// Runs the command on a host of one's own making. What changes something is behind the question whether this is a
    /// dry run, so that no command can miss it.
    ///
    /// # Errors
    /// The command's.
    pub async fn run_on(self, context: &Context) -> Result<String> {
        if let Some(answer) = self.look(context).await? {
            return Ok(answer);
        }
        if self.dry_run {
            return self.tell(context).await;
        }
        self.act(context).await
    }

    /// Commands that change nothing.
    async fn look(&self, context: &Context) -> Result<Option<String>> {
        let answer = match self.command.as_str() {
            "help" | "--help" | "-h" => HELP.into(),
            "detect" => {
                let detected = context.detect().await?;
                pretty(&detected.report(&context.host))?
            }
            "plan" => ops::plan_install(context).await?,
            "status" => match context.store.record()? {
                Some(record) => pretty(&record)?,
                None => "nothing is installed".into(),
            },
            "ready" => {
                let file = needed(self.ready_file.clone(), "ready-file")?;
                let not_yet = || Error::Verify {
                    step: "readiness",
                    why: "the agent has not finished; its log says what it does".into(),
                };
                file.exists().then(String::new).ok_or_else(not_yet)?
            }
            _ => return Ok(None),
        };
        Ok(Some(answer))
    }

    /// Says what a command would do.
    async fn tell(self, context: &Context) -> Result<String> {
        match self.command.as_str() {
            "install" => ops::plan_install(context).await,
            "rollback" => ops::plan_rollback(context).await,
            "uninstall" => {
                self.require_node_to_drain()?;
                let plan = ops::plan_uninstall(context).await?;
                Ok(match &self.options.node {
                    Some(node) => format!(
                        "remove labels from node {node}: {READY}, {READY_ALIAS}\n{}\n\
                         remove label from node {node}: {VERSION}",
                        plan.trim_end()
                    ),
                    None => plan,
                })
            }
            "retire" => retire(&self.retire_options()?).await,
            other => Err(Error::Usage(format!("{other:?} has no --dry-run"))),
        }
    }

    /// Commands that change something.
    async fn act(self, context: &Context) -> Result<String> {
        match self.command.as_str() {
            "install" => self.install(context).await,
            "verify" => {
                ops::verify(context).await?;
                Ok("verified: a Wasm container ran and answered".into())
            }
            "rollback" => {
                let version = ops::rollback(context).await?;
                if let Some(node) = &self.options.node {
                    NodeClient::connect(node).await?.publish(&version).await?;
                }
                Ok(format!(
                    "new pods start with {version}; pods that run keep what they have"
                ))
            }
            "uninstall" => {
                self.require_node_to_drain()?;
                match &self.options.node {
                    Some(node) => agent::leave(context, &NodeClient::connect(node).await?).await,
                    None => ops::uninstall(context).await,
                }
            }
            "agent" => {
                let agent = Agent {
                    namespace: needed(self.namespace, "namespace")?,
                    daemon_set: needed(self.daemon_set, "daemon-set")?,
                    ready_file: self.ready_file,
                };
                agent::run(context, &agent).await?;
                Ok(String::new())
            }
            "retire" => retire(&self.retire_options()?).await,
            other => Err(Error::Usage(format!("{other:?} is not a command"))),
        }
    }

    async fn install(&self, context: &Context) -> Result<String> {
        let outcome = ops::install(context).await?;
        if let (Some(node), false) = (&self.options.node, self.options.offline) {
            let record = context.store.record()?;
            let version = record.as_ref().and_then(|record| record.current());
            if let (Some(version), ops::Outcome::Installed | ops::Outcome::Unchanged) = (version, outcome) {
                NodeClient::connect(node).await?.publish(&version.name).await?;
            }
        }
        Ok(if self.options.offline {
            outcome.offline().into()
        } else {
            outcome.to_string()
        })
    }

    fn require_node_to_drain(&self) -> Result<()> {
        if self.options.drain && self.options.node.is_none() {
            return Err(Error::Usage("--drain needs --node".into()));
        }
        Ok(())
    }

    fn retire_options(&self) -> Result<RetireOptions> {
        Ok(RetireOptions {
            namespace: needed(self.namespace.clone(), "namespace")?,
            daemon_set: needed(self.daemon_set.clone(), "daemon-set")?,
            runtime_class: self.runtime_class.clone(),
            drain: self.options.drain,
            force: self.options.force,
            dry_run: self.dry_run,
        })
    }
}

fn needed<T>(value: Option<T>, name: &str) -> Result<T> {
    value.ok_or_else(|| Error::Usage(format!("this command needs --{name}")))
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(Error::io("encode", "the answer"))
}
