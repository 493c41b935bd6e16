//! What the demo says to the person at the terminal. Progress goes to standard error, so that the table can be
//! kept by redirecting standard output; colours only where a terminal shows them.

use std::io::{IsTerminal, stderr, stdout};

/// Whether a stream may have colours: it is a terminal, and nobody asked for none (<https://no-color.org>).
fn coloured(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the table may have colours.
pub fn colours() -> bool {
    coloured(stdout().is_terminal())
}

/// Says what is done now.
pub fn step(text: &str) {
    let [on, off] = marks("\x1b[1m");
    eprintln!("{on}==>{off} {text}");
}

/// Says why it ended.
pub fn failure(text: &str) {
    let [on, off] = marks("\x1b[1;31m");
    eprintln!("{on}demo failed:{off} {text}");
}

/// Shows the last warnings and errors in containerd's log, with those that the shim wrote into it.
pub fn log_end(log: &str, lines: usize) {
    let telling = |line: &&str| {
        !["level=info", "level=debug", " INFO ", " DEBUG "]
            .iter()
            .any(|mark| line.contains(mark))
    };
    let all: Vec<&str> = log.lines().filter(telling).collect();
    let end = &all[all.len().saturating_sub(lines)..];
    if !end.is_empty() {
        eprintln!("the end of containerd's log:\n  {}", end.join("\n  "));
    }
}

fn marks(on: &'static str) -> [&'static str; 2] {
    if coloured(stderr().is_terminal()) {
        [on, "\x1b[0m"]
    } else {
        ["", ""]
    }
}
