//! What one client, or all of them together, may cost a server.

use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;

/// The limits of a server. A client that reaches one loses its own request or connection; the others are served on.
///
/// They are the node's to set, in `[http]` of its configuration, where times are seconds and 0 means no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpLimits {
    /// Open connections. For one more, the connection is closed that has waited longest for its client; where none
    /// waits, the new one waits in the kernel.
    pub max_connections: NonZeroU32,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: NonZeroU32,
    /// Guests at once; more requests wait. Each guest is an instance, whose linear memory reserves up to 8 GiB of
    /// address space: 1024 of them fit well into the 128 TiB that a process has.
    pub max_guests: NonZeroU32,
    /// Guests at once whose client is gone; one more ends the oldest.
    pub max_orphans: u32,
    /// Requests that an HTTP/2 connection may take back before their answer, where they are more than half of its
    /// requests; one more closes it.
    pub max_resets: NonZeroU32,
    /// Time for the first byte of a connection.
    #[serde(with = "seconds")]
    pub handshake_timeout: Duration,
    /// Time from the first byte of a request's head to its last. An HTTP/2 connection has it for its preface.
    #[serde(with = "seconds")]
    pub header_timeout: Duration,
    /// How long a connection may be without a request. Longer than the 60 s after which the usual load balancers drop
    /// an idle connection, so that the drop is not ours: a server that closes first can do so while the next request
    /// is already on its way.
    #[serde(with = "seconds")]
    pub idle_timeout: Duration,
    /// How long a client may keep the server waiting for more of a request's body, or with an answer that it does not
    /// take, until it has moved `min_rate` for that time.
    #[serde(with = "seconds")]
    pub body_timeout: Duration,
    /// Bytes per second that a client must send or take while the server waits for it; 0 asks for one byte in
    /// `body_timeout`.
    pub min_rate: u32,
    /// Time for a whole request, from its head to the end of its answer.
    #[serde(with = "seconds")]
    pub request_timeout: Duration,
    /// How long a request may wait for a guest to be free; then its answer is 503.
    #[serde(with = "seconds")]
    pub queue_timeout: Duration,
    /// How long a guest may go on once nobody waits for it: its client is gone, or has the whole answer.
    #[serde(with = "seconds")]
    pub orphan_grace: Duration,
    /// How long a connection may be silent before its client is asked whether it is still there: by a ping of HTTP/2,
    /// and by one of TCP's.
    #[serde(with = "seconds")]
    pub ping_interval: Duration,
    /// Time for its answer.
    #[serde(with = "seconds")]
    pub ping_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: at_least_one(1024),
            max_streams: at_least_one(100),
            max_guests: at_least_one(1024),
            max_orphans: 64,
            max_resets: at_least_one(100),
            handshake_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            min_rate: 240,
            request_timeout: Duration::from_secs(300),
            queue_timeout: Duration::from_secs(10),
            orphan_grace: Duration::from_secs(30),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

impl HttpLimits {
    /// Bytes that end a client's time of being waited for.
    pub(super) fn enough_bytes(&self) -> u64 {
        (u64::from(self.min_rate) * self.body_timeout.as_secs()).max(1)
    }

    /// The shortest of the times that a connection is watched for: looking this often sees each in time, whatever the
    /// connection has been doing in between.
    pub(super) fn shortest(&self) -> Option<Duration> {
        let watched = [
            self.handshake_timeout,
            self.header_timeout,
            self.idle_timeout,
            self.body_timeout,
            self.request_timeout,
        ];
        watched.into_iter().filter_map(limit).min()
    }
}

/// A time, unless it is no limit.
pub(super) fn limit(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Durations as numbers of seconds.
mod seconds {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    /// More is a mistake, and could not be added to a point in time.
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let time = Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| *time <= LONGEST);
        time.ok_or_else(|| D::Error::custom(format!("{seconds} is not a number of seconds from 0 to a year")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HttpLimits, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(read("{}").unwrap(), HttpLimits::default());
        let limits = read(r#"{"max_streams": 7, "body_timeout": 0.5, "idle_timeout": 5}"#).unwrap();
        assert_eq!(limits.max_streams.get(), 7);
        assert_eq!(limits.body_timeout, Duration::from_millis(500));
        assert_eq!(limits.idle_timeout, Duration::from_secs(5));
        assert_eq!(limits.max_guests, HttpLimits::default().max_guests);
    }

    #[test]
    fn limits_survive_the_way_to_the_guest() {
        let limits = read(r#"{"body_timeout": 0.3, "orphan_grace": 0}"#).unwrap();
        assert_eq!(read(&serde_json::to_string(&limits).unwrap()).unwrap(), limits);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            r#"{"max_connections": 0}"#,
            r#"{"max_streams": -1}"#,
            r#"{"body_timeout": -1}"#,
            r#"{"body_timeout": 1e300}"#,
            r#"{"body_timeout": "1s"}"#,
            r#"{"bodytimeout": 1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_of_zero_is_no_limit_and_does_not_make_the_watch_restless() {
        let off = read(
            r#"{"handshake_timeout": 0, "header_timeout": 0, "idle_timeout": 0, "body_timeout": 0, "request_timeout": 0}"#,
        );
        assert_eq!(off.unwrap().shortest(), None);
        assert_eq!(HttpLimits::default().shortest(), Some(Duration::from_secs(30)));
    }
}
