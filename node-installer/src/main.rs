//! The installer's program: reads the command line, runs the command, prints what it says.

use std::process::ExitCode;

use tandem_node_installer::cli::Cli;
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::INFO)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .init();
    // One thread: an installer waits for others most of the time, and its changes of files have one order.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tandem-node-installer: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let cli = Cli::parse(std::env::args().skip(1), std::env::vars());
    match cli.and_then(|cli| runtime.block_on(cli.run())) {
        Ok(text) if text.is_empty() => ExitCode::SUCCESS,
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tandem-node-installer: {error}");
            ExitCode::FAILURE
        }
    }
}
