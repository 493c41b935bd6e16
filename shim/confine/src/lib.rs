//! Confinement: from an OCI spec to a process in its namespaces, cgroups and root file system, as its user, with its
//! capabilities and its filter, and nothing else.
//!
//! There is one order of steps for a container's first process ([`create()`], `init.rs`) and one for a process that is
//! executed later ([`exec()`]), which share everything that makes a process one of the container's (`process/`). Each step
//! is a file, and each error names the object it is about. The image, and whoever shares a volume with the container, are
//! hostile: in their trees nothing is opened by a path from outside ([`root::tree`]), and mounts are made, changed and
//! attached by descriptors ([`sys::mount`]).
//!
//! What runs in the end is a [`Program`]: it gets ready *inside*, when the process has no rights left but the
//! container's, so that nothing of the image is read or loaded with more.

pub mod cgroups;
mod create;
pub mod error;
mod exec;
mod gate;
pub mod hooks;
pub mod idmap;
mod init;
pub mod line;
pub mod mounts;
pub mod namespaces;
pub mod process;
mod program;
pub mod root;
pub mod sys;
mod unready;

pub use create::{Created, NewContainer, create};
pub use error::{Class, Error, Result};
pub use exec::{Executed, NewProcess, exec};
pub use gate::{Gate, Waiting};
pub use program::{Answer, Confined, Program, Question};
