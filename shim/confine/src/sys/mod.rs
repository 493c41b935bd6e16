//! System calls that no crate offers safely, each with the argument why the call is sound.

pub mod clone;
pub mod descriptors;
pub mod loopback;
pub mod mount;
