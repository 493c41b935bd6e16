//! `containerd-shim-floor-v1`: the null shim, the floor that real shims are measured against.
//!
//! It obeys the whole contract between containerd and a shim and does nothing else: every call is answered at
//! once, no process, namespace, mount or cgroup is ever made. What a benchmark measures with it is therefore
//! the price of containerd itself (and of executing a shim binary at all), which no shim can get below.
//!
//! A task "runs" for no time: Start writes one line to the container's stdout and the task has exited, code 0.
//!
//! - [`verbs`]: what containerd executes (`start`, `delete`, `-info`, `-v`)
//! - [`daemon`]: the process that `start` leaves behind
//! - [`service`]: the Task service it answers
//! - [`events`]: the events it publishes

mod daemon;
mod events;
mod service;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    match verbs::run(std::env::args()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containerd-shim-floor-v1: {error}");
            ExitCode::FAILURE
        }
    }
}
