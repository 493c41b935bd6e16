//! A container's memory limit as its guest sees it while it runs.
//!
//! The kernel's answer to a container above its limit is to kill it. A guest is better served by a `memory.grow`
//! that fails: so its linear memory is kept some way below the limit. The limit may change at any time (in-place
//! resize), and the container's process sees no cgroup file; so the service writes it into a few bytes of memory
//! that the guest's process shares.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::LinuxResources;
use tandem_engine::MemoryBudget;

/// What a guest's process needs beside linear memory whatever its limit: heap, stacks, buffers.
const PROCESS_BYTES: u64 = 4 << 20;
/// Part of the limit for what grows with linear memory: page tables, and compiled code that is being used.
const SHARE_FOR_KERNEL: u64 = 64;

/// The limit in bytes, shared with the container's process; 0 stands for none.
#[derive(Debug)]
pub struct MemoryCell(File);

impl MemoryCell {
    /// A cell that holds the limit of `resources`.
    pub fn new(resources: Option<&LinuxResources>) -> io::Result<Self> {
        let cell = Self(File::from(memfd_create(c"tandem-memory-limit", MFdFlags::MFD_CLOEXEC)?));
        cell.set(resources.and_then(limit_of))?;
        Ok(cell)
    }

    /// Changes the limit for the guest's next growth.
    pub fn set(&self, limit: Option<u64>) -> io::Result<()> {
        self.0.write_all_at(&limit.unwrap_or(0).to_ne_bytes(), 0)
    }

    /// To hand it to the container's process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn get(&self) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        Some(u64::from_ne_bytes(bytes)).filter(|limit| *limit != 0)
    }
}

/// The budget of a guest whose process was given `cell`.
pub fn budget(cell: OwnedFd) -> MemoryBudget {
    let cell = Arc::new(MemoryCell(cell.into()));
    MemoryBudget::new(move || cell.get().map(for_linear_memory))
}

/// The memory limit that `resources` mention; -1 is none.
pub fn limit_of(resources: &LinuxResources) -> Option<u64> {
    let limit = resources.memory().as_ref()?.limit()?;
    u64::try_from(limit).ok().filter(|limit| *limit != 0)
}

fn for_linear_memory(limit: u64) -> u64 {
    let reserved = PROCESS_BYTES + limit / SHARE_FOR_KERNEL;
    // A tiny container is not left without any.
    limit.saturating_sub(reserved).max(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_memory_stays_below_the_containers_limit_and_above_nothing() {
        assert_eq!(for_linear_memory(64 << 20), 59 << 20);
        assert_eq!(for_linear_memory(4 << 20), 2 << 20);
    }

    #[test]
    fn a_limit_that_changes_is_seen_through_the_shared_descriptor() {
        let resources = serde_json::from_str(r#"{"memory":{"limit":1000}}"#).unwrap();
        let cell = MemoryCell::new(Some(&resources)).unwrap();
        let theirs = MemoryCell(cell.as_fd().try_clone_to_owned().unwrap().into());
        assert_eq!(theirs.get(), Some(1000));
        cell.set(Some(2000)).unwrap();
        assert_eq!(theirs.get(), Some(2000));
        cell.set(None).unwrap();
        assert_eq!(theirs.get(), None);
    }

    #[test]
    fn no_limit_and_minus_one_are_the_same() {
        for json in [
            "{}",
            r#"{"memory":{}}"#,
            r#"{"memory":{"limit":-1}}"#,
            r#"{"memory":{"limit":0}}"#,
        ] {
            assert_eq!(limit_of(&serde_json::from_str(json).unwrap()), None);
        }
    }
}
