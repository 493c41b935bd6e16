//! How long the harness waits for anything: a hang must become a failed test, never a hung run.

use std::{future::Future, time::Duration};

use crate::{Error, Result};

/// containerd's first answer after its start. It boots in 0.1 s; the rest is for a loaded machine.
pub const BOOT: Duration = Duration::from_secs(60);
/// Any single call. First starts compile modules, so this is not the place to measure latency.
pub const CALL: Duration = Duration::from_secs(60);
/// The end of a container after its start or its kill.
pub const EXIT: Duration = Duration::from_secs(60);
/// Something that follows at once from something done: an event, the last output, the disappearance of a process. On a
/// machine that is busy with other tests, at once may be seconds.
pub const SOON: Duration = Duration::from_secs(30);
/// Pause between two looks at a thing that is polled.
pub const POLL: Duration = Duration::from_millis(10);

/// Waits for `future`, at most `limit`; `what` names in the error what did not happen.
///
/// # Errors
/// [`Error::Deadline`] after `limit`.
pub async fn within<T>(what: impl Into<String>, limit: Duration, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, future).await.map_err(|_| Error::Deadline {
        what: what.into(),
        after: limit,
    })
}

/// Asks `probe` until it answers, at most `limit`; `what` names in the error what did not happen.
///
/// # Errors
/// [`Error::Deadline`] after `limit`.
pub async fn until<T>(what: impl Into<String>, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    within(what, limit, async {
        loop {
            if let Some(found) = probe() {
                return found;
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .await
}
