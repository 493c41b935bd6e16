//! Work that waits in the kernel, on a thread of its own: what hangs there (a volume whose server is gone) keeps nobody
//! but the call that needs it. tokio's own pool is not used, because it panics where the node has no thread left.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::fault::{Fault, Result};

/// Runs `work` beside the service; fails where the node has no thread left. The runtime is at hand there: descriptors can
/// be registered and tasks spawned.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    let runtime = Handle::current();
    let started = std::thread::Builder::new().spawn(move || {
        let _context = runtime.enter();
        drop(done.send(work()));
    });
    if let Err(error) = started {
        return Err(Fault::exhausted(format!(
            "cannot start a thread: {error}; the node is out of processes or memory"
        )));
    }
    result.await.map_err(|_| panicked())
}

/// As [`run`], for work that has to be done whatever the node lacks: where it has no thread left it is done in the
/// service, because what is cleaned up there may be what takes the threads.
pub async fn run_in_any_case<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    let work = Arc::new(Mutex::new(Some(move || drop(done.send(work())))));
    let threads = Arc::clone(&work);
    if let Err(error) = std::thread::Builder::new().spawn(move || take_and_run(&threads)) {
        tracing::warn!(%error, "no thread can be started; the shim does not answer until its work is done");
        take_and_run(&work);
    }
    drop(work);
    result.await.map_err(|_| panicked())
}

fn take_and_run(work: &Mutex<Option<impl FnOnce()>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}

fn panicked() -> Fault {
    Fault::internal("the call failed in the shim: its thread panicked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    #[tokio::test]
    async fn the_result_comes_back_and_a_panic_is_a_fault() {
        assert_eq!(run(|| 7).await.unwrap(), 7);
        assert_eq!(run_in_any_case(|| 7).await.unwrap(), 7);
        for fault in [
            run(|| panic!("on purpose")).await.unwrap_err(),
            run_in_any_case(|| panic!("on purpose")).await.unwrap_err(),
        ] {
            assert!(fault.message.contains("panicked"), "{fault}");
        }
    }

    #[tokio::test]
    async fn descriptors_can_be_registered_on_the_thread() {
        let (read, _write) = nix::unistd::pipe().unwrap();
        let registered = run(move || tokio::net::unix::pipe::Receiver::from_owned_fd(read).is_ok());
        assert!(registered.await.unwrap());
    }

    #[test]
    fn without_a_thread_a_call_fails_and_a_cleanup_is_done() {
        crate::testing::without_threads(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let refused = run(|| 7).await.unwrap_err();
                assert_eq!(refused.kind, Kind::ResourceExhausted, "{refused}");
                assert!(refused.message.contains("out of processes"), "{refused}");
                assert_eq!(run_in_any_case(|| 7).await.unwrap(), 7);
            });
        });
    }
}
