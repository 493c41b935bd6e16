//! What all compilations together may cost a node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The section `[cache]` of the node's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheLimits {
    /// Size that the cache may have on disk, in bytes. Beyond it, entries go that no container uses, those that were not
    /// used for longest first. When all that is there is in use, nothing new is compiled.
    pub max_bytes: u64,
    /// Compilers that may run at a time on the node; 0 is half of its processors, and one at least.
    pub compilers: usize,
    /// Failed compilations that are remembered; 0 turns that off.
    pub remembered_failures: usize,
    /// For how many seconds a failure is remembered.
    pub failure_seconds: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 30,
            compilers: 0,
            remembered_failures: 256,
            failure_seconds: 600,
        }
    }
}

impl CacheLimits {
    /// How many compilers may run here.
    pub(crate) fn compilers_here(&self) -> usize {
        match self.compilers {
            0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1),
            count => count,
        }
    }

    /// How long a failure is remembered.
    pub(crate) fn failure_expiry(&self) -> Duration {
        Duration::from_secs(self.failure_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_configuration_leaves_out_has_its_default_and_a_typing_error_is_refused() {
        let some: CacheLimits = toml::from_str("max_bytes = 1000").unwrap();
        assert_eq!(
            some,
            CacheLimits {
                max_bytes: 1000,
                ..CacheLimits::default()
            }
        );
        let error = toml::from_str::<CacheLimits>("max_byte = 1000")
            .unwrap_err()
            .to_string();
        assert!(error.contains("max_byte"), "{error}");
    }

    #[test]
    fn there_is_always_a_compiler() {
        assert!(CacheLimits::default().compilers_here() >= 1);
        let three = CacheLimits {
            compilers: 3,
            ..CacheLimits::default()
        };
        assert_eq!(three.compilers_here(), 3);
    }
}
