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
/// Exit code after Ctrl-C, as a shell's: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// How the demo ended, if it did not fail.
enum End {
    Shown,
    Interrupted,
}

#[tokio::main]
async fn main() -> ExitCode {
    demo().await.unwrap_or_else(|error| {
        terminal::failure(&error.to_string());
        ExitCode::FAILURE
    })
}

async fn demo() -> Result<ExitCode> {
    check_machine()?;
    let workloads = workload::all()?;
    terminal::step("starting a private containerd");
    let ctd = Containerd::start(Generation::V1).await?;
    let shown = async {
        scenario::show(&ctd, &workloads).await?;
        terminal::step("looking for anything that was left behind");
        ctd.assert_clean().await.map(|()| End::Shown)
    };
    let ended = tokio::select! {
        ended = shown => ended,
        _ = tokio::signal::ctrl_c() => Ok(End::Interrupted),
    };
    match ended {
        Ok(End::Shown) => {
            ctd.stop().await?;
            terminal::step("clean: no process, mount, cgroup, socket or file is left");
            Ok(ExitCode::SUCCESS)
        }
        Ok(End::Interrupted) => {
            ctd.discard();
            terminal::step("interrupted: everything was taken away");
            Ok(ExitCode::from(INTERRUPTED))
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
