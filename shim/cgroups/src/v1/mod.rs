//! Cgroup v1: a container has a directory in each controller's hierarchy.
//! Source: kernel `Documentation/admin-guide/cgroup-v1/`.

mod devices;
pub(crate) mod freezer;
mod hierarchy;
mod join;
mod limits;
mod manager;

pub use manager::Manager;
pub use upstream::v1::util;
