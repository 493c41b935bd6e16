//! What one compilation may cost.

use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Bounds on what is read, compiled and written for one module.
///
/// The defaults leave room for the largest components in use (Python and JavaScript runtimes, 18 to 40 MB) on two
/// cores, and keep a hostile module below what a node notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest binary module or component, in bytes.
    pub module_bytes: u64,
    /// Largest module in text format, in bytes.
    pub text_bytes: u64,
    /// Size of the compiled code that a module of no size may have, in bytes.
    pub artifact_base: u64,
    /// Size that it may have on top for each byte of the module, in bytes.
    pub artifact_per_byte: u64,
    /// Size of the compiled code of any module, in bytes.
    pub artifact_bytes: u64,
    /// Memory that the compiler may use for a module of no size, in bytes.
    pub memory_base: u64,
    /// Memory that the compiler may use on top for each byte of the module, in bytes.
    pub memory_per_byte: u64,
    /// Memory that the compiler may use for any module, in bytes.
    pub memory_max: u64,
    /// CPU time of the compiler, over all of its threads; rounded up to whole seconds.
    pub cpu: Duration,
    /// Wall-clock time from the start of the compiler to its end: more than its CPU time, since a node may have little of
    /// that to spare. Likewise of a wait for another process that compiles the same module.
    pub wall: Duration,
    /// Threads of the compiler; never more than there are CPUs to run on.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            module_bytes: 512 * MIB,
            text_bytes: 16 * MIB,
            // Real modules have three to eight bytes of code and its tables for each of theirs.
            artifact_base: 4 * MIB,
            artifact_per_byte: 64,
            artifact_bytes: 2048 * MIB,
            memory_base: 1024 * MIB,
            memory_per_byte: 64,
            memory_max: 4096 * MIB,
            cpu: Duration::from_secs(120),
            wall: Duration::from_secs(300),
            threads: 8,
        }
    }
}

impl Limits {
    /// The largest compiled code of a module of `size` bytes.
    pub(crate) fn artifact_for(&self, size: u64) -> u64 {
        self.artifact_base
            .saturating_add(size.saturating_mul(self.artifact_per_byte))
            .min(self.artifact_bytes)
    }

    /// The compiler's memory for a module of `size` bytes.
    pub(crate) fn memory_for(&self, size: u64) -> u64 {
        self.memory_base
            .saturating_add(size.saturating_mul(self.memory_per_byte))
            .min(self.memory_max)
    }

    /// How many threads the compiler gets here.
    pub(crate) fn threads_here(&self) -> usize {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.clamp(1, cpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_the_module_up_to_the_maximum() {
        let limits = Limits::default();
        assert_eq!(limits.memory_for(0), 1024 * MIB);
        assert_eq!(limits.memory_for(1 << 20), 1088 * MIB);
        assert_eq!(limits.memory_for(u64::MAX), limits.memory_max);
    }

    #[test]
    fn a_tiny_module_cannot_have_much_code() {
        let limits = Limits::default();
        assert_eq!(limits.artifact_for(368), 4 * MIB + 368 * 64);
        assert_eq!(limits.artifact_for(u64::MAX), limits.artifact_bytes);
    }

    #[test]
    fn there_is_always_one_thread_and_never_more_than_asked() {
        assert_eq!(
            Limits {
                threads: 0,
                ..Limits::default()
            }
            .threads_here(),
            1
        );
        assert_eq!(
            Limits {
                threads: 1,
                ..Limits::default()
            }
            .threads_here(),
            1
        );
    }
}
