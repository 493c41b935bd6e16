//! Work that waits in the kernel, on a thread of its own.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::fault::{Fault, Result};

/// Runs `work` beside the service. Where the node has no thread left it runs in the service instead: what is to be
/// cleaned up on such a node may be what takes its threads. (tokio's own pool panics there.)
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    let work = Arc::new(Mutex::new(Some(move || drop(done.send(work())))));
    let threads = Arc::clone(&work);
    if let Err(error) = std::thread::Builder::new().spawn(move || take_and_run(&threads)) {
        tracing::warn!(%error, "no thread can be started; the shim does not answer until its work is done");
        take_and_run(&work);
    }
    drop(work);
    result
        .await
        .map_err(|_| Fault::internal("the call failed in the shim: its thread panicked"))
}

fn take_and_run(work: &Mutex<Option<impl FnOnce()>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_result_comes_back_and_a_panic_is_a_fault() {
        assert_eq!(run(|| 7).await.unwrap(), 7);
        let fault = run(|| panic!("on purpose")).await.unwrap_err();
        assert!(fault.message.contains("panicked"), "{fault}");
    }
}
