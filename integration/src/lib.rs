//! The harness on which Tandem's integration tests, its demo and its benchmarks stand.
//!
//! It starts a *private* containerd of either generation (own root, state, socket and cgroup parent, so that
//! nothing of the machine is touched and tests run in parallel), builds OCI images in memory, drives containers
//! and tasks over containerd's gRPC API, collects output and events, and says precisely what was left behind.
//!
//! ```no_run
//! use tandem_integration::{Containerd, Generation, image::busybox};
//!
//! # async fn demo() -> tandem_integration::Result<()> {
//! let ctd = Containerd::start(Generation::V1).await?;
//! let image = ctd.import(&busybox("example.test/busybox:1")?).await?;
//! let output = ctd.container(&image).args(["echo", "hello"]).run_to_end().await?;
//! assert_eq!((output.code, output.stdout.as_str()), (0, "hello\n"));
//! ctd.stop().await // fails where anything is left
//! # }
//! ```
//!
//! A test must be root. Where a test ends without [`Containerd::stop`] (a panic, a `?`), the instance is killed,
//! swept away and the end of its log is printed.
//!
//! | variable | names | default |
//! |---|---|---|
//! | `TANDEM_CONTAINERD_V1` | the containerd 1.x binary | `/usr/bin/containerd` |
//! | `TANDEM_CONTAINERD_V2` | a directory with containerd 2.x, `ctr` and the runc shim | `$TANDEM_CACHE/containerd-2/bin` |
//! | `TANDEM_SHIM` | the shim under test | `target/release/containerd-shim-tandem-v1` |
//! | `TANDEM_GUESTS` | the directory of built guests | `$TANDEM_CACHE/guests` |
//! | `TANDEM_CACHE` | what test runs keep between each other | `$XDG_CACHE_HOME/tandem` or `~/.cache/tandem` |
//! | `TANDEM_TEST_DIR` | where instances live (a short path: sockets have 107 bytes) | `/tmp` |
//! | `TANDEM_KEEP` | if set, a failed test's directory is kept | |

pub mod builder;
pub mod cgroup;
pub mod container;
pub mod deadline;
pub mod error;
pub mod events;
pub mod exec;
pub mod generation;
pub mod guests;
pub mod http;
pub mod image;
pub mod instance;
pub mod leftovers;
pub mod netns;
pub mod session;
pub mod setup;
pub mod spec;
pub mod stats;
pub mod stdio;
pub mod task;
pub mod terminal;

mod cleanup;
mod config;
mod control;
mod daemon;
mod process;

pub use builder::ContainerBuilder;
pub use container::{Container, Output};
pub use error::{Error, Result};
pub use events::{Event, EventKind, Events};
pub use exec::{Exec, ExecBuilder};
pub use generation::Generation;
pub use instance::Containerd;
pub use leftovers::{Leftover, Leftovers};
pub use netns::NetNs;
pub use setup::{ContainerdBuilder, Cri};
pub use task::Task;
pub use terminal::Terminal;

/// containerd's gRPC messages and clients, for requests that the harness has no helper for.
pub use containerd_client as api;
/// The gRPC status codes that [`Error::code`] answers.
pub use tonic::Code;

/// Runtime name of the shim under test.
pub const TANDEM: &str = "io.containerd.tandem.v1";
/// Runtime name of containerd's default shim.
pub const RUNC: &str = "io.containerd.runc.v2";

/// Makes two tests, `<name>::v1` and `<name>::v2`, of one scenario: one for each [`Generation`] of containerd.
///
/// ```text
/// tandem_integration::on_both_generations! {
///     /// What must hold.
///     async fn a_container_echoes(generation: Generation) -> Result<()> {
///         let ctd = Containerd::start(generation).await?;
///         ctd.stop().await
///     }
/// }
/// ```
///
/// The calling crate needs `tokio` with its macros. The module is `cfg(test)`, so that clippy's leave to unwrap
/// in tests holds in the scenario too.
#[macro_export]
macro_rules! on_both_generations {
    ($($(#[$meta:meta])* async fn $name:ident($generation:ident: Generation) $(-> $answer:ty)? $body:block)+) => {$(
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$meta])*
            async fn scenario($generation: $crate::Generation) $(-> $answer)? $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn v1() $(-> $answer)? {
                scenario($crate::Generation::V1).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn v2() $(-> $answer)? {
                scenario($crate::Generation::V2).await
            }
        }
    )+};
}
