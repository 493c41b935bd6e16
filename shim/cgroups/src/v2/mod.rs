//! Cgroup v2: a container has one directory, and a program that guards its devices.
//! Source: kernel `Documentation/admin-guide/cgroup-v2.rst`.

mod devices;
mod limits;
mod manager;

pub use manager::Manager;
pub use upstream::v2::util;
