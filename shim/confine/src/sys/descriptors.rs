//! Descriptors that a program inherits, or must not.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// First descriptor after the standard streams.
const FIRST: libc::c_uint = 3;

/// Closes everything but the standard streams and `kept`, and has the next execve close that.
///
/// Whatever still owns one of the others must not be dropped any more.
pub fn close_all_but(mut kept: Vec<RawFd>) -> nix::Result<()> {
    close_range(FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)?;
    kept.sort_unstable();
    let mut from = FIRST;
    for fd in kept.into_iter().filter_map(|fd| libc::c_uint::try_from(fd).ok()) {
        if from < fd {
            close_range(from, fd - 1, 0)?;
        }
        from = from.max(fd + 1);
    }
    close_range(from, libc::c_uint::MAX, 0)
}

fn close_range(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> nix::Result<()> {
    // SAFETY: plain numbers; the owners of what is closed are as the caller says.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Replaces the standard streams.
pub fn set_streams(stdin: impl AsFd, stdout: impl AsFd, stderr: impl AsFd) -> nix::Result<()> {
    nix::unistd::dup2_stdin(stdin)?;
    nix::unistd::dup2_stdout(stdout)?;
    nix::unistd::dup2_stderr(stderr)
}

/// The other end of a terminal whose master is open, whatever its name is here.
pub fn terminal_peer(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int that outlives the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value.
    let peer = Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(peer) })
}

/// Makes a terminal that of the session, which the caller leads.
pub fn control(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes a plain number.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Sets a terminal's size, in characters.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads a winsize that outlives the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Sets every signal back to its default and blocks none, as a program expects to be started. By the kernel's own calls:
/// libc keeps two signals for itself, and would leave those as they are.
pub fn default_signals() {
    /// As the kernel has it. Source: `include/uapi/asm/signal.h`; all-zero is SIG_DFL.
    #[repr(C)]
    struct Action([u64; 4]);
    const SET_BYTES: usize = 8;
    let default = Action([0; 4]);
    for signal in 1..=64 {
        // SAFETY: a structure of the kernel's form that outlives the call; no handler is installed.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, 0usize, SET_BYTES) };
    }
    let none: u64 = 0;
    // SAFETY: a set of the size given, which outlives the call; the mask is this thread's.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            0usize,
            SET_BYTES,
        )
    };
}
