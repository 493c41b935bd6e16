//! What containerd executes the binary for: `start`, `delete` and `-info`, and what it passes on standard
//! input. Source: containerd docs/runtime-v2.md.

pub mod delete;
pub mod info;
mod peer;
mod placement;
pub mod start;

use std::io::{IsTerminal, Read};

use crate::fault::{Fault, Result};

/// Cap on what is read from standard input; the same as containerd's own shims have.
const MAX_INPUT: u64 = 10 << 20;

/// Reads what containerd piped in; nothing, if a person runs the binary at a terminal.
fn read_input() -> Result<Vec<u8>> {
    let stdin = std::io::stdin();
    let mut input = Vec::new();
    if !stdin.is_terminal() {
        stdin
            .lock()
            .take(MAX_INPUT)
            .read_to_end(&mut input)
            .map_err(|error| Fault::internal(format!("cannot read standard input: {error}")))?;
    }
    Ok(input)
}
