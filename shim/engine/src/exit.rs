//! How a guest's end becomes the exit code of its process, and a reason on stderr.

use crate::error::HostError;
use crate::stdio::Output;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// Exit code after a trap: that of a native program that aborted (128 + SIGABRT).
pub const EXIT_TRAP: i32 = 134;

/// Exit code where the host could not run the guest: what `docker run` answers when the fault is not the program's.
pub const EXIT_HOST: i32 = 125;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The guest ended by itself.
    Exited(i32),
    /// The guest was stopped by a trap, its own or one that a host function raised.
    Trapped(wasmtime::Error),
    /// The guest could not be run.
    Failed(HostError),
}

impl From<HostError> for Outcome {
    fn from(error: HostError) -> Self {
        Outcome::Failed(error)
    }
}

impl Outcome {
    /// What an error out of running Wasm means.
    pub(crate) fn of_call(error: wasmtime::Error) -> Self {
        match error.downcast_ref::<I32Exit>() {
            Some(exit) => Outcome::Exited(exit.0),
            None => Outcome::Trapped(error),
        }
    }

    /// What an error out of instantiation means: the guest's `start` function can exit or trap like any other, all else
    /// is the host's.
    pub(crate) fn of_instantiation(error: wasmtime::Error) -> Self {
        if error.is::<I32Exit>() || error.is::<Trap>() || error.is::<WasmBacktrace>() {
            Outcome::of_call(error)
        } else {
            Outcome::Failed(HostError::Instantiate {
                reason: format!("{error:#}"),
            })
        }
    }

    /// Prints the reason where there is one to tell, and returns the process's exit code.
    pub(crate) fn report(self) -> i32 {
        match self {
            // The kernel keeps eight bits; do it here so that callers see the code that others will.
            Outcome::Exited(code) => code & 0xff,
            Outcome::Trapped(error) => {
                print(&format!("guest trapped: {}", describe_trap(&error)));
                EXIT_TRAP
            }
            Outcome::Failed(error) => {
                print(&error.to_string());
                EXIT_HOST
            }
        }
    }
}

/// Why the guest trapped, then its stack.
pub(crate) fn describe_trap(error: &wasmtime::Error) -> String {
    // The backtrace is one of the error's contexts, with a heading of its own; what remains of them is the reason.
    let stack = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    let causes = error.chain().map(ToString::to_string);
    let causes = causes.filter(|cause| Some(cause) != stack.as_ref());
    let mut text = causes.collect::<Vec<_>>().join(": ");
    if let Some((_, frames)) = stack.as_deref().and_then(|stack| stack.split_once('\n')) {
        text.push_str("\nwasm backtrace:\n");
        text.push_str(frames);
    }
    text
}

/// Writes `tandem: text` to stderr. Where stderr is gone there is nobody to tell.
pub(crate) fn print(text: &str) {
    let _ = Output::Stderr.write_all(format!("tandem: {}\n", text.trim_end()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_what_the_kernel_would_keep_of_it() {
        assert_eq!(Outcome::Exited(7).report(), 7);
        assert_eq!(Outcome::Exited(256).report(), 0);
        assert_eq!(Outcome::Exited(-1).report(), 255);
    }

    #[test]
    fn an_exit_raised_as_an_error_is_an_exit() {
        assert!(matches!(Outcome::of_call(I32Exit(3).into()), Outcome::Exited(3)));
        assert!(matches!(
            Outcome::of_instantiation(I32Exit(3).into()),
            Outcome::Exited(3)
        ));
    }

    #[test]
    fn a_trap_and_a_failure_to_instantiate_are_told_apart() {
        assert!(matches!(
            Outcome::of_instantiation(Trap::UnreachableCodeReached.into()),
            Outcome::Trapped(_)
        ));
        assert!(matches!(
            Outcome::of_instantiation(wasmtime::format_err!("no memory")),
            Outcome::Failed(_)
        ));
    }
}
