//! Receiving descriptors over a UNIX socket, also when some of them do not fit.
//!
//! The kernel installs as many descriptors as the process may have and says that others were lost (`MSG_CTRUNC`). nix
//! then answers with an error alone: the ones that did arrive would stay open for ever, and the message that they came
//! with would be lost too, with nobody to answer its sender. Source: unix(7), cmsg(3), recvmsg(2).

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Descriptors that one message may bring.
pub const MAX_FDS: usize = 8;

/// What came with a message.
#[derive(Debug)]
pub struct Arrived {
    /// Length of the message; 0 at the end of the connection.
    pub length: usize,
    /// The descriptors, closed on exec.
    pub fds: Vec<OwnedFd>,
    /// Whether descriptors were lost, because this process has as many as it may.
    pub lost: bool,
}

/// Room for the control message, aligned as its header must be.
#[repr(C, align(8))]
struct Control([u8; 16 + 8 * MAX_FDS]);

/// Receives one message into `bytes`.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], flags: libc::c_int) -> nix::Result<Arrived> {
    let mut control = Control([0; _]);
    let mut slice = IoSliceMut::new(bytes);
    // SAFETY: a header of zeroes is a valid one without an address.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = std::ptr::from_mut(&mut slice).cast();
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the header refers to `bytes` and `control`, which outlive the call, with their lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags | libc::MSG_CMSG_CLOEXEC) };
    Ok(Arrived {
        length: Errno::result(length)?.unsigned_abs(),
        // SAFETY: the kernel has just filled the header in.
        fds: unsafe { take_rights(&header) },
        lost: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// The descriptors in a header.
///
/// # Safety
/// The header was filled in by a successful `recvmsg`, its control buffer is alive, and this is called once.
unsafe fn take_rights(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the header's control buffer is alive and as long as it says.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it points to a whole control message in the buffer.
        let (level, kind, length) = unsafe { ((*message).cmsg_level, (*message).cmsg_type, (*message).cmsg_len) };
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(message) }.cast::<RawFd>();
            // SAFETY: it only computes with numbers.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..length.saturating_sub(head) / size_of::<RawFd>() {
                // SAFETY: within the message's length. The kernel installed this descriptor for us; nobody else knows it.
                fds.push(unsafe { OwnedFd::from_raw_fd(data.add(index).read_unaligned()) });
            }
        }
        // SAFETY: as for the first one.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    fds
}
