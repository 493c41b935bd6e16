//! The streams of HTTP/2 connections: each is a task, which can be ended whatever it waits for.

use hyper::rt::Executor;
use std::sync::Arc;
use tokio::sync::Notify;

tokio::task_local! {
    /// Ends the stream whose task this is.
    static END: Arc<Notify>;
}

/// What ends the stream of HTTP/2 that the current task is, if it is one.
pub(in crate::http) fn current() -> Option<Arc<Notify>> {
    END.try_with(Arc::clone).ok()
}

/// Runs streams.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let end = Arc::new(Notify::new());
        let ended = Arc::clone(&end);
        tokio::spawn(END.scope(end, async move {
            tokio::select! {
                biased;
                () = stream => {}
                // Dropping the stream resets it, for which hyper has no call: while it waits for room in the client's
                // window it looks at nothing else.
                () = ended.notified() => {}
            }
        }));
    }
}
