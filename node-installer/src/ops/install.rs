//! Installation and upgrade.

use std::time::Duration;

use tracing::{info, warn};

use super::{
    Context,
    recover::{recover, undone},
    verify::{Before, verify},
};
use crate::{
    cri::Cri,
    detect::{Detected, RestartBy},
    error::{Error, Result},
    host::Lock,
    plan::{self, Candidate, Plan, obsolete},
    service::{self, Restarted},
    txn::{Journal, Operation, Phase, Role, State, Want, Wanted, prepare, remove_tree_if_empty},
};

/// The installed shim prints its version at once; a node under load may take longer.
const SMOKE: Duration = Duration::from_secs(30);

/// What an installation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as wanted; it was verified again.
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
    let detected = context.detect().await?;
    let dir = context.options.records();
    context.host.require_writable(detected.preset, &dir, false)?;
    let candidate = Candidate::read(&context.options.shim).await?;
    let _lock = Lock::take(&context.host, &dir)?;
    let plan = plan::install(&context.host, &context.options, &detected, &context.store, candidate).await;
    tidy(context)?;
    Ok((detected, plan?))
}

/// Installs or upgrades, verifies, and goes back to the earlier state where anything fails.
///
/// # Errors
/// The reason; [`Error::RolledBack`] where something had been changed already.
pub async fn install(context: &Context) -> Result<Outcome> {
    let detected = context.detect().await?;
    let dir = context.options.records();
    context.host.require_writable(detected.preset, &dir, false)?;
    let candidate = Candidate::read(&context.options.shim).await?;
    let _lock = Lock::take(&context.host, &dir)?;
    let target = plan::target(&candidate, &context.options, &detected);
    if let Some(mut journal) = recover(context, &detected, Some(&target)).await? {
        // An operator may take days; every look in the meantime comes by here.
        if !matches!(detected.restart, RestartBy::Operator(_)) {
            journal.resumed += 1;
            context.store.write_journal(&journal)?;
        }
        return finish(context, &detected, &mut journal).await;
    }
    let plan = match plan::install(&context.host, &context.options, &detected, &context.store, candidate).await {
        Ok(plan) => plan,
        Err(refusal) => {
            tidy(context)?;
            return Err(refusal);
        }
    };
    if plan.changes.is_empty() {
        context.store.collect()?;
        if !context.options.offline {
            verify(context, &detected, &Before::default()).await?;
        }
        return Ok(Outcome::Unchanged);
    }
    let mut journal = Journal::new(
        Operation::Install,
        &plan.target,
        plan.changes.clone(),
        Some(plan.record.clone()),
    );
    context.store.write_journal(&journal)?;
    match apply(context, &detected, &plan, &journal).await {
        Ok(()) => finish(context, &detected, &mut journal).await,
        Err(cause) => Err(undone(context, &detected, &journal, cause).await),
    }
}

/// Makes the changes: first the shim, then, once it has run on the host, everything that makes containerd use it.
async fn apply(context: &Context, detected: &Detected, plan: &Plan, journal: &Journal) -> Result<()> {
    let label = context.label_from(detected);
    let is_program = |wish: &Wanted| matches!(wish.want, Want::Program { .. });
    let program = plan
        .wanted
        .iter()
        .find(|wish| is_program(wish))
        .map(|wish| wish.path.clone());
    let shim = journal
        .changes
        .iter()
        .position(|change| Some(&change.path) == program.as_ref());
    let first = shim.map_or(0, |index| index + 1);
    let part = |changes: &[_]| Journal {
        changes: changes.to_vec(),
        ..journal.clone()
    };
    part(&journal.changes[..first]).apply(&context.host, &context.store, &plan.wanted, label.as_deref())?;
    if let Some(program) = program.filter(|_| shim.is_some()) {
        context.host.run(&program, &["-v"], SMOKE).await?.success()?;
        info!("{} runs on this host", program.display());
    }
    part(&journal.changes[first..]).apply(&context.host, &context.store, &plan.wanted, label.as_deref())
}

/// Restart, verification, commit; also of an operation that an earlier run began.
async fn finish(context: &Context, detected: &Detected, journal: &mut Journal) -> Result<Outcome> {
    match finish_or_fail(context, detected, journal).await {
        Ok(outcome) => Ok(outcome),
        Err(cause) => Err(undone(context, detected, journal, cause).await),
    }
}

async fn finish_or_fail(context: &Context, detected: &Detected, journal: &mut Journal) -> Result<Outcome> {
    let store = &context.store;
    if !context.options.offline {
        let cri = context.cri(detected)?;
        let mut before = Before {
            containers: journal.running.clone(),
            time: plan::now(),
        };
        if journal.changes_config() && journal.phase < Phase::Verifying {
            let resumed = journal.phase == Phase::Restarting;
            // An interrupted run may have come as far as the restart; the running daemon's answer tells.
            let done = resumed && cri.has_handler(&context.options.handler).await.unwrap_or(false);
            if !done {
                if !resumed {
                    // A daemon that is down has nothing to lose.
                    journal.running = cri.running().await.unwrap_or_default();
                    before.containers.clone_from(&journal.running);
                    journal.phase = Phase::Restarting;
                    store.write_journal(journal)?;
                }
                if let Restarted::Awaited(how) = service::restart(&context.host, &detected.restart, &cri).await? {
                    return Ok(Outcome::Awaiting(how));
                }
            }
            journal.phase = Phase::Verifying;
            store.write_journal(journal)?;
        }
        verify(context, detected, &before).await?;
    }
    store.commit(journal)?;
    if !context.options.offline
        && let Err(error) = collect(context, detected).await
    {
        // The node is fine; the next run tries again.
        warn!("old versions were not collected: {error}");
    }
    Ok(Outcome::Installed)
}

/// Removes versions of the shim that no pod can need any more.
///
/// # Errors
/// A containerd that does not answer, a file that cannot be removed.
pub(super) async fn collect(context: &Context, detected: &Detected) -> Result<()> {
    let Context { host, options, store } = context;
    let Some(mut record) = store.record()? else {
        return Ok(());
    };
    let cri: Cri = context.cri(detected)?;
    let oldest = cri
        .pods_of(&options.handler)
        .await?
        .iter()
        .map(|pod| pod.created_at)
        .min();
    let gone: Vec<String> = obsolete(host, options, &record, oldest)
        .into_iter()
        .map(|version| version.name.clone())
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let absent = |path| Wanted {
        path,
        role: Role::File,
        want: Want::Absent,
        pristine: None,
    };
    let paths = gone
        .iter()
        .flat_map(|name| [options.version_file(name), options.version_dir(name)]);
    let wanted: Vec<Wanted> = paths.map(absent).collect();
    let changes = prepare(host, store, &wanted)?;
    record.versions.retain(|version| !gone.contains(&version.name));
    record
        .changes
        .retain(|change| !wanted.iter().any(|wish| wish.path == change.path));
    debug_assert!(changes.iter().all(|change| change.after == State::Absent));
    let journal = Journal::new(Operation::Install, "collect", changes, Some(record));
    store.write_journal(&journal)?;
    if let Err(cause) = journal.apply(host, store, &wanted, None) {
        return Err(undone(context, detected, &journal, cause).await);
    }
    store.commit(&journal)?;
    info!("removed unused versions of the shim: {}", gone.join(", "));
    Ok(())
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

/// Removes what a plan needed: on a host where nothing is installed, nothing stays.
fn tidy(context: &Context) -> Result<()> {
    context.store.collect()?;
    if context.store.record()?.is_none() && context.store.journal()?.is_none() {
        remove_records(context)?;
    }
    Ok(())
}

/// Removes the installer's own records, and the state directory if nothing else is in it.
pub(super) fn remove_records(context: &Context) -> Result<()> {
    let records = context.host.path(&context.options.records())?;
    match std::fs::remove_dir_all(&records) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", records)(error)),
        _ => {}
    }
    let state = context.host.path(&context.options.state_dir)?;
    remove_tree_if_empty(&state, &state)
}

/// Locks are taken by operations, never by their parts.
pub(super) fn lock(context: &Context) -> Result<Lock, Error> {
    Lock::take(&context.host, &context.options.records())
}
