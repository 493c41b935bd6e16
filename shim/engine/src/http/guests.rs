//! The guests that run, of which there are only so many, and those among them whose client is gone.

use super::connection::{Cause, Connections, Exchange};
use super::limits::{HttpLimits, limit};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Between two looks for a guest that may make room.
const RETRY: Duration = Duration::from_millis(500);

/// The guests that run.
pub(super) struct Guests {
    places: Arc<Semaphore>,
    limits: Arc<HttpLimits>,
    connections: Arc<Connections>,
    /// Those whose client is gone, the oldest first.
    orphans: Mutex<VecDeque<Arc<Exchange>>>,
}

impl Guests {
    pub(super) fn new(limits: Arc<HttpLimits>, connections: Arc<Connections>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.max_guests.get() as usize)),
            limits,
            connections,
            orphans: Mutex::default(),
        }
    }

    /// Waits until no guest runs.
    pub(super) async fn idle(&self) {
        // An error means a closed semaphore, and this one is never closed.
        let _ = self.places.acquire_many(self.limits.max_guests.get()).await;
    }

    /// A place for one more guest; none if there is no hope of one in time. A guest whose client is gone makes room, or
    /// else the one that has waited longest for its client.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let waiting = self.wait_for_place();
        match limit(self.limits.queue_timeout) {
            Some(time) => tokio::time::timeout(time, waiting).await.ok()?,
            None => waiting.await,
        }
    }

    async fn wait_for_place(&self) -> Option<OwnedSemaphorePermit> {
        // One wait for all looks: it keeps its turn.
        let mut place = std::pin::pin!(Arc::clone(&self.places).acquire_owned());
        loop {
            if !self.end_oldest_orphan() {
                self.connections.end_longest_wait();
            }
            if let Ok(place) = tokio::time::timeout(RETRY, place.as_mut()).await {
                return place.ok();
            }
        }
    }

    fn end_oldest_orphan(&self) -> bool {
        let oldest = self.orphans().pop_front();
        oldest.inspect(|exchange| exchange.cancel(Cause::Room)).is_some()
    }

    /// The client of a guest is gone.
    pub(super) fn orphaned(self: &Arc<Self>, exchange: Arc<Exchange>) -> Orphan {
        let mut orphans = self.orphans();
        orphans.push_back(Arc::clone(&exchange));
        let excess = orphans.len() > self.limits.max_orphans as usize;
        drop(orphans);
        if excess {
            self.end_oldest_orphan();
        }
        Orphan {
            guests: Arc::clone(self),
            exchange,
        }
    }

    fn orphans(&self) -> MutexGuard<'_, VecDeque<Arc<Exchange>>> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest whose client is gone, until it is dropped.
pub(super) struct Orphan {
    guests: Arc<Guests>,
    exchange: Arc<Exchange>,
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let mut orphans = self.guests.orphans();
        if let Some(at) = orphans.iter().position(|orphan| Arc::ptr_eq(orphan, &self.exchange)) {
            orphans.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn guests(max_guests: u32, max_orphans: u32) -> Arc<Guests> {
        let limits = HttpLimits {
            max_guests: NonZeroU32::new(max_guests).unwrap(),
            max_orphans,
            queue_timeout: Duration::from_millis(50),
            ..HttpLimits::default()
        };
        Arc::new(Guests::new(Arc::new(limits), Arc::new(Connections::new(1))))
    }

    fn exchange() -> Arc<Exchange> {
        Arc::new(Exchange::new("GET /".into(), None))
    }

    #[test]
    fn one_orphan_too_many_ends_the_oldest() {
        let guests = guests(9, 2);
        let (ended, others) = (exchange(), [exchange(), exchange(), exchange()]);
        drop(guests.orphaned(Arc::clone(&ended)));
        let _first = guests.orphaned(Arc::clone(&others[0]));
        let _second = guests.orphaned(Arc::clone(&others[1]));
        assert!(!others[0].is_cancelled(), "one has ended by itself");
        let _third = guests.orphaned(Arc::clone(&others[2]));
        assert_eq!(others.map(|exchange| exchange.is_cancelled()), [true, false, false]);
        assert!(!ended.is_cancelled());
    }

    #[tokio::test]
    async fn an_orphan_makes_room_and_without_one_the_wait_has_an_end() {
        let guests = guests(1, 9);
        let place = guests.place().await.unwrap();
        assert!(guests.place().await.is_none());
        let orphan = exchange();
        let _orphan = guests.orphaned(Arc::clone(&orphan));
        let freed = async {
            orphan.cancelled().await;
            drop(place);
        };
        let (waiting, ()) = tokio::join!(guests.place(), freed);
        assert!(waiting.is_some());
    }
}
