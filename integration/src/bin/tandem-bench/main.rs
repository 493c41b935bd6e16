//! `tandem-bench`: Tandem next to containerd's default runtime (runc), a plain runwasi shim (the baseline) and the
//! floor (a shim that does nothing), in one run.
//!
//! The runtimes share one private containerd and take turns, task by task, so that a machine that gets slower or
//! faster meanwhile does so for all of them. Numbers are printed as tables for `docs/benchmarks.md`; nothing is
//! asserted, because a number that fails on a busy machine teaches nobody anything.
//!
//! - [`options`]: the command line
//! - [`runtime`]: what is compared, and where its binary is
//! - [`subject`]: a runtime with what it runs
//! - [`cycle`]: one task from create to delete, with the times in between
//! - [`latency`], [`parallel`], [`memory`]: the measures
//! - [`samples`]: medians and percentiles
//! - [`settle`]: quiet between two measurements
//! - [`remains`]: what a peer leaves on the machine
//! - [`machine`], [`report`]: the text

mod cycle;
mod latency;
mod machine;
mod memory;
mod options;
mod parallel;
mod remains;
mod report;
mod runtime;
mod samples;
mod settle;
mod subject;

use std::process::ExitCode;

use tandem_integration::{Containerd, Error, Generation, Result};
use tokio::signal::unix::{SignalKind, signal};

use options::{Measure, Options};
use remains::Remains;
use report::{Report, Row};
use runtime::Runtime;

/// One thread: the client's own scheduling would otherwise be part of every number.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => return failed(&error),
    };
    // An interrupted run is dropped, and with it its containerd and all that belongs to it.
    let done = tokio::select! {
        done = run(&options) => done,
        () = interrupted() => Err(Error::Setup("interrupted".into())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Waits for a terminal's Ctrl-C or a supervisor's SIGTERM; for ever, where the kernel lets neither be watched.
async fn interrupted() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => std::future::pending().await,
    }
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("tandem-bench: {error}");
    ExitCode::FAILURE
}

/// Measures all that is asked for and prints it.
async fn run(options: &Options) -> Result<()> {
    for runtime in &options.runtimes {
        runtime.check()?;
    }
    for &generation in &options.generations {
        generation.binaries()?;
    }
    let machine = machine::describe();
    let mut reports = Vec::new();
    let mut clean = Ok(());
    for &generation in &options.generations {
        let (ctd, report) = measure(options, generation).await?;
        if report.rows.iter().all(|row| row.failures.is_empty()) {
            // What is left behind makes the run fail, but the numbers are as good.
            clean = clean.and(ctd.stop().await);
        } else {
            // What a peer's failed task leaves is not ours to judge.
            ctd.discard();
        }
        reports.push(report);
    }
    println!("{}", report::text(&machine, options, &reports));
    clean
}

async fn measure(options: &Options, generation: Generation) -> Result<(Containerd, Report)> {
    let floor_sockets = tempfile::Builder::new().prefix("tandem-bench-").tempdir();
    let floor_sockets = floor_sockets.map_err(|cause| Error::Setup(format!("no temporary directory: {cause}")))?;
    let mut builder = Containerd::builder(generation).env(runtime::FLOOR_RUN_DIR, floor_sockets.path());
    for (name, binary) in options.runtimes.iter().filter_map(|runtime| runtime.shim()) {
        builder = builder.shim(name, binary);
    }
    let ctd = builder.start().await?;
    let _remains = options.runtimes.contains(&Runtime::Baseline).then(|| Remains::of(&ctd));
    let version = machine::containerd_version(&ctd).await?;
    eprintln!("containerd {version}");

    let mut rows = Vec::new();
    if options.measures_tasks() {
        let subjects = subject::all(&ctd, &options.runtimes).await?;
        eprintln!("  warming up");
        latency::warm_up(&ctd, &subjects).await?;
        rows = subjects.iter().map(Row::of).collect();
        if options.measures(Measure::Latency) {
            let latencies = latency::measure(&ctd, &subjects, options.rounds).await?;
            for (row, latency) in rows.iter_mut().zip(latencies) {
                row.latency = Some(latency);
            }
        }
        if options.measures(Measure::Parallel) {
            let rates = parallel::measure(&ctd, &subjects, options.batches()).await?;
            for (row, rate) in rows.iter_mut().zip(rates) {
                row.rate = Some(rate);
            }
        }
        for (row, subject) in rows.iter_mut().zip(&subjects) {
            row.failures = subject.failures();
        }
    }
    let mut memory = Vec::new();
    if options.measures(Measure::Memory) {
        memory = memory::measure(&ctd, &options.runtimes).await?;
    }
    Ok((ctd, Report { version, rows, memory }))
}
