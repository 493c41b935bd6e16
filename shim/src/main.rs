//! `containerd-shim-tandem-v1`: see the library for what it does.

use std::process::ExitCode;

use tandem_shim::binary;
use tandem_shim::bootstrap::{delete, info, start};
use tandem_shim::cli::{Action, Args};
use tandem_shim::fault::Result;
use tandem_shim::guest;
use tandem_shim::zygote::hook;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // containerd shows the user what `start` and `delete` print.
            eprintln!("containerd-shim-tandem-v1: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // The two roles that nobody calls by hand are told by the program's name, which no flag can be mistaken for.
    let mut args = std::env::args_os();
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some(guest::NAME) => std::process::exit(guest::run()?),
        Some(hook::NAME) => return hook::run(args),
        _ => {}
    }
    let args = std::env::args_os().skip(1);
    let args = Args::parse(args.map(|arg| arg.to_string_lossy().into_owned()))?;
    // The others are gone before they have anything to do with a container, and nobody can look into them who lacks one
    // of their capabilities, which are all.
    if !matches!(args.action, Action::Info | Action::Version) {
        binary::protect()?;
    }
    match args.action {
        Action::Start => start::run(&args),
        Action::Delete => delete::run(&args),
        Action::Serve => start::serve(&args),
        Action::Info => info::run(),
        Action::Version => {
            info::version();
            Ok(())
        }
    }
}
