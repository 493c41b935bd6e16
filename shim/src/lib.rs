//! The Tandem shim: WebAssembly and Linux containers side by side under containerd.
//!
//! Read in the order of a container's life: [`cli`] and [`bootstrap`] (containerd executes the binary), [`binary`]
//! (which goes out of every container's reach), [`daemon`] (the shim's processes), [`service`] (the calls), [`bundle`], [`options`], [`entry`], [`rootfs`]
//! and [`stdio`] (what Create has to find out and set up), [`zygote`] (the fork, the confinement, the guest),
//! [`cgroup`] and [`cleanup`] (what is measured and what is taken away), [`events`] (what containerd is told),
//! [`lock`] (what the shims of a node share).

pub mod binary;
pub mod bootstrap;
pub mod bundle;
pub mod cgroup;
pub mod cleanup;
pub mod cli;
pub mod daemon;
pub mod entry;
pub mod events;
pub mod fault;
pub mod guest;
pub mod lock;
pub mod logging;
pub mod memory;
pub mod node_config;
pub mod options;
pub mod paths;
pub mod rootfs;
pub mod service;
pub mod stdio;
#[cfg(test)]
mod testing;
pub mod zygote;
