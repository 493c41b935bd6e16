//! The socket that connections come from, and the descriptors that they need.

use super::addr::Address;
use super::limits::{HttpLimits, limit};
use crate::error::HostError;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel may hold for us until they are accepted.
const BACKLOG: u32 = 1024;

/// How often the kernel asks a silent client whether it is still there, before it gives it up.
const PROBES: u32 = 3;

/// The longest time between probes that the kernel takes, in seconds.
const LONGEST_PROBE: u64 = 32767;

/// Descriptors that are not for connections: the server's own, and files and connections of guests.
const RESERVED: u64 = 64;

/// Listens. Must be called within a runtime.
pub(super) fn listen(address: &Address, limits: &HttpLimits) -> Result<TcpListener, HostError> {
    let bind = || {
        let socket = if address.socket.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        // A restarted container must not wait for the connections of its predecessor to be forgotten.
        socket.set_reuseaddr(true)?;
        if let (Some(idle), Some(answer)) = (limit(limits.ping_interval), limit(limits.ping_timeout)) {
            let probes = TcpKeepalive::new()
                .with_time(kernel(idle))
                .with_interval(kernel(answer / PROBES));
            // Connections inherit it. Where it is not to be had, other limits end those whose clients are gone.
            let _ = SockRef::from(&socket).set_tcp_keepalive(&probes.with_retries(PROBES));
        }
        socket.bind(address.socket)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|reason| HostError::HttpBind {
        address: address.socket,
        variable: address.variable,
        reason,
    })
}

/// A time as the kernel takes it for its probes.
fn kernel(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().clamp(1, LONGEST_PROBE))
}

/// How many of `wanted` connections there are descriptors for, after the limit was raised as far as it may be.
///
/// The limit that most processes are started with is there for those that use `select`, which this one does not. Commands
/// keep theirs.
pub(super) fn connections(wanted: u32) -> u32 {
    let descriptors = raise_limit().unwrap_or(u64::from(u32::MAX));
    let room = descriptors.saturating_sub(RESERVED).max(descriptors / 2).max(1);
    u32::try_from(room).unwrap_or(u32::MAX).min(wanted)
}

fn raise_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a plain number and a structure that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit {
        rlim_cur: limit.rlim_max,
        ..limit
    };
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    Ok(limit.rlim_cur)
}
