//! The one command of Redis that the API needs, in Redis' own protocol (RESP2).

use std::io::{self, BufRead, BufReader, Error, Write};
use std::net::TcpStream;

/// Adds one to the integer at `key` of the Redis at `address` (`HOST:PORT`), and answers the sum.
pub fn increment(address: &str, key: &str) -> io::Result<i64> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "*2\r\n$4\r\nINCR\r\n${}\r\n{key}\r\n", key.len())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    match line.trim_end().split_at_checked(1) {
        Some((":", number)) => number.parse().map_err(Error::other),
        Some(("-", reason)) => Err(Error::other(reason.to_owned())),
        _ => Err(Error::other(format!("unexpected answer {line:?}"))),
    }
}
