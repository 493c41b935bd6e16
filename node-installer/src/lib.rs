//! Tandem's node installer: makes a Kubernetes node run Tandem, verifies that it does, and takes it away again.
//!
//! It edits the configuration of the daemon that all the node's pods hang on. So nothing is written before the host's
//! own containerd has judged the result ([`plan`]), everything that is written can be undone from whatever point a
//! crash leaves ([`txn`]), and no pod is sent to the node before one has run on it ([`cri`]).
//!
//! ```text
//! detect ──> plan ──> apply ──> restart ──> verify ──> commit ──> publish
//!    │         │        └──────────┴──────────┴── any failure ──> undo, restart if it had been
//!    └ refuse  └ refuse, nothing written
//! ```

pub mod agent;
pub mod cli;
pub mod containerd;
pub mod cri;
pub mod detect;
pub mod error;
pub mod host;
pub mod kubernetes;
pub mod ops;
pub mod options;
pub mod plan;
pub mod selinux;
pub mod service;
pub mod txn;

pub use error::{Error, Result};
pub use host::Host;
pub use options::Options;
