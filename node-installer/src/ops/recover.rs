//! The beginning of every operation: what an earlier one left unfinished is continued or undone.

use std::fmt::Write as _;

use tracing::{info, warn};

use super::{Context, verify::RunningBefore};
use crate::{
    cri::Ended,
    detect::{Detected, RestartBy},
    error::{Error, Result},
    plan::now,
    service::{self, Restarted},
    txn::{Journal, Operation, Phase, Store, Writer},
};

/// How often an operation is continued before it is undone: something in it may be what ends the installer.
const MAX_RESUMED: u32 = 3;

/// What became of the node when an operation was undone.
struct Undone {
    /// A sentence for people.
    outcome: String,
    /// Containers that ran before and that a restart of containerd ended.
    lost: Vec<String>,
}

/// Takes care of a journal that an earlier run left. Returns it where its operation can be continued: all files are as
/// it wants them, and it aims at `target`.
///
/// # Errors
/// Where it cannot be undone; the journal stays for the next run. [`Error::Verify`] where it is undone, but containers
/// were lost by its restarts: whoever runs the installer must learn of them.
pub(super) async fn recover(
    context: &Context,
    store: &Writer,
    detected: &Detected,
    target: Option<&str>,
) -> Result<Option<Journal>> {
    let Some(journal) = unfinished(store)? else {
        // A complete operation may have left its journal, and with it copies that nobody needs.
        if store.journal()?.is_some() {
            store.close_journal()?;
            store.collect()?;
        }
        return Ok(None);
    };
    if continues(context, &journal, target)? {
        info!("continuing the interrupted operation {}", journal.id);
        return Ok(Some(journal));
    }
    warn!("undoing the interrupted operation {}", journal.id);
    let Undone { outcome, lost } = undo(context, store, detected, &journal, running_before(detected, &journal)).await;
    info!("{outcome}");
    if store.journal()?.is_some() {
        return Err(Error::InUse(outcome));
    }
    if lost.is_empty() {
        return Ok(None);
    }
    Err(Error::Verify {
        step: "containers",
        why: format!(
            "an interrupted {} had containerd restarted, and that ended containers that ran before: {}. {outcome}",
            journal.operation,
            lost.join(", ")
        ),
    })
}

/// The journal of an operation that did not come to its end.
///
/// # Errors
/// Records that cannot be read.
pub(super) fn unfinished(store: &Store) -> Result<Option<Journal>> {
    let Some(journal) = store.journal()? else {
        return Ok(None);
    };
    let complete = match store.record()? {
        Some(record) => record.id == journal.id,
        // Only the completion of an uninstall takes the record away.
        None => journal.operation == Operation::Uninstall,
    };
    Ok(Some(journal).filter(|_| !complete))
}

/// Whether an interrupted operation is continued by one that aims at `target`.
///
/// # Errors
/// Files that cannot be read.
pub(super) fn continues(context: &Context, journal: &Journal, target: Option<&str>) -> Result<bool> {
    Ok(target == Some(journal.target.as_str())
        && journal.operation == Operation::Install
        && journal.phase >= Phase::Restarting
        && journal.resumed < MAX_RESUMED
        && journal.is_applied(&context.host)?)
}

/// What a dry run says of an interrupted operation, empty where there is none.
///
/// # Errors
/// Records or files that cannot be read.
pub(super) fn announce(context: &Context, target: Option<&str>) -> Result<String> {
    let Some(journal) = unfinished(&context.store)? else {
        return Ok(String::new());
    };
    let operation = journal.operation;
    if continues(context, &journal, target)? {
        return Ok(format!(
            "continue the interrupted {operation}: restart where needed, verify\n"
        ));
    }
    let mut text = format!("undo the interrupted {operation} first; what is said below changes with that\n");
    for change in journal.changes.iter().rev() {
        // Writing into a string does not fail.
        let _ = writeln!(text, "  restore {}", change.path.display());
    }
    Ok(text)
}

/// The containers that ran before the restart of an operation. None where the operator restarts: that ends the whole
/// node, and is no loss by this installer.
pub(super) fn running_before(detected: &Detected, journal: &Journal) -> RunningBefore {
    if matches!(detected.restart, RestartBy::Operator(_)) {
        return RunningBefore::default();
    }
    // What ended long after the restart, ended by itself. A journal of an earlier version does not say when that was.
    let longest = i64::try_from(service::LONGEST.as_nanos()).unwrap_or(i64::MAX);
    RunningBefore {
        containers: journal.running.clone(),
        ended: Ended {
            since: journal.running_at,
            until: (journal.running_at != 0).then(|| journal.running_at.saturating_add(longest)),
        },
    }
}

/// Goes back to the state before the operation, and says in a sentence what became of it. The journal is closed only
/// when all of it is undone.
async fn undo(
    context: &Context,
    store: &Writer,
    detected: &Detected,
    journal: &Journal,
    before: RunningBefore,
) -> Undone {
    let failed = |outcome: String| Undone {
        outcome,
        lost: Vec::new(),
    };
    let foreign = match journal.undo(&context.host, store) {
        Ok(foreign) => foreign,
        Err(error) => {
            return failed(format!(
                "The earlier files could NOT be restored: {error}; run the installer again"
            ));
        }
    };
    let mut outcome = "The earlier files were restored".to_owned();
    if !foreign.is_empty() {
        let paths: Vec<String> = foreign.iter().map(|path| path.display().to_string()).collect();
        outcome += &format!(
            " but for those that were changed by others meanwhile: {}",
            paths.join(", ")
        );
    }
    let mut lost = Vec::new();
    if journal.phase >= Phase::Restarting && journal.changes_config() && !context.options.offline {
        match restart(context, detected, before).await {
            Ok((Restarted::Done, ended)) => {
                outcome += ", containerd was restarted with them";
                lost = ended;
            }
            Ok((Restarted::Awaited(how), _)) => outcome += &format!(", containerd must be restarted: {how}"),
            Err(error) => {
                return failed(format!(
                    "{outcome}, but the restart of containerd with them failed ({error}); run the installer again, or \
                     look at the log of containerd's service"
                ));
            }
        }
    }
    if let Err(error) = store.close_journal().and_then(|()| store.collect()) {
        return failed(format!("{outcome}, but the journal could not be closed: {error}"));
    }
    outcome += &if lost.is_empty() {
        "; the node is as before".to_owned()
    } else {
        format!(
            "; all else is as before, but the restart ended containers: {}",
            lost.join(", ")
        )
    };
    Undone { outcome, lost }
}

/// Restarts containerd; returns the containers that this restart, or the earlier one, has ended.
async fn restart(context: &Context, detected: &Detected, earlier: RunningBefore) -> Result<(Restarted, Vec<String>)> {
    let cri = context.cri(detected)?;
    let since = now();
    // To go back is worth more than to know what it costs.
    let running = cri.running_if_up().await.unwrap_or_else(|error| {
        warn!("it is not known which containers run before the restart: {error}");
        Vec::new()
    });
    let restarted = service::restart(&context.host, &detected.restart, &cri).await?;
    let mut lost = Vec::new();
    if restarted == Restarted::Done {
        lost = cri.lost(&earlier.containers, earlier.ended).await?;
        lost.extend(cri.lost(&running, Ended { since, until: None }).await?);
        lost.sort();
        lost.dedup();
    }
    Ok((restarted, lost))
}

/// Wraps a failure after which the operation was undone. The cause names containers that its restart ended; here it is
/// about those that run still.
pub(super) async fn undone(
    context: &Context,
    store: &Writer,
    detected: &Detected,
    journal: &Journal,
    cause: Error,
) -> Error {
    warn!("{cause}; going back");
    let Undone { outcome, .. } = undo(context, store, detected, journal, RunningBefore::default()).await;
    Error::RolledBack {
        outcome,
        cause: Box::new(cause),
    }
}
