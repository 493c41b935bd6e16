//! Names of users and hosts, as a container's processes look them up before they are a program of their own.
//!
//! libc would read the container's `nsswitch.conf` and load the libraries that it names from the container: native code
//! of an image in the process that is to run only its Wasm guest, and before the guest's confinement is complete. So
//! the sources are fixed, before the first fork, to the two that are built into libc.

use std::ffi::{CStr, c_char, c_int};

unsafe extern "C" {
    /// Source: glibc `nss/nss_database.c`; used by `getent -s`. From then on `nsswitch.conf` is not read again.
    fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
}

/// Databases and where they are looked up.
const SOURCES: [(&CStr, &CStr); 4] = [
    (c"passwd", c"files"),
    (c"group", c"files"),
    (c"hosts", c"files dns"),
    (c"services", c"files"),
];

/// Fixes the sources. The process must be single-threaded.
pub fn use_built_in_sources() -> std::io::Result<()> {
    for (database, services) in SOURCES {
        // SAFETY: both are strings that live as long as the program; libc copies what it keeps.
        if unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_hosts_are_still_found() {
        use_built_in_sources().unwrap();
        let root = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(0)).unwrap();
        assert_eq!(root.unwrap().name, "root");
        use std::net::ToSocketAddrs;
        assert!(
            ("localhost", 80)
                .to_socket_addrs()
                .unwrap()
                .any(|addr| addr.ip().is_loopback())
        );
    }
}
