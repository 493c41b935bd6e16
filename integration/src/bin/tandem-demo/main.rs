//! `tandem-demo`: Wasm and Linux containers side by side on a private containerd, and a table of how it went.
//!
//! It needs root, the built shim and the built guests; `make demo` provides the latter two. The machine's own
//! containerd is not touched, and what the demo makes it takes away again, also after an error or Ctrl-C.

mod held;
mod memory;
mod run;
mod scenario;
mod table;
mod terminal;
mod workload;

use std::process::ExitCode;

use tandem_integration::{Containerd, Error, Generation, Result, generation::tandem_shim};

/// Lines of containerd's log that are shown after a failure: the reason is among the last ones.
const LOG_LINES: usize = 12;

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::failure(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    check_machine()?;
    terminal::step("starting a private containerd");
    let ctd = Containerd::start(Generation::V1).await?;
    let shown = tokio::select! {
        shown = scenario::show(&ctd) => shown,
        _ = tokio::signal::ctrl_c() => Err(Error::Setup("interrupted; everything was taken away".into())),
    };
    match shown {
        Ok(()) => {
            ctd.stop().await?;
            terminal::step("cleaned up: no process, mount, cgroup, socket or file is left");
            Ok(())
        }
        Err(error) => {
            terminal::log_end(&ctd.log(), LOG_LINES);
            ctd.discard();
            Err(error)
        }
    }
}

/// What would fail later with a message that helps less.
fn check_machine() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Setup("containers need root: run `make demo` as root".into()));
    }
    let shim = tandem_shim();
    if !shim.is_file() {
        return Err(Error::Setup(format!(
            "the shim {} is missing: build it with `make build`, or let TANDEM_SHIM name it",
            shim.display()
        )));
    }
    Ok(())
}
