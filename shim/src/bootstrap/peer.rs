//! Whether a shim answers at a socket.

use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;

use crate::fault::{Fault, Result};

/// Whether somebody listens. That nobody does is certain only if the kernel says so: a failure of any other kind (no
/// descriptors, no memory) says nothing about the shim, which must not lose its socket for it.
pub fn answers(socket: &Path) -> Result<bool> {
    loop {
        let Err(error) = UnixStream::connect(socket) else {
            return Ok(true);
        };
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNREFUSED | Errno::ENOENT) => return Ok(false),
            Some(Errno::EINTR) => {}
            _ => {
                return Err(Fault::unavailable(format!(
                    "cannot find out whether a shim serves {}: {error}",
                    socket.display()
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_a_socket_without_a_listener_or_none_at_all_has_no_shim() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        assert!(!answers(&socket).unwrap());
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(answers(&socket).unwrap());
        drop(listener);
        assert!(!answers(&socket).unwrap());
    }

    #[test]
    fn a_failure_to_connect_is_not_taken_for_a_dead_shim() {
        let dir = tempfile::tempdir().unwrap();
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        // One that says nothing but what it is, so that no stream can be connected to it.
        let datagrams = dir.path().join("datagrams");
        let _bound = std::os::unix::net::UnixDatagram::bind(&datagrams).unwrap();
        for socket in [circle, datagrams, dir.path().join("x".repeat(200))] {
            let fault = answers(&socket).unwrap_err();
            assert!(fault.message.contains(socket.to_str().unwrap()), "{fault}");
        }
    }
}
