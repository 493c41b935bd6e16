//! The node's configuration: what its admin sets for all containers of the node, whatever containerd passes on. A shim
//! reads it once, when it starts.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;
use tandem_aot::CacheLimits;
use tandem_engine::http::HttpLimits;

use crate::fault::{Fault, Result};

/// The file is a page at most; more is a mistake.
const MAX_BYTES: u64 = 64 * 1024;

/// The sections of the file; one that is left out has its defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Limits of HTTP servers.
    pub http: HttpLimits,
    /// Limits of the cache of compiled code.
    pub cache: CacheLimits,
}

impl NodeConfig {
    /// Reads the file; where there is none, all is as it is by default.
    ///
    /// # Errors
    /// A file that cannot be read, or says what is not known, fails: a limit with a typing error must not be none.
    pub fn read(path: &Path) -> Result<Self> {
        let fault = |why: String| {
            Fault::invalid(format!(
                "the node's configuration {} {why}; correct it, or remove it for the defaults",
                path.display()
            ))
        };
        // Whatever is there, a FIFO for instance, must not keep the shim waiting.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = match file {
            Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
                return Ok(Self::default());
            }
            file => file.map_err(|error| fault(format!("cannot be opened: {error}")))?,
        };
        let mut text = String::new();
        file.take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|error| fault(format!("cannot be read: {error}")))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(fault(format!("has more than {MAX_BYTES} bytes")));
        }
        toml::from_str(&text).map_err(|error| fault(format!("is not valid: {}", one_line(&error.to_string()))))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NodeConfig> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        NodeConfig::read(&file)
    }

    #[test]
    fn without_a_file_or_a_section_all_is_as_by_default() {
        assert_eq!(
            NodeConfig::read(Path::new("/none/of/these")).unwrap(),
            NodeConfig::default()
        );
        assert_eq!(read("# nothing yet\n").unwrap(), NodeConfig::default());
    }

    #[test]
    fn a_section_says_what_differs() {
        let config = read("[http]\nmax_connections = 7\nidle_timeout = 2.5\n").unwrap();
        assert_eq!(config.http.max_connections.get(), 7);
        assert_eq!(config.http.idle_timeout.as_millis(), 2500);
        assert_eq!(config.http.max_streams, HttpLimits::default().max_streams);
    }

    #[test]
    fn a_mistake_is_named_with_its_file_and_line() {
        for (text, named) in [
            ("[http]\nmax_conections = 7\n", "max_conections"),
            ("[http]\nmax_connections = 0\n", "line 2"),
            ("[htpp]\n", "htpp"),
            ("http = 7\n", "http"),
            ("\u{7f}", "line 1"),
        ] {
            let fault = read(text).unwrap_err().message;
            assert!(fault.contains("config.toml") && fault.contains(named), "{fault}");
            assert!(!fault.contains('\n'), "{fault}");
        }
        let fault = read(&"#".repeat(70_000)).unwrap_err().message;
        assert!(fault.contains("bytes"), "{fault}");
        assert!(NodeConfig::read(Path::new("/etc")).is_err());
    }
}
