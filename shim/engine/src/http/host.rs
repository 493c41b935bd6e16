//! Whom a request is for.

use http::header::{HOST, HeaderValue};
use http::uri::Authority;
use http::{Request, Version};

/// Checks that a request names its host, once and as a host is written, as RFC 9112 (section 3.2) and RFC 9113 (8.3.1)
/// want it: where a proxy and its server take different hosts from one request, one of them is deceived.
///
/// A request of HTTP/1.0 gets the host that WASI wants of each: old clients, health checks of load balancers among them,
/// need not send one.
pub(super) fn check<B>(request: &mut Request<B>) -> Result<(), &'static str> {
    let mut fields = request.headers().get_all(HOST).iter();
    match (fields.next(), fields.next()) {
        (Some(_), Some(_)) => Err("the request has several Host fields"),
        (Some(host), None) => {
            let host = parse(host).ok_or("the request's Host field is not a host")?;
            let authority = request.uri().authority();
            let differs = authority.is_some_and(|authority| *authority != host);
            if differs && request.version() >= Version::HTTP_2 {
                return Err("the request's Host field is not its authority");
            }
            Ok(())
        }
        (None, _) if request.version() == Version::HTTP_10 => {
            if request.uri().authority().is_none() {
                request
                    .headers_mut()
                    .insert(HOST, HeaderValue::from_static("localhost"));
            }
            Ok(())
        }
        (None, _) if request.version() >= Version::HTTP_2 && request.uri().authority().is_some() => Ok(()),
        (None, _) => Err("the request has no Host field"),
    }
}

/// A host and perhaps a port, without a user's name.
fn parse(value: &HeaderValue) -> Option<Authority> {
    let text = value.to_str().ok()?;
    let authority: Authority = text.parse().ok()?;
    let port = text.strip_prefix(authority.host())?;
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.is_empty() || is_number(port));
    (!authority.host().is_empty() && is_port).then_some(authority)
}

fn is_number(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(version: Version, uri: &str, hosts: &[&str]) -> Result<(), &'static str> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&mut request.body(()).unwrap())
    }

    #[test]
    fn hosts_as_they_are_written_pass() {
        for host in [
            "a",
            "a.b:80",
            "1.2.3.4:8080",
            "[::1]",
            "[::1]:80",
            "a:",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(check_one(Version::HTTP_11, "/", &[host]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in [
            "", " ", "a b", "a/b", "user@a", "a:port", "a:99999", "a:+1", "[::1", "a\"b", "::1",
        ] {
            assert!(check_one(Version::HTTP_11, "/", &[host]).is_err(), "{host}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        assert!(check_one(Version::HTTP_11, "/", &[]).is_err());
        assert!(check_one(Version::HTTP_11, "http://a/", &[]).is_err());
        assert!(check_one(Version::HTTP_11, "/", &["a", "a"]).is_err());
        assert!(check_one(Version::HTTP_10, "/", &["a", "b"]).is_err());
        assert_eq!(check_one(Version::HTTP_10, "/", &[]), Ok(()));
        assert_eq!(check_one(Version::HTTP_11, "http://a/", &["b"]), Ok(()));
    }

    #[test]
    fn http_2_names_it_in_its_authority_and_may_repeat_it() {
        assert_eq!(check_one(Version::HTTP_2, "http://a:1/", &[]), Ok(()));
        assert_eq!(check_one(Version::HTTP_2, "http://a:1/", &["a:1"]), Ok(()));
        assert!(check_one(Version::HTTP_2, "http://a:1/", &["b"]).is_err());
        assert!(check_one(Version::HTTP_2, "/", &[]).is_err());
    }
}
