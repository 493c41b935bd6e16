//! All connections of a server, of which there are only so many.

use super::{Cause, Connection};
use crate::exit;
use crate::http::limits::HttpLimits;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Between two looks for a connection that may make room.
const RETRY: Duration = Duration::from_millis(100);

/// The connections that are open.
pub(in crate::http) struct Connections {
    places: Arc<Semaphore>,
    count: u32,
    open: Mutex<Open>,
    full: AtomicBool,
}

#[derive(Default)]
struct Open {
    by_number: HashMap<u64, Arc<Connection>>,
    next: u64,
}

impl Connections {
    /// Room for so many connections.
    pub(in crate::http) fn new(count: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(count as usize)),
            count,
            open: Mutex::default(),
            full: AtomicBool::new(false),
        }
    }

    /// Waits for a place; the connection that has waited longest for its client makes room.
    pub(in crate::http) async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return place;
            }
            if !self.make_room() && !self.full.swap(true, Ordering::Relaxed) {
                exit::print(&format!(
                    "all {} connections are in use, new ones wait: raise max_connections if that is too few",
                    self.count
                ));
            }
            let place = Arc::clone(&self.places).acquire_owned();
            if let Ok(Ok(place)) = tokio::time::timeout(RETRY, place).await {
                return place;
            }
        }
    }

    /// Has the connection closed that has waited longest for its client, if one has.
    pub(in crate::http) fn make_room(&self) -> bool {
        let now = Instant::now();
        let open = self.open();
        let waiting = open.by_number.values();
        let waiting = waiting.filter_map(|connection| Some((connection.waits_since(now)?, connection)));
        match waiting.min_by_key(|(since, _)| *since) {
            Some((_, connection)) => {
                connection.close();
                true
            }
            None => false,
        }
    }

    /// Ends the request that has waited longest for its client, if one has.
    pub(in crate::http) fn end_longest_wait(&self) -> bool {
        let now = Instant::now();
        let open = self.open();
        let waiting = open
            .by_number
            .values()
            .filter_map(|connection| connection.longest_wait(now));
        match waiting.max_by_key(|(waited, _)| *waited) {
            Some((_, exchange)) => {
                exchange.cancel(Cause::Room);
                true
            }
            None => false,
        }
    }

    /// Opens a connection in a place.
    pub(in crate::http) fn open_in(self: &Arc<Self>, place: OwnedSemaphorePermit, limits: &Arc<HttpLimits>) -> Member {
        let connection = Arc::new(Connection::new(Arc::clone(limits)));
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, Arc::clone(&connection));
        Member {
            connection,
            all: Arc::clone(self),
            number,
            _place: place,
        }
    }

    /// Has all connections finish what they have begun, and waits until they have.
    pub(in crate::http) async fn drain(&self) {
        for connection in self.open().by_number.values() {
            connection.drain();
        }
        // An error means a closed semaphore, and this one is never closed.
        let _ = self.places.acquire_many(self.count).await;
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in its place, until it is dropped.
pub(in crate::http) struct Member {
    pub(in crate::http) connection: Arc<Connection>,
    all: Arc<Connections>,
    number: u64,
    _place: OwnedSemaphorePermit,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.all.open().by_number.remove(&self.number);
    }
}
