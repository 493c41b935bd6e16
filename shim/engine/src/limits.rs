//! How much linear memory a guest may have.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

/// What all linear memories of a guest may hold together, in bytes; `memory.grow` fails in the guest beyond it.
///
/// The limit is asked for at each growth, because it may change while the guest runs, and it is one for the whole
/// process: an HTTP server has an instance for each request, and all of them are one container.
#[derive(Clone)]
pub struct MemoryBudget {
    limit: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    used: Arc<AtomicUsize>,
}

impl MemoryBudget {
    /// A budget whose limit `limit` tells; none is no limit.
    pub fn new(limit: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Self {
            limit: Arc::new(limit),
            used: Arc::default(),
        }
    }

    /// A budget without a limit.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(|| None)
    }

    fn take(&self, bytes: usize) -> bool {
        // A limit above the address space is no limit.
        let limit = (self.limit)().and_then(|limit| usize::try_from(limit).ok());
        let fits = |used: usize| {
            let sum = used.checked_add(bytes)?;
            limit.is_none_or(|limit| sum <= limit).then_some(sum)
        };
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit", &(self.limit)())
            .field("used", &self.used)
            .finish()
    }
}

/// One store's part of the budget; what it took is given back when it goes.
///
/// Wasmtime's own `StoreLimits` bounds each memory by itself, which a component with several memories multiplies.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    budget: MemoryBudget,
    used: usize,
    /// What the last permitted growth added, to be taken back where the growth itself then failed.
    last_growth: usize,
}

impl MemoryLimit {
    pub(crate) fn new(budget: &MemoryBudget) -> Self {
        Self {
            budget: budget.clone(),
            used: 0,
            last_growth: 0,
        }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.budget.give_back(self.used);
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        if maximum.is_some_and(|maximum| desired > maximum) || !self.budget.take(growth) {
            self.last_growth = 0;
            return Ok(false);
        }
        self.used += growth;
        self.last_growth = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let growth = std::mem::take(&mut self.last_growth);
        self.used -= growth;
        self.budget.give_back(growth);
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn limit(bytes: u64) -> MemoryLimit {
        MemoryLimit::new(&MemoryBudget::new(move || Some(bytes)))
    }

    #[test]
    fn memories_of_a_store_share_one_limit() {
        let mut limit = limit(100);
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(!limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(60, 100, None).unwrap());
        assert!(!limit.memory_growing(100, 101, None).unwrap());
    }

    #[test]
    fn stores_of_a_process_share_one_budget_and_a_store_that_goes_gives_back() {
        let budget = MemoryBudget::new(|| Some(100));
        let mut first = MemoryLimit::new(&budget);
        let mut second = MemoryLimit::new(&budget);
        assert!(first.memory_growing(0, 60, None).unwrap());
        assert!(!second.memory_growing(0, 60, None).unwrap());
        drop(first);
        assert!(second.memory_growing(0, 60, None).unwrap());
    }

    #[test]
    fn a_limit_that_was_raised_holds_for_the_next_growth() {
        let bytes = Arc::new(AtomicU64::new(10));
        let current = Arc::clone(&bytes);
        let mut limit = MemoryLimit::new(&MemoryBudget::new(move || Some(current.load(Ordering::Relaxed))));
        assert!(!limit.memory_growing(0, 20, None).unwrap());
        bytes.store(20, Ordering::Relaxed);
        assert!(limit.memory_growing(0, 20, None).unwrap());
    }

    #[test]
    fn a_growth_that_failed_after_all_is_given_back() {
        let mut limit = limit(100);
        assert!(limit.memory_growing(0, 100, None).unwrap());
        limit.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert!(limit.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn without_a_limit_only_the_memory_s_own_maximum_counts() {
        let mut limit = MemoryLimit::new(&MemoryBudget::unlimited());
        assert!(limit.memory_growing(0, 1 << 30, None).unwrap());
        assert!(!limit.memory_growing(0, 11, Some(10)).unwrap());
    }
}
