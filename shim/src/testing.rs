//! What unit tests share.

use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Runs `test` where no thread can be started. The limit holds for the whole process, but threads of root's are exempt,
/// and only the test's has another user.
pub fn without_threads(test: impl FnOnce() + Send + 'static) {
    const NOBODY: libc::uid_t = 64_999;
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    setrlimit(Resource::RLIMIT_NPROC, 0, hard).unwrap();
    let limited = std::thread::spawn(move || {
        // SAFETY: plain numbers. Not libc's function, which would change the user of every thread.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(changed, 0);
        test();
    });
    let result = limited.join();
    setrlimit(Resource::RLIMIT_NPROC, soft, hard).unwrap();
    result.unwrap();
}
