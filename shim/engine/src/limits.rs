//! The limits of one store.

use wasmtime::ResourceLimiter;

/// Bounds what all linear memories of a store hold together.
///
/// Wasmtime's own `StoreLimits` bounds each memory by itself, which a component with several memories multiplies.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    max: Option<usize>,
    used: usize,
    /// What the last permitted growth added, to be taken back where the growth itself then failed.
    last_growth: usize,
}

impl MemoryLimit {
    pub(crate) fn new(max_bytes: Option<u64>) -> Self {
        // A bound above the address space is no bound.
        let max = max_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        Self {
            max,
            used: 0,
            last_growth: 0,
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let total = self.used.saturating_add(growth);
        if maximum.is_some_and(|maximum| desired > maximum) || self.max.is_some_and(|max| total > max) {
            self.last_growth = 0;
            return Ok(false);
        }
        self.used = total;
        self.last_growth = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used -= std::mem::take(&mut self.last_growth);
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_a_store_share_one_limit() {
        let mut limit = MemoryLimit::new(Some(100));
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(!limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(60, 100, None).unwrap());
        assert!(!limit.memory_growing(100, 101, None).unwrap());
    }

    #[test]
    fn a_growth_that_failed_after_all_is_given_back() {
        let mut limit = MemoryLimit::new(Some(100));
        assert!(limit.memory_growing(0, 100, None).unwrap());
        limit.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert!(limit.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn without_a_limit_only_the_memory_s_own_maximum_counts() {
        let mut limit = MemoryLimit::new(None);
        assert!(limit.memory_growing(0, 1 << 30, None).unwrap());
        assert!(!limit.memory_growing(0, 11, Some(10)).unwrap());
    }
}
