//! What the tests share.
//!
//! - [`api`]: looking at objects without a process for each look
//! - [`cluster`]: the cluster as `integration/cluster/*` left it
//! - [`kubectl`]: `kubectl`, and looking again until a deadline
//! - [`namespace`]: a test's own namespace, and what users do in one
//! - [`manifest`]: files of `integration/cluster/manifests` with names put in
//! - [`subject`]: the same test with Wasm, with a Linux program, and with runc

mod api;
mod cluster;
mod kubectl;
mod manifest;
mod namespace;
mod subject;

pub use cluster::Cluster;
pub use kubectl::{Answer, LONG, SOON, run, until};
pub use namespace::Namespace;
pub use subject::Subject;
pub(crate) use subject::{of_each, of_wasm};
pub use tandem_integration::{Error, Result};

/// A failed test's reason.
pub fn wrong<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::Setup(reason.into()))
}
