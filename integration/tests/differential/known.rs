//! What differs from runc on purpose, or for want of something else than a mending. Each row has its reason, and stands
//! in docs/conformance.md. Names are patterns, in which `*` stands for anything.

use std::path::Path;

/// A difference that may be.
pub struct Known {
    /// Names of specs.
    pub case: &'static str,
    /// Names of fields.
    pub field: &'static str,
    /// `linux`, `wasm`, or `*`.
    pub subject: &'static str,
    /// On which machines.
    pub on: On,
    /// What differs, and why.
    pub reason: &'static str,
}

/// Where a difference can occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "which ones are used is a matter of the table")]
pub enum On {
    Everywhere,
    CgroupV1,
    CgroupV2,
}

impl Known {
    /// Whether it is to be expected on this machine.
    pub fn applies(&self) -> bool {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        match self.on {
            On::Everywhere => true,
            On::CgroupV1 => !unified,
            On::CgroupV2 => unified,
        }
    }
}

/// The table.
pub const KNOWN: &[Known] = &[];
