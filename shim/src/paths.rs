//! Where the shim keeps things on the node.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Sockets, container state and verification stamps; a tmpfs on every distribution.
pub const DEFAULT_RUN_DIR: &str = "/run/tandem";
/// Compiled code, kept over reboots.
pub const DEFAULT_CACHE_DIR: &str = "/var/lib/tandem/aot";

/// The node's configuration (see [`crate::node_config`]).
pub const DEFAULT_CONFIG: &str = "/etc/tandem/config.toml";

/// Overrides [`DEFAULT_RUN_DIR`]; set by the node's admin in containerd's environment.
pub const RUN_DIR_ENV: &str = "TANDEM_RUN_DIR";
/// Overrides [`DEFAULT_CACHE_DIR`]; set by the node's admin in containerd's environment.
pub const CACHE_DIR_ENV: &str = "TANDEM_CACHE_DIR";
/// Overrides [`DEFAULT_CONFIG`]; set by the node's admin in containerd's environment.
pub const CONFIG_ENV: &str = "TANDEM_CONFIG";

/// The directories of one node.
#[derive(Debug, Clone)]
pub struct Paths {
    run: PathBuf,
    cache: PathBuf,
    config: PathBuf,
}

impl Paths {
    /// The directories that the environment names, else the defaults.
    pub fn from_env() -> Self {
        let path = |name, default: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self {
            run: path(RUN_DIR_ENV, DEFAULT_RUN_DIR),
            cache: path(CACHE_DIR_ENV, DEFAULT_CACHE_DIR),
            config: path(CONFIG_ENV, DEFAULT_CONFIG),
        }
    }

    /// The node's configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The cache of compiled code.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Records of which cache entries have been verified since boot.
    pub fn stamps(&self) -> PathBuf {
        self.run.join("aot")
    }

    /// Directory of the shims' sockets.
    pub fn sockets(&self) -> PathBuf {
        self.run.join("s")
    }

    /// Socket of the shim that serves `group` for the containerd at `address`. Hashed, because a UNIX
    /// socket's path has 108 bytes and a container's id alone may have 76.
    pub fn socket(&self, address: &str, namespace: &str, group: &str) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [address, namespace, group] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let name: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.sockets().join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        Paths {
            run: DEFAULT_RUN_DIR.into(),
            cache: DEFAULT_CACHE_DIR.into(),
            config: DEFAULT_CONFIG.into(),
        }
    }

    #[test]
    fn a_socket_path_fits_whatever_the_names() {
        let long = "x".repeat(200);
        let path = paths().socket(&long, &long, &long);
        assert!(path.as_os_str().len() < 100, "{path:?}");
    }

    #[test]
    fn two_containerds_never_share_a_socket() {
        let a = paths().socket("/run/a.sock", "k8s.io", "pod");
        let b = paths().socket("/run/b.sock", "k8s.io", "pod");
        assert_ne!(a, b);
        assert_ne!(paths().socket("x", "ab", "c"), paths().socket("x", "a", "bc"));
    }
}
