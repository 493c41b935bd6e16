//! The address to listen on.

use crate::error::HostError;
use std::net::{Ipv4Addr, SocketAddr};

/// The variables of the container's environment that set the address, the first that is there wins: Tandem's own, and
/// those of runwasi's wasmtime shim and of the Spin shim, so that their pods run unchanged.
pub const ADDRESS_VARIABLES: [&str; 3] = [
    "TANDEM_HTTP_ADDR",
    "WASMTIME_HTTP_PROXY_SOCKET_ADDR",
    "SPIN_HTTP_LISTEN_ADDR",
];

/// Where a server listens if the environment does not say: runwasi's default.
pub const DEFAULT_PORT: u16 = 8080;
/// The same for an application for Spin: its shim's default.
pub const SPIN_PORT: u16 = 80;

/// An address, and the variable to name when it turns out to be unusable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) socket: SocketAddr,
    pub(super) variable: &'static str,
}

/// Reads the address from the container's environment, which need not name one.
pub(super) fn from_env(env: &[(String, String)], default_port: u16) -> Result<Address, HostError> {
    for variable in ADDRESS_VARIABLES {
        // The last of several wins, as it does in a process's environment built from such a list.
        if let Some((_, value)) = env
            .iter()
            .rev()
            .find(|(name, value)| name == variable && !value.is_empty())
        {
            let socket = parse(value).ok_or_else(|| HostError::HttpAddress {
                variable,
                value: value.clone(),
            })?;
            return Ok(Address { socket, variable });
        }
    }
    Ok(Address {
        socket: on_all(default_port),
        variable: ADDRESS_VARIABLES[0],
    })
}

fn on_all(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// `address:port`, or `:port` for all addresses.
fn parse(value: &str) -> Option<SocketAddr> {
    match value.strip_prefix(':') {
        Some(port) => port.parse().ok().map(on_all),
        None => value.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<Address, HostError> {
        from_env(
            &pairs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect::<Vec<_>>(),
            DEFAULT_PORT,
        )
    }

    #[test]
    fn without_a_variable_it_is_port_8080_of_all_addresses() {
        assert_eq!(env(&[]).unwrap().socket, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(env(&[("TANDEM_HTTP_ADDR", "")]).unwrap().socket, on_all(8080));
        assert_eq!(from_env(&[], SPIN_PORT).unwrap().socket, on_all(80));
    }

    #[test]
    fn tandem_s_own_variable_goes_before_runwasi_s() {
        let both = [
            ("WASMTIME_HTTP_PROXY_SOCKET_ADDR", "127.0.0.1:1"),
            ("TANDEM_HTTP_ADDR", "127.0.0.1:2"),
        ];
        assert_eq!(env(&both).unwrap().socket, "127.0.0.1:2".parse().unwrap());
        assert_eq!(env(&both[..1]).unwrap().socket, "127.0.0.1:1".parse().unwrap());
    }

    #[test]
    fn a_port_alone_means_all_addresses() {
        assert_eq!(
            env(&[("TANDEM_HTTP_ADDR", ":9000")]).unwrap().socket,
            "0.0.0.0:9000".parse().unwrap()
        );
        assert_eq!(
            env(&[("TANDEM_HTTP_ADDR", "[::]:80")]).unwrap().socket,
            "[::]:80".parse().unwrap()
        );
    }

    #[test]
    fn what_is_no_address_is_refused_by_the_variable_s_name() {
        for value in ["8080", "localhost:80", ":99999", "1.2.3.4"] {
            let text = env(&[("TANDEM_HTTP_ADDR", value)]).unwrap_err().to_string();
            assert!(text.contains("TANDEM_HTTP_ADDR") && text.contains(value), "{text}");
        }
    }
}
