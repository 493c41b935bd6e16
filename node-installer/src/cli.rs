//! The command line.

use std::path::PathBuf;

use crate::{
    agent::{self, Agent},
    error::{Error, Result},
    kubernetes::{NodeClient, Retire, retire},
    ops::{self, Before, Context},
    options::Options,
    plan,
};

/// What `help` prints.
pub const HELP: &str = "\
tandem-node-installer COMMAND [OPTION...]

Commands
  detect       show what this host is and how it would be set up
  plan         show what install would change, judged by the host's containerd; changes nothing
  install      install or upgrade, verify by a Wasm container, go back where anything fails
  verify       run the verification again
  status       show what is installed
  rollback     let new pods start with the version of the shim before the current one
  uninstall    restore what was before
  agent        install, label the node, keep watch; what the DaemonSet runs
  ready        succeed if the agent's node is ready, by its --ready-file
  retire       delete the agents' DaemonSet and wait until every node is restored
  help         this text

Options
  --host-root DIR          where the host's root is mounted (/)
  --shim FILE              the shim to install (/usr/local/bin/containerd-shim-tandem-v1)
  --handler NAME           name of the CRI handler (tandem)
  --install-dir DIR        where the shim goes on the host (/opt/tandem)
  --state-dir DIR          records and compiled code on the host (/var/lib/tandem)
  --run-dir DIR            the shim's volatile state on the host (/run/tandem)
  --distribution NAME      the preset, instead of looking for it
  --containerd FILE        containerd's program, instead of the preset's
  --config FILE            containerd's root configuration, instead of the preset's
  --socket FILE            containerd's socket, instead of the preset's
  --restart-command TEXT   shell command that restarts containerd, instead of the preset's way
  --dry-run                install: the same as plan
  --offline                change files only, for images of nodes; containerd is neither restarted nor asked
  --force                  install: also a version that was rolled back from; uninstall: although pods run
  --drain                  uninstall, agent: evict pods of this runtime first
  --node NAME              this node's name in Kubernetes; needs a service account or KUBECONFIG
  --namespace NAME         agent, retire: namespace of the DaemonSet
  --daemon-set NAME        agent, retire: name of the DaemonSet
  --ready-file FILE        agent: exists while the node is ready
  --runtime-class NAME     retire: the RuntimeClass whose pods must be gone (tandem)

A value may also come from the environment: --host-root from TANDEM_HOST_ROOT, and so on; --drain from TANDEM_DRAIN=true.
";

/// A command with its options.
#[derive(Debug)]
pub struct Cli {
    command: String,
    options: Options,
    dry_run: bool,
    namespace: Option<String>,
    daemon_set: Option<String>,
    ready_file: Option<PathBuf>,
    runtime_class: String,
}

impl Cli {
    /// Reads a command line without the program's name, and the environment behind it.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn parse(
        args: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let mut args = args.into_iter();
        let command = args.next().unwrap_or_else(|| "help".into());
        let mut cli = Self {
            command,
            options: Options::default(),
            dry_run: false,
            namespace: None,
            daemon_set: None,
            ready_file: None,
            runtime_class: "tandem".into(),
        };
        for (name, value) in environment {
            let Some(name) = name.strip_prefix("TANDEM_") else {
                continue;
            };
            let name = name.to_lowercase().replace('_', "-");
            // Other variables of this prefix are the shim's.
            match name.as_str() {
                "drain" => cli.options.drain = value == "true",
                name if VALUES.contains(&name) && !value.is_empty() => cli.set(name, value),
                _ => {}
            }
        }
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").unwrap_or_default();
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            match name {
                "dry-run" => cli.dry_run = true,
                "offline" => cli.options.offline = true,
                "force" => cli.options.force = true,
                "drain" => cli.options.drain = true,
                name if VALUES.contains(&name) => {
                    let value = value.or_else(|| args.next());
                    let value = value.ok_or_else(|| Error::Usage(format!("--{name} needs a value")))?;
                    cli.set(name, value);
                }
                _ => return Err(Error::Usage(format!("{arg:?} is not an option"))),
            }
        }
        Ok(cli)
    }

    fn set(&mut self, name: &str, value: String) {
        let options = &mut self.options;
        match name {
            "host-root" => options.host_root = value.into(),
            "shim" => options.shim = value.into(),
            "handler" => options.handler = value,
            "install-dir" => options.install_dir = value.into(),
            "state-dir" => options.state_dir = value.into(),
            "run-dir" => options.run_dir = value.into(),
            "distribution" => options.distribution = Some(value),
            "containerd" => options.containerd = Some(value.into()),
            "config" => options.config = Some(value.into()),
            "socket" => options.socket = Some(value.into()),
            "restart-command" => options.restart_command = Some(value),
            "node" => options.node = Some(value),
            "namespace" => self.namespace = Some(value),
            "daemon-set" => self.daemon_set = Some(value),
            "runtime-class" => self.runtime_class = value,
            "ready-file" => self.ready_file = Some(value.into()),
            _ => {}
        }
    }

    /// Runs the command; answers what it prints.
    ///
    /// # Errors
    /// The command's.
    pub async fn run(self) -> Result<String> {
        check(&self.options)?;
        let context = Context::new(self.options.clone());
        match self.command.as_str() {
            "help" | "--help" | "-h" => Ok(HELP.into()),
            "detect" => {
                let detected = context.detect().await?;
                pretty(&detected.report(&context.host))
            }
            "plan" => self.plan(&context).await,
            "install" if self.dry_run => self.plan(&context).await,
            "install" => {
                let outcome = ops::install(&context).await?;
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
            "verify" => {
                let detected = context.detect().await?;
                ops::verify(&context, &detected, &Before::default()).await?;
                Ok("verified: a Wasm container ran and answered".into())
            }
            "status" => match context.store.record()? {
                Some(record) => pretty(&record),
                None => Ok("nothing is installed".into()),
            },
            "rollback" => {
                let version = ops::rollback(&context).await?;
                if let Some(node) = &self.options.node {
                    NodeClient::connect(node).await?.publish(&version).await?;
                }
                Ok(format!(
                    "new pods start with {version}; pods that run keep what they have"
                ))
            }
            "uninstall" => match &self.options.node {
                Some(node) => agent::leave(&context, &NodeClient::connect(node).await?).await,
                None if self.options.drain => Err(Error::Usage("--drain needs --node".into())),
                None => ops::uninstall(&context).await,
            },
            "agent" => {
                let agent = Agent {
                    namespace: needed(self.namespace, "namespace")?,
                    daemon_set: needed(self.daemon_set, "daemon-set")?,
                    ready_file: self.ready_file,
                };
                agent::run(&context, &agent).await?;
                Ok(String::new())
            }
            "ready" => {
                let file = needed(self.ready_file, "ready-file")?;
                let not_yet = || Error::Verify {
                    step: "readiness",
                    why: "the agent has not finished; its log says what it does".into(),
                };
                file.exists().then(String::new).ok_or_else(not_yet)
            }
            "retire" => {
                let wish = Retire {
                    namespace: needed(self.namespace, "namespace")?,
                    daemon_set: needed(self.daemon_set, "daemon-set")?,
                    runtime_class: self.runtime_class,
                    drain: self.options.drain,
                    force: self.options.force,
                };
                retire(&wish).await
            }
            other => Err(Error::Usage(format!("{other:?} is not a command"))),
        }
    }

    async fn plan(&self, context: &Context) -> Result<String> {
        let (detected, plan) = ops::plan(context).await?;
        plan::render(&plan, &detected, &context.host)
    }
}

fn needed<T>(value: Option<T>, name: &str) -> Result<T> {
    value.ok_or_else(|| Error::Usage(format!("this command needs --{name}")))
}

/// Options that take a value.
const VALUES: &[&str] = &[
    "host-root",
    "shim",
    "handler",
    "install-dir",
    "state-dir",
    "run-dir",
    "distribution",
    "containerd",
    "config",
    "socket",
    "restart-command",
    "node",
    "namespace",
    "daemon-set",
    "ready-file",
    "runtime-class",
];

/// Values that end up in file names and configuration.
fn check(options: &Options) -> Result<()> {
    let harmless = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // As the API server checks the handler of a RuntimeClass: a DNS label.
    let handler = &options.handler;
    if handler.is_empty() || handler.len() > 63 || !handler.chars().all(harmless) || handler.starts_with('-') {
        return Err(Error::Usage(format!("the handler {handler:?} is no DNS label")));
    }
    for dir in [&options.install_dir, &options.state_dir, &options.run_dir] {
        let deep = dir.is_absolute() && dir.components().count() > 2;
        if !deep || dir.components().any(|part| part == std::path::Component::ParentDir) {
            let dir = dir.display();
            return Err(Error::Usage(format!(
                "{dir} must be an absolute path of a directory of Tandem's own"
            )));
        }
    }
    Ok(())
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(Error::io("encode", "the answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str], environment: &[(&str, &str)]) -> Result<Cli> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Cli::parse(args.iter().map(|arg| (*arg).to_owned()), environment)
    }

    #[test]
    fn the_command_line_goes_before_the_environment() {
        let environment = [
            ("TANDEM_HANDLER", "other"),
            ("TANDEM_HOST_ROOT", "/host"),
            ("TANDEM_CACHE_DIR", "/x"),
        ];
        let cli = parse(&["plan", "--handler", "mine", "--install-dir=/opt/x"], &environment).unwrap();
        assert_eq!(cli.options.handler, "mine");
        assert_eq!(cli.options.host_root, PathBuf::from("/host"));
        assert_eq!(cli.options.install_dir, PathBuf::from("/opt/x"));
    }

    #[test]
    fn typing_errors_are_named() {
        assert!(
            parse(&["install", "--handle", "x"], &[])
                .unwrap_err()
                .to_string()
                .contains("--handle")
        );
        assert!(
            parse(&["install", "--handler"], &[])
                .unwrap_err()
                .to_string()
                .contains("needs a value")
        );
    }

    #[test]
    fn a_directory_that_is_not_tandems_own_is_refused() {
        let with = |args: &[&str]| check(&parse(args, &[]).unwrap().options);
        assert!(with(&["install"]).is_ok());
        assert!(with(&["install", "--state-dir", "/"]).is_err());
        assert!(with(&["install", "--install-dir", "/opt"]).is_err());
        assert!(with(&["install", "--run-dir", "/run/../etc"]).is_err());
        assert!(with(&["install", "--handler", "a\"]\n"]).is_err());
    }
}
