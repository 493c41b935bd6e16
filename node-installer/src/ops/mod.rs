//! The operations: what a command does from its beginning to its end.

mod install;
mod records;
mod recover;
mod rollback;
mod stands;
mod uninstall;
mod verify;
mod versions;

use std::path::Path;

use crate::{
    cri::Cri,
    detect::{self, Detected},
    error::Result,
    host::Host,
    options::Options,
    txn::Store,
};

pub use install::{Outcome, install, plan, plan_install};
pub use rollback::{plan_rollback, rollback};
pub use stands::stands;
pub use uninstall::{plan_uninstall, uninstall};
pub use verify::verify;

/// What every operation works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The host.
    pub host: Host,
    /// The options.
    pub options: Options,
    /// The installer's records.
    pub store: Store,
}

impl Context {
    /// A context of these options.
    pub fn new(options: Options) -> Self {
        let host = Host::new(&options.host_root);
        Self::on(host, options)
    }

    /// A context on a host of one's own making.
    pub fn on(host: Host, options: Options) -> Self {
        Self {
            store: Store::new(&host, &options.records()),
            host,
            options,
        }
    }

    /// Finds out what the host is.
    ///
    /// # Errors
    /// As [`detect::detect`].
    pub async fn detect(&self) -> Result<Detected> {
        detect::detect(&self.host, &self.options).await
    }

    /// A connection to the host's containerd.
    ///
    /// # Errors
    /// As [`Cri::new`].
    pub fn cri(&self, detected: &Detected) -> Result<Cri> {
        Cri::new(&self.host, &detected.socket)
    }

    /// The file whose SELinux label the shim gets.
    fn label_from(&self, detected: &Detected) -> Option<std::path::PathBuf> {
        self.host.path(Path::new(&detected.program.path)).ok()
    }
}
