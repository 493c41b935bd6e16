//! Runs one WebAssembly guest inside a process that is already confined.
//!
//! The caller is a single-threaded *zygote*. It keeps a warm [`Host`], and for each container it calls
//! [`Host::prepare`], so that a bad module is refused while the container is created, then forks. The child is
//! confined (namespaces, root, user, seccomp) and, once started, calls [`Guest::run`], which takes over the process
//! until the guest ends and answers with the process's exit code.
//!
//! ```text
//! zygote                                   child, as PID 1 of the container
//! Host::new ── warm ── prepare ── fork ──> confine ── wait for Start ── Guest::run ── exit(code)
//! ```
//!
//! Two rules follow from that model and hold for everything up to the fork:
//!
//! * **No thread and no async runtime before [`Guest::run`]**: a fork copies only the calling thread, so whatever
//!   another thread held would stay locked in the child for ever.
//! * **No random number before [`Guest::run`]**: a random generator that was seeded before the fork would give every
//!   container the same numbers. WASI contexts hold one, so they are built in the child only.
//!
//! # How a guest ends
//!
//! | how | exit code |
//! |---|---|
//! | the guest exits | its own code; a component's `run` that returns an error is 1 |
//! | the guest traps | [`EXIT_TRAP`] (134), with the reason and the Wasm backtrace on stderr |
//! | the host cannot run it | [`EXIT_HOST`] (125), with the reason on stderr |
//! | a signal ends it | 128 + its number, see [`signals`] |
//! | an HTTP server drains after SIGTERM | 0, or 143 where requests outlast [`http::DRAIN_GRACE`] |

mod command;
mod ctx;
mod error;
mod exit;
mod fs;
mod guest;
mod host;
pub mod http;
mod limits;
mod p1;
mod p2;
mod prepare;
pub mod signals;
mod spec;
mod stdio;
pub mod text;

pub use error::{HostError, PrepareError};
pub use exit::{EXIT_HOST, EXIT_TRAP};
pub use guest::Guest;
pub use host::{Code, Host, Kind};
pub use limits::MemoryBudget;
pub use spec::GuestSpec;
