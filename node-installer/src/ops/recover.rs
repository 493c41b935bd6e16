//! The beginning of every operation: what an earlier one left unfinished is continued or undone.

use tracing::{info, warn};

use super::Context;
use crate::{
    detect::Detected,
    error::{Error, Result},
    service::{self, Restarted},
    txn::{Journal, Operation, Phase},
};

/// How often an operation is continued before it is undone: something in it may be what ends the installer.
const MAX_RESUMED: u32 = 3;

/// Takes care of a journal that an earlier run left. Answers it where its operation can be continued: all files are as
/// it wants them, and it aims at `target`.
///
/// # Errors
/// Where it cannot be undone; the journal stays for the next run.
pub(super) async fn recover(context: &Context, detected: &Detected, target: Option<&str>) -> Result<Option<Journal>> {
    let Context { store, host, .. } = context;
    let Some(journal) = store.journal()? else {
        return Ok(None);
    };
    let complete = match store.record()? {
        Some(record) => record.id == journal.id,
        // Only the completion of an uninstall takes the record away.
        None => journal.operation == Operation::Uninstall,
    };
    if complete {
        store.close_journal()?;
        store.collect()?;
        return Ok(None);
    }
    let continues = target == Some(journal.target.as_str())
        && journal.operation == Operation::Install
        && journal.phase >= Phase::Restarting
        && journal.resumed < MAX_RESUMED
        && journal.is_applied(host)?;
    if continues {
        info!("continuing the interrupted operation {}", journal.id);
        return Ok(Some(journal));
    }
    warn!("undoing the interrupted operation {}", journal.id);
    let outcome = undo(context, detected, &journal).await;
    info!("{outcome}");
    match store.journal()? {
        None => Ok(None),
        Some(_) => Err(Error::InUse(outcome)),
    }
}

/// Goes back to the state before the operation, and says in a sentence what became of it. The journal is closed only
/// when all of it is undone.
pub(super) async fn undo(context: &Context, detected: &Detected, journal: &Journal) -> String {
    let foreign = match journal.undo(&context.host, &context.store) {
        Ok(foreign) => foreign,
        Err(error) => return format!("The earlier files could NOT be restored: {error}; run the installer again"),
    };
    let mut outcome = "The earlier files were restored".to_owned();
    if !foreign.is_empty() {
        let paths: Vec<String> = foreign.iter().map(|path| path.display().to_string()).collect();
        outcome += &format!(
            " but for those that were changed by others meanwhile: {}",
            paths.join(", ")
        );
    }
    if journal.phase >= Phase::Restarting && journal.changes_config() && !context.options.offline {
        let restarted = match context.cri(detected) {
            Ok(cri) => service::restart(&context.host, &detected.restart, &cri).await,
            Err(error) => Err(error),
        };
        match restarted {
            Ok(Restarted::Done) => outcome += ", containerd was restarted with them",
            Ok(Restarted::Awaited(how)) => outcome += &format!(", containerd must be restarted: {how}"),
            Err(error) => {
                return format!(
                    "{outcome}, but containerd could NOT be restarted with them ({error}); run the installer again, or \
                     look at the log of containerd's service"
                );
            }
        }
    }
    if let Err(error) = context.store.close_journal().and_then(|()| context.store.collect()) {
        return format!("{outcome}, but the journal could not be closed: {error}");
    }
    outcome + "; the node is as before"
}

/// Wraps a failure after which `undo` was done.
pub(super) async fn undone(context: &Context, detected: &Detected, journal: &Journal, cause: Error) -> Error {
    warn!("{cause}; going back");
    Error::RolledBack {
        outcome: undo(context, detected, journal).await,
        cause: Box::new(cause),
    }
}
