//! The command line.

mod commands;
mod help;

use std::path::PathBuf;

use crate::{
    error::{Error, Result},
    options::Options,
};

pub use help::HELP;

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
                "dry-run" => cli.dry_run = switch(name, value.as_deref())?,
                "offline" => cli.options.offline = switch(name, value.as_deref())?,
                "force" => cli.options.force = switch(name, value.as_deref())?,
                "drain" => cli.options.drain = switch(name, value.as_deref())?,
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
}

/// The value of an option that is on where it is named, as `kubectl` takes them: `--force`, `--force=false`.
fn switch(name: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(Error::Usage(format!("--{name} is true or false, not {other:?}"))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, ops::Context};

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

    #[test]
    fn a_switch_is_what_its_value_says() {
        let cli = |args: &[&str]| parse(args, &[("TANDEM_DRAIN", "true")]);
        assert!(cli(&["uninstall", "--dry-run", "--force=true"]).unwrap().options.force);
        let off = cli(&["uninstall", "--dry-run=false", "--force=false", "--drain=false"]).unwrap();
        assert!(!off.dry_run && !off.options.force && !off.options.drain);
        let error = cli(&["uninstall", "--dry-run=server"]).unwrap_err().to_string();
        assert!(error.contains("--dry-run is true or false"), "{error}");
    }

    #[tokio::test]
    async fn no_command_that_acts_ignores_a_dry_run() {
        let root = tempfile::tempdir().unwrap();
        let context = Context::on(Host::tree(root.path()), Options::default());
        let commands = HELP.lines().skip_while(|line| *line != "Commands").skip(1);
        let commands: Vec<&str> = commands
            .map_while(|line| line.strip_prefix("  ")?.split(' ').next())
            .collect();
        assert!(commands.len() > 10, "{commands:?}");
        for command in commands {
            let cli = parse(&[command, "--dry-run", "--offline"], &[]).unwrap();
            // On a root where nothing is, most commands fail; none may leave anything.
            let said = cli.run_on(&context).await.map_err(|error| error.to_string());
            let left: Vec<_> = std::fs::read_dir(root.path()).unwrap().flatten().collect();
            assert!(left.is_empty(), "{command} left {left:?}");
            if matches!(command, "agent" | "verify") {
                assert!(
                    said.as_ref().is_err_and(|said| said.contains("has no --dry-run")),
                    "{said:?}"
                );
            }
        }
    }
}
