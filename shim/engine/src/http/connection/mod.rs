//! One connection: its requests, and the watch over it.
//!
//! Hyper's own timer for heads does not tell a connection that waits for its next request from one in the middle of a
//! head, and sets a clock for each request. Here each connection has one alarm, which rings at most as often as the
//! shortest of the limits; only then does anybody look at what the client has been doing.

mod all;
mod exchange;
mod io;
mod streams;

pub(super) use all::Connections;
pub(super) use exchange::{Cause, Exchange};
pub(super) use streams::{Streams, current as current_stream};

use super::limits::{HttpLimits, limit};
use super::request::Handler;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use io::{Traffic, Watched};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// How long a connection must have waited for its client before it makes room for another one.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two looks at a connection without limits.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// What a connection is told from outside. A later one replaces an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Order {
    /// Finish what was begun.
    Drain = 1,
    /// Close at once.
    Close = 2,
}

/// What others may know of a connection.
pub(super) struct Connection {
    traffic: Traffic,
    limits: Arc<HttpLimits>,
    requests: Mutex<Requests>,
    order: AtomicU8,
    ordered: Notify,
}

struct Requests {
    /// Those that have begun and not ended.
    open: Vec<Arc<Exchange>>,
    /// Since when there is none; of old where there is one.
    idle_since: Instant,
    total: u64,
    /// Those whose client went away before it had the whole answer.
    taken_back: u64,
}

/// What a look at a connection has found.
enum Finding {
    /// All is well until then.
    Fine(Instant),
    /// It has been without a request for long enough.
    Idle,
    /// Its client had its time, or it was ordered.
    Over,
}

impl Connection {
    pub(super) fn new(limits: Arc<HttpLimits>) -> Self {
        Self {
            traffic: Traffic::default(),
            limits,
            requests: Mutex::new(Requests {
                open: Vec::new(),
                idle_since: Instant::now(),
                total: 0,
                taken_back: 0,
            }),
            order: AtomicU8::new(0),
            ordered: Notify::new(),
        }
    }

    pub(super) fn enough_bytes(&self) -> u64 {
        self.limits.enough_bytes()
    }

    /// A request begins; it ends when what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>, exchange: Exchange) -> Attached {
        let exchange = Arc::new(exchange);
        self.traffic.head.end();
        let mut requests = self.requests();
        requests.total += 1;
        requests.open.push(Arc::clone(&exchange));
        Attached {
            connection: Arc::clone(self),
            exchange,
        }
    }

    fn end(&self, exchange: &Arc<Exchange>) {
        exchange.leave();
        self.traffic.head.end();
        let mut requests = self.requests();
        if let Some(at) = requests.open.iter().position(|open| Arc::ptr_eq(open, exchange)) {
            requests.open.swap_remove(at);
        }
        if requests.open.is_empty() {
            requests.idle_since = Instant::now();
        }
        if !exchange.is_answered() && !exchange.is_cancelled() {
            requests.taken_back += 1;
        }
        let floods = self.traffic.is_http2()
            && requests.taken_back > u64::from(self.limits.max_resets.get())
            && requests.taken_back > requests.total / 2;
        drop(requests);
        if floods {
            self.close();
        }
    }

    /// Has the requests finished that have begun, then closes.
    pub(super) fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Closes it now.
    pub(super) fn close(&self) {
        self.order(Order::Close);
    }

    fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.ordered.notify_one();
    }

    fn is_ordered(&self, order: Order) -> bool {
        self.order.load(Ordering::Acquire) >= order as u8
    }

    /// Since when it waits for its client, and for nothing else, if that is long enough to make room for another one.
    pub(super) fn waits_since(&self, now: Instant) -> Option<Instant> {
        if self.is_ordered(Order::Close) {
            return None;
        }
        let requests = self.requests();
        let since = match self.traffic.writing.waited(now) {
            Some(waited) => now.checked_sub(waited)?,
            None if requests.open.is_empty() => requests.idle_since,
            None => {
                let waited = requests.open.iter().map(|exchange| exchange.waited(now));
                let shortest = waited.collect::<Option<Vec<_>>>()?.into_iter().min()?;
                now.checked_sub(shortest)?
            }
        };
        (now.saturating_duration_since(since) >= PATIENCE).then_some(since)
    }

    /// Of its requests the one that has waited longest for its client, and how long.
    pub(super) fn longest_wait(&self, now: Instant) -> Option<(Duration, Arc<Exchange>)> {
        let requests = self.requests();
        let open = requests.open.iter().filter(|exchange| !exchange.is_cancelled());
        // HTTP/1 writes one answer at a time, so that the socket tells of it.
        let writing = self.traffic.writing.waited(now).filter(|_| !self.traffic.is_http2());
        let waiting = open.filter_map(|exchange| Some((exchange.waited(now).max(writing)?, exchange)));
        let longest = waiting.max_by_key(|(waited, _)| *waited)?;
        (longest.0 >= PATIENCE).then(|| (longest.0, Arc::clone(longest.1)))
    }

    /// Since when there is no request; none if there is one.
    fn idle_since(&self) -> Option<Instant> {
        let requests = self.requests();
        requests.open.is_empty().then_some(requests.idle_since)
    }

    /// Whether there is something that its client was to take.
    fn is_busy(&self) -> bool {
        self.traffic.writing.waited(Instant::now()).is_some() || !self.requests().open.is_empty()
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what the client has been doing, and gives up the requests that took too long.
    fn look(&self, now: Instant) -> Finding {
        if self.is_ordered(Order::Close) {
            return Finding::Over;
        }
        let limits = &*self.limits;
        let mut next = now + limits.shortest().unwrap_or(LONG);
        // Whether a time is over; if it is not, the next look is at its end.
        let mut over = |waited: Option<Duration>, time: Duration| match (waited, limit(time)) {
            (Some(waited), Some(time)) if waited >= time => true,
            (Some(waited), Some(time)) => {
                next = next.min(now + (time - waited));
                false
            }
            _ => false,
        };
        if over(self.traffic.writing.waited(now), limits.body_timeout) {
            return Finding::Over;
        }
        let requests = self.requests();
        for exchange in &requests.open {
            if over(
                Some(now.saturating_duration_since(exchange.started)),
                limits.request_timeout,
            ) {
                exchange.cancel(Cause::Deadline);
            }
            if over(exchange.writing.waited(now), limits.body_timeout) {
                exchange.cancel(Cause::Stalled);
            }
        }
        if requests.open.is_empty() {
            let idle = Some(now.saturating_duration_since(requests.idle_since));
            let head = self.traffic.head.waited(now);
            let begun = self.traffic.has_begun();
            if !begun && over(idle, limits.handshake_timeout) {
                return Finding::Over;
            }
            if !self.traffic.is_http2() && over(head, limits.header_timeout) {
                return Finding::Over;
            }
            if begun && over(idle, limits.idle_timeout) {
                return Finding::Idle;
            }
        }
        Finding::Fine(next)
    }
}

/// A request that belongs to a connection.
pub(super) struct Attached {
    connection: Arc<Connection>,
    exchange: Arc<Exchange>,
}

impl Attached {
    pub(super) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    pub(super) fn enough_bytes(&self) -> u64 {
        self.connection.enough_bytes()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.connection.end(&self.exchange);
    }
}

/// Serves a connection until its end, which its client, an order, or a limit brings.
///
/// Errors of a connection are its client's: it went away, or does not speak HTTP. There is nobody to tell.
pub(super) async fn serve(
    connection: Arc<Connection>,
    stream: TcpStream,
    protocols: Arc<auto::Builder<Streams>>,
    handler: Arc<Handler>,
) {
    let service = service_fn(|request| {
        let (handler, connection) = (Arc::clone(&handler), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(handler.handle(&connection, request).await) }
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&connection)));
    let mut serving = pin!(protocols.serve_connection(io, service));
    let first = connection.limits.shortest().unwrap_or(LONG);
    let mut alarm = pin!(tokio::time::sleep(first));
    let mut ending = None;
    loop {
        tokio::select! {
            biased;
            _ = serving.as_mut() => return,
            () = connection.ordered.notified() => {}
            () = alarm.as_mut() => {}
        }
        let now = Instant::now();
        let (mut next, idle) = match connection.look(now) {
            Finding::Fine(next) => (next, false),
            Finding::Idle => (now + LONG, true),
            Finding::Over => break,
        };
        if ending.is_none() && (idle || connection.is_ordered(Order::Drain)) {
            serving.as_mut().graceful_shutdown();
            ending = Some(now);
        }
        // Hyper has ended it once its client has taken everything, for which that has its time too.
        if let (Some(since), Some(idle_since)) = (ending, connection.idle_since())
            && let Some(time) = limit(connection.limits.body_timeout)
        {
            let last = since.max(idle_since) + time;
            if last <= now {
                break;
            }
            next = next.min(last);
        }
        alarm.as_mut().reset(next.into());
    }
    if connection.is_busy() {
        connection.traffic.reset_on_close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Arc<Connection> {
        Arc::new(Connection::new(Arc::new(HttpLimits::default())))
    }

    fn request(connection: &Arc<Connection>) -> Attached {
        connection.begin(Exchange::new("GET /".into(), None))
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
        let connection = connection();
        assert!(connection.waits_since(Instant::now()).is_none());
        assert!(connection.waits_since(later(1)).is_some());
        let first = request(&connection);
        assert!(connection.waits_since(later(1)).is_none());
        let second = request(&connection);
        first.exchange().reading.begin();
        assert!(connection.waits_since(later(1)).is_none());
        second.exchange().writing.begin();
        assert!(connection.waits_since(later(1)).is_some());
        connection.close();
        assert!(connection.waits_since(later(1)).is_none());
    }

    #[test]
    fn a_request_that_takes_too_long_is_given_up_and_its_connection_is_not() {
        let connection = connection();
        let request = request(&connection);
        assert!(matches!(connection.look(later(299)), Finding::Fine(_)));
        assert!(!request.exchange().is_cancelled());
        assert!(matches!(connection.look(later(301)), Finding::Fine(_)));
        assert!(request.exchange().is_cancelled());
    }

    #[test]
    fn the_next_look_is_at_the_end_of_what_ends_first() {
        let connection = connection();
        let request = request(&connection);
        request.exchange().writing.begin();
        let now = later(25);
        let Finding::Fine(next) = connection.look(now) else {
            panic!("too early")
        };
        assert!(next - now <= Duration::from_secs(5), "{:?}", next - now);
    }

    #[test]
    fn each_phase_of_a_silent_connection_has_its_time() {
        let silent = connection();
        assert!(matches!(silent.look(later(29)), Finding::Fine(_)));
        assert!(matches!(silent.look(later(31)), Finding::Over));
        let idle = connection();
        drop(request(&idle));
        assert!(matches!(idle.look(later(31)), Finding::Over), "no byte has come yet");
    }
}
