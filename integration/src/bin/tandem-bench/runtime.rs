//! The runtimes that are compared, and where their shims are.

use std::{env, path::PathBuf};

use tandem_integration::{
    Error, RUNC, Result, TANDEM,
    generation::{cache_dir, tandem_shim},
};

/// The floor keeps its sockets where this variable, in containerd's environment, says.
pub const FLOOR_RUN_DIR: &str = "FLOOR_RUN_DIR";

/// A runtime of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// The shim of this repository.
    Tandem,
    /// A plain shim on runwasi's library: `integration/baseline`.
    Baseline,
    /// containerd's default.
    Runc,
    /// The null shim: `integration/floor`.
    Floor,
}

impl Runtime {
    /// All, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Tandem, Self::Baseline, Self::Runc, Self::Floor];

    /// Its name in options and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tandem => "tandem",
            Self::Baseline => "baseline",
            Self::Runc => "runc",
            Self::Floor => "floor",
        }
    }

    /// Its name in containerd.
    pub fn id(self) -> &'static str {
        match self {
            Self::Tandem => TANDEM,
            Self::Baseline => "io.containerd.baseline.v1",
            Self::Runc => RUNC,
            Self::Floor => "io.containerd.floor.v1",
        }
    }

    /// Whether it runs Wasm.
    pub fn is_wasm(self) -> bool {
        matches!(self, Self::Tandem | Self::Baseline)
    }

    /// The name that containerd looks a shim up by, and its binary; `None` where the harness knows it already.
    pub fn shim(self) -> Option<(&'static str, PathBuf)> {
        match self {
            Self::Tandem | Self::Runc => None,
            Self::Baseline => Some(("containerd-shim-baseline-v1", self.binary()?)),
            Self::Floor => Some(("containerd-shim-floor-v1", self.binary()?)),
        }
    }

    /// `None` for runc: its shim comes with containerd.
    fn binary(self) -> Option<PathBuf> {
        let peer = |variable, path| env::var_os(variable).map_or_else(|| cache_dir().join(path), PathBuf::from);
        match self {
            Self::Tandem => Some(tandem_shim()),
            Self::Baseline => {
                let path = "baseline-target/release/containerd-shim-baseline-v1";
                Some(peer("TANDEM_BASELINE", path))
            }
            Self::Floor => Some(peer("TANDEM_FLOOR", "floor-target/release/containerd-shim-floor-v1")),
            Self::Runc => None,
        }
    }

    /// Looks whether its shim has been built.
    ///
    /// # Errors
    /// [`Error::Setup`] names the binary that is missing and what to do.
    pub fn check(self) -> Result<()> {
        match self.binary() {
            Some(binary) if !binary.is_file() => Err(Error::Setup(format!(
                "{} is missing; `make bench` builds it, TANDEM_{} names another, `--without {}` leaves it out",
                binary.display(),
                match self {
                    Self::Tandem => "SHIM".to_owned(),
                    other => other.name().to_uppercase(),
                },
                self.name(),
            ))),
            _ => Ok(()),
        }
    }
}
