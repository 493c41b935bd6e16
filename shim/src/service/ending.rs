//! When the shim ends. containerd says Shutdown after each container of a pod, and also when a Delete found nothing
//! because another one was at it: so a Shutdown counts once the calls that change something have come to their end.

use std::sync::PoisonError;

use super::{Service, blocking};
use crate::lock;

/// A call that creates or removes something, for as long as it lasts.
pub struct Call(Service);

impl Service {
    /// Begins a call that the shim must not end in the middle of.
    pub(super) fn begin_call(&self) -> Call {
        self.state.lock().calls += 1;
        Call(self.clone())
    }

    /// Ends the shim, unless it has containers: it is its whole pod's.
    pub(super) async fn end_if_empty(&self) {
        {
            let mut state = self.state.lock();
            if state.calls > 0 {
                state.shutdown = true;
                return;
            }
            if !state.containers.is_empty() {
                return;
            }
            state.ends = true;
        }
        self.end().await;
    }

    /// Ends the shim. Its socket goes before the reply to Shutdown: whoever has that may start another shim of the same
    /// name at once, which must not find this one.
    pub(super) async fn end(&self) {
        self.state.lock().ends = true;
        self.leave().await;
        self.exit.notify_one();
    }

    /// Takes the shim's socket away; once, because a later one of that name is another shim's. On a thread that may wait:
    /// all shims of the node share the lock that this takes.
    pub async fn leave(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket {
            let _ = blocking::run_in_any_case(move || lock::remove_socket(&socket)).await;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let asked = {
            let mut state = self.0.state.lock();
            state.calls -= 1;
            state.calls == 0 && std::mem::take(&mut state.shutdown)
        };
        // Without a runtime there is no service any more that could end.
        if let (true, Ok(runtime)) = (asked, tokio::runtime::Handle::try_current()) {
            let service = self.0.clone();
            runtime.spawn(async move { service.end_if_empty().await });
        }
    }
}
