//! The container's root file system: what is made in it, hidden in it, and how it becomes the root.

pub mod devices;
pub mod hidden;
pub mod pivot;
pub mod sysctls;
pub mod terminal;
pub mod tree;
