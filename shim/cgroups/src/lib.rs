//! A container's cgroups: created, joined, limited, frozen, ended, removed; cgroup v1, hybrid and v2, by plain files or
//! through systemd.
//!
//! `shim/confine` and the shim call it. The crate is named `libcgroups` because libcontainer asks for one of that name, for
//! which the workspace's `[patch]` puts this one. It is not the original, because all of it is done while somebody waits for
//! the container, and because it is a border of the sandbox:
//!
//! - the original moves the process by a write to `cgroup.procs`, which may wait for an RCU grace period, 5 to 15 ms.
//!   On cgroup v1 a process with one thread moves by a write to `tasks`, which does not ([`v1`]);
//! - it reads the mount table and mounts a procfs of its own twice for each of twelve v1 controllers: 2 ms;
//! - on cgroup v2 it guards devices only when built with libbpf and libelf; here it is a dozen instructions and two
//!   system calls ([`v2`]).
//!
//! Limits, their order, the meaning of 0 and -1, and the devices that are always allowed are runc's. Of the original
//! remain the client of systemd and the statistics for libcontainer's own use.

pub mod common;
mod device_rules;
mod error;
mod setting;
mod systemd;
pub mod tree;
pub mod v1;
pub mod v2;

pub use error::Error;
pub use nix::unistd::Pid;
pub use upstream::stats;
