//! `tandem-conformance`: Kubernetes' own CRI conformance suite, once with runc and once with Tandem as the runtime of
//! the pods, on one private containerd 2.x. A spec that ends worse with Tandem makes the run fail.
//!
//! - [`options`]: the command line
//! - [`isolation`]: namespaces of its own, so that nothing of the machine is touched
//! - [`node`]: containerd, pod network and registry
//! - [`registry`], [`images`], [`content`]: where the suite pulls from, what, and what that is made of
//! - [`suite`]: one run and its report
//! - [`table`]: both runs side by side
//! - [`child`]: programs that do not outlive this one

mod child;
mod content;
mod images;
mod isolation;
mod node;
mod options;
mod registry;
mod suite;
mod table;

use std::{fs, path::Path, process::ExitCode, time::Instant};

use tandem_integration::{Error, Leftovers, Result, deadline, generation::tandem_shim};
use tokio::signal::unix::{SignalKind, signal};

use node::Node;
use options::Options;
use suite::{Outcome, Outcomes, Run, Suite};

/// The runtime handlers of containerd's configuration: the peer, then ours.
pub const HANDLERS: [&str; 2] = ["runc", "tandem"];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => return failed(&error),
    };
    // Namespaces are entered before there is a second thread, and all children are those of this one: the kernel ends
    // them when the thread that started them ends.
    let runtime = isolation::enter().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|cause| Error::Setup(format!("no event loop: {cause}")))
    });
    let done = runtime.and_then(|runtime| {
        runtime.block_on(async {
            // An interrupted run is dropped, and with it its containerd and all that belongs to it.
            tokio::select! {
                done = run(&options) => done,
                () = interrupted() => Err(Error::Setup("interrupted".into())),
            }
        })
    });
    match done {
        Ok(code) => code,
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
    eprintln!("tandem-conformance: {error}");
    ExitCode::FAILURE
}

async fn run(options: &Options) -> Result<ExitCode> {
    let shim = tandem_shim();
    if !shim.is_file() {
        let shim = shim.display();
        return Err(Error::Setup(format!(
            "the shim {shim} is missing: `make build`, or let TANDEM_SHIM name it"
        )));
    }
    let suite = Suite::find()?;
    // Programs run in it, so that its name must not depend on where this one was started.
    let reports = std::path::absolute(&options.reports).unwrap_or(options.reports.clone());
    fs::create_dir_all(&reports)
        .map_err(|cause| Error::Setup(format!("cannot make {}: {cause}", reports.display())))?;
    eprintln!("starting containerd, a pod network and a registry");
    let node = Node::start(&suite).await?;
    let mut passes = Vec::new();
    let mut left = Vec::new();
    for handler in HANDLERS {
        if options.only.as_deref().is_some_and(|only| only != handler) {
            continue;
        }
        let run = Run {
            handler,
            parallel: options.parallel,
            focus: options.focus.as_deref(),
            reports: &reports,
        };
        let (outcomes, remains) = pass(&suite, &node, &run).await?;
        passes.push(outcomes);
        left.extend(remains);
    }
    // A log that cannot be copied must not cost the result.
    let _ = fs::copy(node.containerd.home().log(), reports.join("containerd.log"));
    node.stop().await;
    for thing in &left {
        eprintln!("left behind: {thing}");
    }
    let as_good = match passes.as_slice() {
        [runc, tandem] => report(options, &reports, runc, tandem)?,
        _ => true,
    };
    eprintln!("reports and logs: {}", reports.display());
    Ok(if as_good && left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the suite with one runtime; answers what it reported and what it left behind.
async fn pass(suite: &Suite, node: &Node, run: &Run<'_>) -> Result<(Outcomes, Vec<String>)> {
    let handler = run.handler;
    let before = Leftovers::before(&node.containerd).await?;
    let remained = node.remains();
    let since = Instant::now();
    eprintln!("running the suite with {handler}");
    let outcomes = suite.run(node, run).await?;
    let count = |outcome| outcomes.values().filter(|ended| ended.outcome == outcome).count();
    let [passed, failed, skipped] = [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(count);
    let seconds = since.elapsed().as_secs();
    eprintln!("  {handler}: {passed} passed, {failed} failed, {skipped} skipped, in {seconds} s");
    let removed = suite.remove_pods(node).await;
    let mut left: Vec<String> = match before.assert_clean().await {
        Ok(()) => Vec::new(),
        Err(Error::Leftovers(left)) => left.iter().map(ToString::to_string).collect(),
        Err(error) => return Err(error),
    };
    left.extend(removed.err().map(|error| error.to_string()));
    let new = || {
        let mut remains = node.remains();
        remains.retain(|thing| !remained.contains(thing));
        remains
    };
    // What is on its way out is not left behind.
    let _ = deadline::until("nothing left", deadline::SOON, || new().is_empty().then_some(())).await;
    left.extend(new());
    Ok((
        outcomes,
        left.into_iter()
            .map(|thing| format!("{thing} (by {handler})"))
            .collect(),
    ))
}

/// Tells how the runs compare; answers whether Tandem's is as good as runc's.
fn report(options: &Options, reports: &Path, runc: &Outcomes, tandem: &Outcomes) -> Result<bool> {
    let table = table::markdown(runc, tandem);
    child::write(&reports.join("table.md"), &table)?;
    if let Some(document) = &options.document {
        let name = document.display();
        let old = fs::read_to_string(document).map_err(|cause| Error::Setup(format!("cannot read {name}: {cause}")))?;
        let new = table::replaced(&old, &table)
            .ok_or_else(|| Error::Setup(format!("{name} has no place for the table of results")))?;
        if options.update {
            child::write(document, &new)?;
        } else if new != old {
            eprintln!("{name} states other results: `make conformance UPDATE=1` writes these into it");
        }
    }
    let worse = table::worse(runc, tandem);
    for (name, why) in &worse {
        eprintln!("worse than with runc: {name}\n    {}", why.replace('\n', "\n    "));
    }
    eprintln!("specs that end worse than with runc: {}", worse.len());
    Ok(worse.is_empty())
}
