//! Installation and upgrade.

use std::time::Duration;

use tracing::{info, warn};

use super::{
    Context,
    records::tidy,
    recover::{announce, recover, running_before, undone},
    verify::{RunningBefore, require_verified},
    versions::collect,
};
use crate::{
    detect::{Detected, RestartBy},
    error::Result,
    kubernetes::{READY, READY_ALIAS, VERSION},
    plan::{self, Candidate, Plan},
    service::{self, Restarted},
    txn::{DesiredPath, DesiredState, Journal, Operation, Phase, Writer},
};

/// The installed shim prints its version at once; a node under load may take longer.
const SMOKE: Duration = Duration::from_secs(30);

/// What an installation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as desired; it was verified again.
    Unchanged,
    /// Installed or upgraded, and verified.
    Installed,
    /// The files are in place; the operator must restart containerd, as told. The next run goes on from there.
    Awaiting(&'static str),
}

/// Works out what an installation would do.
///
/// # Errors
/// A host on which it would fail.
pub async fn plan(context: &Context) -> Result<(Detected, Plan)> {
    let (detected, candidate, store) = begin(context).await?;
    let plan = plan::install(&context.host, &context.options, &detected, &store, candidate).await;
    tidy(context, &store)?;
    Ok((detected, plan?))
}

/// Says what an installation would do.
///
/// # Errors
/// As [`plan`].
pub async fn plan_install(context: &Context) -> Result<String> {
    let (detected, plan) = plan(context).await?;
    let mut text = announce(context, Some(&plan.target))?;
    text += &plan::render(&plan.changes, &plan.desired, &detected, &context.host)?;
    if !context.options.offline {
        text += "verify: run a Wasm container through CRI, and go back where that fails\n";
        if let Some(node) = &context.options.node {
            text += &format!("label node {node}: {READY}, {READY_ALIAS}, {VERSION}\n");
        }
    }
    Ok(text)
}

/// What an installation and the plan of one begin with.
async fn begin(context: &Context) -> Result<(Detected, Candidate, Writer)> {
    let detected = context.detect().await?;
    context
        .host
        .require_writable(detected.preset, &context.options.records(), false)?;
    let candidate = Candidate::read(&context.options.shim).await?;
    Ok((detected, candidate, context.store.lock()?))
}

/// Installs or upgrades, verifies, and goes back to the earlier state where anything fails.
///
/// # Errors
/// The reason; [`Error::RolledBack`] where something had been changed already.
pub async fn install(context: &Context) -> Result<Outcome> {
    let (detected, candidate, store) = begin(context).await?;
    let target = plan::target(&candidate, &context.options, &detected);
    if let Some(mut journal) = recover(context, &store, &detected, Some(&target)).await? {
        // An operator may take days; every look in the meantime comes by here.
        if !matches!(detected.restart, RestartBy::Operator(_)) {
            journal.resumed += 1;
            store.write_journal(&journal)?;
        }
        return finish(context, &store, &detected, &mut journal).await;
    }
    let plan = match plan::install(&context.host, &context.options, &detected, &store, candidate).await {
        Ok(plan) => plan,
        Err(refusal) => {
            tidy(context, &store)?;
            return Err(refusal);
        }
    };
    if plan.changes.is_empty() {
        store.collect()?;
        if !context.options.offline {
            require_verified(context, &store, &detected, &RunningBefore::default()).await?;
        }
        return Ok(Outcome::Unchanged);
    }
    let mut journal = Journal::new(
        Operation::Install,
        &plan.target,
        plan.changes.clone(),
        Some(plan.record.clone()),
    );
    store.write_journal(&journal)?;
    match apply(context, &store, &detected, &plan, &journal).await {
        Ok(()) => finish(context, &store, &detected, &mut journal).await,
        Err(cause) => Err(undone(context, &store, &detected, &journal, cause).await),
    }
}

/// Makes the changes: first the shim, then, once it has run on the host, everything that makes containerd use it.
async fn apply(context: &Context, store: &Writer, detected: &Detected, plan: &Plan, journal: &Journal) -> Result<()> {
    let label = context.label_from(detected);
    let is_program = |item: &DesiredPath| matches!(item.state, DesiredState::Program { .. });
    let program = plan
        .desired
        .iter()
        .find(|item| is_program(item))
        .map(|item| item.path.clone());
    let shim = journal
        .changes
        .iter()
        .position(|change| Some(&change.path) == program.as_ref());
    let first = shim.map_or(0, |index| index + 1);
    let part = |changes: &[_]| Journal {
        changes: changes.to_vec(),
        ..journal.clone()
    };
    part(&journal.changes[..first]).apply(&context.host, store, &plan.desired, label.as_deref())?;
    if let Some(program) = program.filter(|_| shim.is_some()) {
        context.host.run(&program, &["-v"], SMOKE).await?.success()?;
        info!("{} runs on this host", program.display());
    }
    part(&journal.changes[first..]).apply(&context.host, store, &plan.desired, label.as_deref())
}

/// Restart, verification, commit; also of an operation that an earlier run began.
async fn finish(context: &Context, store: &Writer, detected: &Detected, journal: &mut Journal) -> Result<Outcome> {
    match finish_or_fail(context, store, detected, journal).await {
        Ok(outcome) => Ok(outcome),
        Err(cause) => Err(undone(context, store, detected, journal, cause).await),
    }
}

async fn finish_or_fail(
    context: &Context,
    store: &Writer,
    detected: &Detected,
    journal: &mut Journal,
) -> Result<Outcome> {
    if !context.options.offline {
        let mut before = running_before(detected, journal);
        if journal.changes_config() && journal.phase < Phase::Verifying {
            match restart(context, store, detected, journal).await? {
                Restart::Awaited(how) => return Ok(Outcome::Awaiting(how)),
                Restart::DoneEarlier => {}
                Restart::Done => {
                    before = running_before(detected, journal);
                    before.ended.until = None;
                }
            }
            journal.phase = Phase::Verifying;
            store.write_journal(journal)?;
        }
        require_verified(context, store, detected, &before).await?;
    }
    store.commit(journal)?;
    if !context.options.offline
        && let Err(error) = collect(context, store, detected).await
    {
        // The node is fine; the next run tries again.
        warn!("old versions were not collected: {error}");
    }
    Ok(Outcome::Installed)
}

/// How containerd came to read its changed configuration.
enum Restart {
    /// This run has had it restarted.
    Done,
    /// An interrupted run had.
    DoneEarlier,
    /// The operator must, as told.
    Awaited(&'static str),
}

/// Restarts containerd, once: the journal knows which containers ran before that.
async fn restart(context: &Context, store: &Writer, detected: &Detected, journal: &mut Journal) -> Result<Restart> {
    let cri = context.cri(detected)?;
    if journal.phase == Phase::Restarting {
        // An interrupted run may have come as far as the restart; the running daemon's answer tells.
        if cri.has_handler(&context.options.handler).await.unwrap_or(false) {
            return Ok(Restart::DoneEarlier);
        }
    } else {
        journal.running_at = plan::now();
        journal.running = cri.running_if_up().await?;
        journal.phase = Phase::Restarting;
        store.write_journal(journal)?;
    }
    Ok(match service::restart(&context.host, &detected.restart, &cri).await? {
        Restarted::Done => Restart::Done,
        Restarted::Awaited(how) => Restart::Awaited(how),
    })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unchanged => f.write_str("everything was installed already; verified"),
            Self::Installed => f.write_str("installed and verified"),
            Self::Awaiting(how) => write!(f, "installed; containerd must be restarted by the operator: {how}"),
        }
    }
}

/// For `install --offline`.
impl Outcome {
    /// The sentence for an installation without a running containerd.
    pub fn offline(self) -> &'static str {
        match self {
            Self::Unchanged => "everything was installed already; not verified",
            _ => "installed; containerd will use it from its next start; not verified",
        }
    }
}
