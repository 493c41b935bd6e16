//! One request and its answer: whom they wait for, and whether they were given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Why an exchange was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::http) enum Cause {
    /// It took longer than a request may.
    Deadline = 1,
    /// Its client does not take the answer.
    Stalled = 2,
    /// It waited for its client while others waited for its place.
    Room = 3,
}

impl Cause {
    fn of(number: u8) -> Option<Self> {
        [Cause::Deadline, Cause::Stalled, Cause::Room]
            .into_iter()
            .find(|cause| *cause as u8 == number)
    }
}

/// A request, from its head to the last byte of its answer.
pub(in crate::http) struct Exchange {
    /// Method and path, for messages.
    pub(in crate::http) name: String,
    pub(in crate::http) started: Instant,
    /// The guest wants more of the request's body.
    pub(in crate::http) reading: Wait,
    /// There is more of the answer than the client takes.
    pub(in crate::http) writing: Wait,
    failed: AtomicBool,
    cause: AtomicU8,
    answered: AtomicBool,
    left: AtomicBool,
    changed: Notify,
    /// Ends the stream of HTTP/2 that this is, whatever that is doing.
    stream: Option<Arc<Notify>>,
}

impl Exchange {
    pub(in crate::http) fn new(name: String, stream: Option<Arc<Notify>>) -> Self {
        Self {
            name,
            started: Instant::now(),
            reading: Wait::default(),
            writing: Wait::default(),
            failed: AtomicBool::new(false),
            cause: AtomicU8::new(0),
            answered: AtomicBool::new(false),
            left: AtomicBool::new(false),
            changed: Notify::new(),
            stream,
        }
    }

    /// How long it has been waiting for its client.
    pub(in crate::http) fn waited(&self, now: Instant) -> Option<Duration> {
        self.reading.waited(now).max(self.writing.waited(now))
    }

    /// Gives it up. The first cause counts.
    pub(in crate::http) fn cancel(&self, cause: Cause) {
        self.fail();
        let _ = self
            .cause
            .compare_exchange(0, cause as u8, Ordering::AcqRel, Ordering::Acquire);
        self.changed.notify_waiters();
        // A guest that took too long may still be answered for; a client that does not listen cannot.
        if let (Cause::Stalled | Cause::Room, Some(stream)) = (cause, &self.stream) {
            stream.notify_one();
        }
    }

    pub(in crate::http) fn is_cancelled(&self) -> bool {
        self.cause.load(Ordering::Acquire) != 0
    }

    /// Waits until it is given up.
    pub(in crate::http) async fn cancelled(&self) -> Cause {
        self.until(|| Cause::of(self.cause.load(Ordering::Acquire))).await
    }

    /// Says that the client has the whole answer.
    pub(in crate::http) fn answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub(in crate::http) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Whether it is a stream of HTTP/2, beside others on its connection.
    pub(in crate::http) fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Says that nobody waits for the guest any more.
    pub(in crate::http) fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits for that.
    pub(in crate::http) async fn left(&self) {
        self.until(|| self.left.load(Ordering::Acquire).then_some(())).await;
    }

    /// Says that the guest failed. Must come before its end of the body is dropped.
    pub(in crate::http) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(in crate::http) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    async fn until<T>(&self, is: impl Fn() -> Option<T>) -> T {
        loop {
            // Made before the look, so that a change in between wakes it.
            let changed = self.changed.notified();
            if let Some(value) = is() {
                return value;
            }
            changed.await;
        }
    }
}

/// The time that the server waits for its client, and what the client does in it. Time in which the server is busy itself
/// does not count.
#[derive(Default)]
pub(in crate::http) struct Wait(Mutex<Window>);

#[derive(Default)]
struct Window {
    since: Option<Instant>,
    /// The time waited before `since`.
    before: Duration,
    moved: u64,
}

impl Wait {
    /// The client is waited for from now on, if not before.
    pub(in crate::http) fn begin(&self) {
        self.window().since.get_or_insert_with(Instant::now);
    }

    /// The client has moved `bytes`. Once that is `enough`, its time begins anew.
    pub(in crate::http) fn moved(&self, bytes: usize, enough: u64) {
        let mut window = self.window();
        if let Some(since) = window.since.take() {
            window.before += since.elapsed();
        }
        window.moved = window.moved.saturating_add(bytes as u64);
        if window.moved >= enough {
            *window = Window::default();
        }
    }

    /// Nothing more is wanted of the client.
    pub(in crate::http) fn end(&self) {
        *self.window() = Window::default();
    }

    /// How long it was waited for, if it is now.
    pub(in crate::http) fn waited(&self, now: Instant) -> Option<Duration> {
        let window = self.window();
        let since = window.since?;
        Some(window.before + now.saturating_duration_since(since))
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: u64 = 100;

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_drop_at_a_time_does_not_buy_time_and_enough_bytes_do() {
        let wait = Wait::default();
        wait.begin();
        wait.window().before = Duration::from_secs(20);
        wait.moved(1, ENOUGH);
        wait.begin();
        assert!(wait.waited(later(10)).unwrap() >= Duration::from_secs(29));
        wait.moved(99, ENOUGH);
        wait.begin();
        assert!(wait.waited(later(10)).unwrap() <= Duration::from_secs(11));
    }

    #[test]
    fn a_client_is_not_to_blame_while_nobody_waits_for_it() {
        let wait = Wait::default();
        assert_eq!(wait.waited(later(99)), None);
        wait.begin();
        wait.moved(1, ENOUGH);
        assert_eq!(wait.waited(later(99)), None);
    }

    #[tokio::test]
    async fn who_waits_for_the_end_is_woken_by_it_and_the_first_cause_counts() {
        let exchange = Arc::new(Exchange::new("GET /".into(), None));
        let other = Arc::clone(&exchange);
        let waiting = tokio::spawn(async move { other.cancelled().await });
        tokio::task::yield_now().await;
        exchange.cancel(Cause::Room);
        exchange.cancel(Cause::Deadline);
        assert_eq!(waiting.await.unwrap(), Cause::Room);
        assert!(exchange.has_failed());
    }
}
