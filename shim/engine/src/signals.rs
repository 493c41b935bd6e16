//! Signals: how a container is told to stop, and the clock that makes guests take turns.
//!
//! A guest is mostly PID 1 of its container, and the kernel drops every signal that PID 1 has no handler for. So each
//! signal that would end an ordinary process gets a handler here, with one of two meanings:
//!
//! * **Commands end at once**, with 128 + the signal's number. WASI gives a guest no means to handle a signal, and its
//!   output is not buffered (see `stdio`), so there is nothing to wait for. The handler calls `_exit` itself, which
//!   ends the guest whatever it does: computing, sleeping, or blocked in a system call that never returns.
//! * **HTTP servers drain** on SIGTERM, SIGINT and SIGQUIT: the handler wakes the server, and arms a timer that ends the
//!   process where the server is too stuck to do so. The other signals end a server at once too.
//!
//! A second clock makes guests take turns: while the process uses the processor, SIGVTALRM counts up the engine's epoch
//! every [`TICK`], and compiled code yields to the other tasks of its thread when the epoch moves on. A timer of the
//! process's own processor time needs no thread, and an idle pod is never woken by it.
//!
//! Everything a handler does is async-signal-safe: atomics, `write`, `setitimer` (a bare system call) and `_exit`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use wasmtime::Engine;

/// Processor time between two ticks of the epoch.
pub const TICK: Duration = Duration::from_millis(10);

/// The signals that ask a process to end, which is what they do to a process without handlers.
const ENDING: [libc::c_int; 7] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// Those of them that let an HTTP server finish its requests first.
const DRAINING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];

/// The engine whose epoch SIGVTALRM counts up. Never freed once set, as a handler may be using it at any time.
static ENGINE: AtomicPtr<Engine> = AtomicPtr::new(ptr::null_mut());

/// The eventfd by which a draining server is woken; -1 while signals end the process at once.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Seconds that a drain may take before SIGALRM ends the process.
static DRAIN_SECONDS: AtomicI32 = AtomicI32::new(0);

/// The signal that started the drain; 0 before that.
static DRAINED_BY: AtomicI32 = AtomicI32::new(0);

/// Installs the handlers, so that from here on a signal ends this process with 128 + its number.
///
/// [`crate::Guest::run`] calls it. A container's init may call it earlier, so that SIGTERM ends a container that is
/// created and not started yet; the zygote must not.
///
/// # Errors
/// Fails where a handler cannot be installed, which the kernel does for no signal used here.
pub fn install() -> io::Result<()> {
    for signal in ENDING {
        handle(signal, on_ending as *const () as libc::sighandler_t)?;
    }
    // A guest learns of a closed pipe by the error of its write.
    handle(libc::SIGPIPE, libc::SIG_IGN)?;
    unblock()
}

/// Counts up the engine's epoch every [`TICK`] of processor time from now on.
pub(crate) fn start_ticking(engine: &Engine) -> io::Result<()> {
    // Leaked on purpose: the handler may run at any later time. A process runs one guest, so this happens once.
    ENGINE.store(Box::into_raw(Box::new(engine.clone())), Ordering::Release);
    handle(libc::SIGVTALRM, on_tick as *const () as libc::sighandler_t)?;
    let tick = libc::timeval {
        tv_sec: 0,
        tv_usec: i64::from(TICK.subsec_micros()),
    };
    set_timer(
        libc::ITIMER_VIRTUAL,
        libc::itimerval {
            it_interval: tick,
            it_value: tick,
        },
    )
}

/// What a draining server waits on.
pub(crate) struct DrainRequest {
    event: AsyncFd<OwnedFd>,
}

impl DrainRequest {
    /// From here on the signals of [`DRAINING`] ask for a drain. One that takes longer than `limit` (whole seconds) is
    /// ended by the kernel's timer, however stuck the process is. Must be called within a runtime.
    pub(crate) fn subscribe(limit: Duration) -> io::Result<Self> {
        // SAFETY: eventfd takes no pointer, and its result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the descriptor is open, and owned by what is registered for as long as it is.
        let event = unsafe { AsyncFd::register(fd) }?;
        DRAIN_SECONDS.store(i32::try_from(limit.as_secs()).unwrap_or(i32::MAX), Ordering::Release);
        WAKE.store(event.as_raw_fd(), Ordering::Release);
        Ok(Self { event })
    }

    /// Waits for a signal that asks for a drain, and returns its number.
    pub(crate) async fn received(&self) -> i32 {
        loop {
            // An error means that the runtime shuts down; a signal's number is known by then or never will be.
            let readable = self.event.readable().await;
            let signal = DRAINED_BY.load(Ordering::Acquire);
            if signal != 0 {
                return signal;
            }
            match readable {
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return libc::SIGTERM,
            }
        }
    }
}

impl Drop for DrainRequest {
    fn drop(&mut self) {
        WAKE.store(-1, Ordering::Release);
    }
}

extern "C" fn on_ending(signal: libc::c_int) {
    let wake = WAKE.load(Ordering::Acquire);
    let drained_by = DRAINED_BY.load(Ordering::Acquire);
    if signal == libc::SIGALRM && drained_by != 0 {
        end(drained_by);
    }
    if wake < 0 || !DRAINING.contains(&signal) {
        end(signal);
    }
    if DRAINED_BY
        .compare_exchange(0, signal, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
    {
        // SAFETY: reading the thread's errno location is always valid; a handler must leave errno as it found it.
        let errno = unsafe { *libc::__errno_location() };
        arm_drain_limit();
        // SAFETY: writes eight bytes of a live local; the descriptor is the eventfd or, in a race with its owner's
        // drop, gone, which write answers with an error.
        unsafe { libc::write(wake, (&raw const ONE).cast(), size_of::<u64>()) };
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
    } else if signal != libc::SIGTERM {
        // Somebody at a terminal insists. An orchestrator that repeats its SIGTERM does not.
        end(signal);
    }
}

/// What is added to the eventfd.
static ONE: u64 = 1;

fn arm_drain_limit() {
    let limit = libc::timeval {
        tv_sec: i64::from(DRAIN_SECONDS.load(Ordering::Acquire)),
        tv_usec: 0,
    };
    let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // Where this fails, the server's own clock still ends the drain.
    let _ = set_timer(
        libc::ITIMER_REAL,
        libc::itimerval {
            it_interval: never,
            it_value: limit,
        },
    );
}

extern "C" fn on_tick(_signal: libc::c_int) {
    let engine = ENGINE.load(Ordering::Acquire);
    // SAFETY: the pointer is null or from `Box::into_raw` and never freed, and `increment_epoch` is documented as safe
    // to be called by a signal handler.
    if let Some(engine) = unsafe { engine.as_ref() } {
        engine.increment_epoch();
    }
}

fn end(signal: libc::c_int) -> ! {
    // SAFETY: `_exit` ends all threads at once and is async-signal-safe.
    unsafe { libc::_exit(128 + signal) }
}

fn handle(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sigaction: no flags, an empty mask, the default handler.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // SA_ONSTACK: the thread may be on a guest's stack, which need not have room for a handler.
    // SA_RESTART: neither the clock nor a drain should fail the host's system calls.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: `action` is initialised, and the handlers of this module have the signature that the flags ask for.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })
}

/// Whoever started this process may have blocked signals, which is inherited.
fn unblock() -> io::Result<()> {
    // SAFETY: all-zero bytes are storage for a signal set, which sigemptyset then initialises.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for writing.
    check(unsafe { libc::sigemptyset(&raw mut set) })?;
    for signal in ENDING.into_iter().chain([libc::SIGVTALRM]) {
        // SAFETY: `set` is initialised and the signal's number is one of the system's.
        check(unsafe { libc::sigaddset(&raw mut set, signal) })?;
    }
    // SAFETY: `set` is initialised; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn set_timer(which: libc::c_int, timer: libc::itimerval) -> io::Result<()> {
    // SAFETY: `timer` is a valid itimerval for the length of the call; the old value is not asked for.
    check(unsafe { libc::setitimer(which, &raw const timer, ptr::null_mut()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
