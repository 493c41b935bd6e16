//! Where output goes, as containerd names it: a FIFO's path, or a URI of a log file or a logging program.
//! Source: containerd `cmd/containerd-shim-runc-v2/process/io.go`, which reads them by Go's `net/url`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::fault::{Fault, Result};

/// A destination of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nobody wants it.
    Nowhere,
    /// A FIFO that a client reads.
    Fifo(PathBuf),
    /// A log file, to append to.
    File(PathBuf),
    /// A logging program.
    Program(Program),
}

/// A logging program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path.
    pub path: PathBuf,
    /// The keys and values of the URI's query, in their order; of a key that is there twice, the first value.
    pub args: Vec<OsString>,
}

impl Destination {
    /// Reads what containerd says. A plain path is a FIFO's and is taken as it is.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::Nowhere);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Fifo(text.into()));
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _fragment)| before);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme {
            "fifo" => Ok(Self::Fifo(absolute(text, path)?)),
            "file" => Ok(Self::File(absolute(text, path)?)),
            "binary" => Ok(Self::Program(Program {
                path: absolute(text, path)?,
                args: arguments(query),
            })),
            other => Err(Fault::invalid(format!(
                "log URIs of scheme \"{}\" are not known: use a FIFO, file:// or binary://",
                other.escape_debug()
            ))),
        }
    }
}

fn absolute(uri: &str, path: &str) -> Result<PathBuf> {
    let fault = |why: &str| Fault::invalid(format!("log URI {}: {why}", uri.escape_debug()));
    // A URI may name the host that the path is on, which is this one. Source: RFC 8089, section 2.
    let path = path.strip_prefix("localhost").unwrap_or(path);
    let path = decode(path).ok_or_else(|| fault("after a % two hexadecimal digits are expected (%25 is %)"))?;
    if !Path::new(&path).is_absolute() {
        return Err(fault("the path is not absolute: write file:///path or binary:///path"));
    }
    if path.as_bytes().contains(&0) {
        return Err(fault("the path has a zero byte"));
    }
    Ok(path.into())
}

/// Pairs that are not well-formed are left out, as Go does.
fn arguments(query: &str) -> Vec<OsString> {
    let mut pairs: Vec<(OsString, OsString)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = decode(&key.replace('+', " ")).zip(decode(&value.replace('+', " ")));
        if let Some((key, value)) = decoded
            && !pairs.iter().any(|(known, _)| *known == key)
            && !key.as_bytes().contains(&0)
            && !value.as_bytes().contains(&0)
        {
            pairs.push((key, value));
        }
    }
    pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()
}

/// Undoes percent-encoding; nothing where there is a `%` without two digits. Source: RFC 3986, section 2.1.
fn decode(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = after;
    }
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(uri: &str) -> PathBuf {
        match Destination::parse(uri).unwrap() {
            Destination::File(path) => path,
            other => panic!("{other:?}"),
        }
    }

    fn program(uri: &str) -> (PathBuf, Vec<OsString>) {
        match Destination::parse(uri).unwrap() {
            Destination::Program(Program { path, args }) => (path, args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_path_of_a_uri_is_decoded_and_a_plain_one_is_not() {
        assert_eq!(file("file:///var/log/a%20b%2Fc"), Path::new("/var/log/a b/c"));
        assert_eq!(file("file:///var/log/a+b"), Path::new("/var/log/a+b"));
        assert_eq!(file("file://localhost/log"), Path::new("/log"));
        assert_eq!(file("file:///log?max=1#there"), Path::new("/log"));
        assert_eq!(file("file:///%ff").as_os_str().as_bytes(), b"/\xff");
        let plain = Destination::parse("/run/a%20b?c").unwrap();
        assert_eq!(plain, Destination::Fifo("/run/a%20b?c".into()));
        assert_eq!(Destination::parse("").unwrap(), Destination::Nowhere);
    }

    #[test]
    fn a_query_becomes_arguments_in_its_order() {
        let (path, args) = program("binary:///usr/bin/log%20it?--dir=/var/log/a%2Bb&id=1+2&flag&id=3&bad=%zz");
        assert_eq!(path, Path::new("/usr/bin/log it"));
        assert_eq!(args, ["--dir", "/var/log/a+b", "id", "1 2", "flag", ""]);
    }

    #[test]
    fn what_is_no_place_on_this_node_is_refused_with_the_reason() {
        for (uri, why) in [
            ("gopher://x", "gopher"),
            ("binary://relative", "absolute"),
            ("file://other-host/log", "absolute"),
            ("file:///a%2", "hexadecimal"),
            ("file:///a%+1", "hexadecimal"),
            ("file:///a%00b", "zero byte"),
        ] {
            let fault = Destination::parse(uri).unwrap_err();
            assert!(fault.message.contains(why), "{uri}: {fault}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_path_survives_its_encoding(name in proptest::collection::vec(1u8..=255, 0..40)) {
            let encoded: String = name.iter().map(|byte| format!("%{byte:02x}")).collect();
            assert_eq!(file(&format!("file:///{encoded}")).as_os_str().as_bytes(), [b"/".as_slice(), &name].concat());
        }
    }
}
