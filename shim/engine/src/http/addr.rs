//! The address to listen on.

use crate::error::HostError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The variables of the container's environment that set the address, the first that is there wins: Tandem's own, and
/// that of runwasi's wasmtime shim, so that its images run unchanged.
pub const ADDRESS_VARIABLES: [&str; 2] = ["TANDEM_HTTP_ADDR", "WASMTIME_HTTP_PROXY_SOCKET_ADDR"];

/// Where a server listens if the environment does not say: runwasi's default.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);

/// An address, and the variable to name when it turns out to be unusable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) socket: SocketAddr,
    pub(super) variable: &'static str,
}

/// Reads the address from the container's environment.
pub(super) fn from_env(env: &[(String, String)]) -> Result<Address, HostError> {
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
        socket: DEFAULT_ADDRESS,
        variable: ADDRESS_VARIABLES[0],
    })
}

/// `address:port`, or `:port` for all addresses.
fn parse(value: &str) -> Option<SocketAddr> {
    match value.strip_prefix(':') {
        Some(port) => Some(SocketAddr::new(DEFAULT_ADDRESS.ip(), port.parse().ok()?)),
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
        )
    }

    #[test]
    fn without_a_variable_it_is_port_8080_of_all_addresses() {
        assert_eq!(env(&[]).unwrap().socket, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(env(&[("TANDEM_HTTP_ADDR", "")]).unwrap().socket, DEFAULT_ADDRESS);
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
