//! The command line that containerd gives a shim: Go-style flags, then at most one action.
//! Source: containerd `pkg/shim/shim.go` (`parseFlags`) and docs/runtime-v2.md.

use std::path::PathBuf;

use crate::fault::{Fault, Result};

/// What the process is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start (or find) the shim of a container and print its address.
    Start,
    /// Clean up after a shim that died.
    Delete,
    /// Serve in the foreground (no action named).
    Serve,
    /// Print a `RuntimeInfo` message.
    Info,
    /// Print the version for a person.
    Version,
}

/// The flags containerd passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub action: Action,
    /// containerd namespace of the container.
    pub namespace: String,
    /// Container (or sandbox) id.
    pub id: String,
    /// containerd's gRPC socket.
    pub address: String,
    /// Bundle directory; the working directory unless the `delete` action is given one.
    pub bundle: Option<PathBuf>,
    /// Socket to serve on (foreground only).
    pub socket: Option<PathBuf>,
    /// Verbose log.
    pub debug: bool,
}

impl Args {
    /// Parses the arguments after the program's name.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Args {
            action: Action::Serve,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: None,
            socket: None,
            debug: false,
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                parsed.action = match arg.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    other => {
                        return Err(Fault::invalid(format!(
                            "unknown action \"{other}\": use start, delete, -info or -v"
                        )));
                    }
                };
                continue;
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let switch = inline.as_deref() != Some("false");
            match name {
                "info" if switch => parsed.action = Action::Info,
                "v" | "version" if switch => parsed.action = Action::Version,
                "debug" => parsed.debug = switch,
                "info" | "v" | "version" => {}
                _ => {
                    let value = inline
                        .or_else(|| args.next())
                        .ok_or_else(|| Fault::invalid(format!("flag -{name} needs a value")))?;
                    match name {
                        "namespace" => parsed.namespace = value,
                        "id" => parsed.id = value,
                        "address" => parsed.address = value,
                        "bundle" => parsed.bundle = Some(value.into()),
                        "socket" => parsed.socket = Some(value.into()),
                        // Events go over ttrpc, so the binary to publish with is not needed.
                        "publish-binary" => {}
                        other => {
                            return Err(Fault::invalid(format!("unknown flag -{other}")));
                        }
                    }
                }
            }
        }
        parsed.check()
    }

    fn check(self) -> Result<Self> {
        if matches!(self.action, Action::Info | Action::Version) {
            return Ok(self);
        }
        check_name("-namespace", &self.namespace)?;
        check_name("-id", &self.id)?;
        Ok(self)
    }
}

/// Refuses what containerd itself never sends as an identifier: both names become path components.
/// Source: containerd `pkg/identifiers` (at most 76 characters of `[A-Za-z0-9._-]`).
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts_plain = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_plain && name.len() <= 128 && name.chars().all(plain) {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "{what} \"{}\" is not a containerd identifier (letters, digits, '.', '_' and '-')",
        name.chars().take(128).collect::<String>().escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_line_containerd_gives_is_understood() {
        let args = parse(
            "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id pod1 -debug start",
        )
        .unwrap();
        assert_eq!(args.action, Action::Start);
        assert_eq!(args.namespace, "k8s.io");
        assert_eq!(args.id, "pod1");
        assert!(args.debug);
    }

    #[test]
    fn delete_takes_the_bundle_from_its_flag() {
        let args = parse("-namespace=n --id=c -bundle /b delete").unwrap();
        assert_eq!(args.action, Action::Delete);
        assert_eq!(args.bundle, Some("/b".into()));
    }

    #[test]
    fn info_and_version_need_nothing_else() {
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn names_that_would_escape_a_directory_are_refused() {
        for id in ["..", "a/b", "", "-x", "a\0b"] {
            assert!(check_name("-id", id).is_err(), "{id:?}");
        }
        assert!(check_name("-id", "a_b.c-1").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn a_name_that_is_accepted_is_one_component_of_a_path(name in "[a-z0-9._/\\-\0 \u{e9}]{0,12}") {
            if check_name("-id", &name).is_ok() {
                let path = std::path::Path::new("/run").join(&name);
                assert_eq!(path.components().count(), 3, "{name:?}");
                assert_eq!(path.parent(), Some(std::path::Path::new("/run")));
            }
        }
    }

    #[test]
    fn an_unknown_flag_or_action_is_named() {
        assert!(parse("-namespace n -id c frob").unwrap_err().message.contains("frob"));
        assert!(parse("-frob x start").unwrap_err().message.contains("-frob"));
    }
}
