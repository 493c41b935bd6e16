//! The removal of everything that an installation brought.

use std::{fs, io, time::Duration};

use tracing::{info, warn};

use super::{
    Context,
    install::{lock, remove_records},
    recover::{recover, undone},
    verify::{Before, require_alive},
};
use crate::{
    detect::Detected,
    error::{Error, Result},
    plan::{now, without_ours},
    service::{self, READY, Restarted},
    txn::{Change, Journal, Operation, Phase, Record, Role, State, Want, Wanted, digest, prepare},
};

/// How long CRI may take to forget a handler.
const FORGET: Duration = Duration::from_secs(60);

/// Restores what was before Tandem: files that are as the installer left them byte for byte; of files that somebody
/// else has changed since, only what is ours goes.
///
/// # Errors
/// [`Error::InUse`] while pods of this runtime run, unless forced; [`Error::RolledBack`] where the node could not do
/// without.
pub async fn uninstall(context: &Context) -> Result<String> {
    let detected = context.detect().await?;
    let options = &context.options;
    if !context.host.exists(options.records()) {
        // An uninstall that was killed at its very end may have left the directory above, empty.
        remove_records(context)?;
        return Ok("nothing is installed".into());
    }
    let _lock = lock(context)?;
    recover(context, &detected, None).await?;
    let Some(record) = context.store.record()? else {
        remove_state(context)?;
        return Ok("nothing was installed; left-over records were removed".into());
    };
    if !options.offline && !options.force {
        require_unused(context, &detected).await?;
    }
    let wanted = wishes(context, &record)?;
    let changes: Vec<Change> = prepare(&context.host, &context.store, &wanted)?;
    let changes = to_pristine(&record, &wanted, changes);
    let mut journal = Journal::new(Operation::Uninstall, "uninstall", changes, None);
    context.store.write_journal(&journal)?;
    let done = remove(context, &detected, &mut journal, &wanted).await;
    let outcome = match done {
        Ok(outcome) => outcome,
        Err(cause) => return Err(undone(context, &detected, &journal, cause).await),
    };
    context.store.commit(&journal)?;
    remove_state(context)?;
    Ok(outcome)
}

async fn remove(context: &Context, detected: &Detected, journal: &mut Journal, wanted: &[Wanted]) -> Result<String> {
    journal.apply(&context.host, &context.store, wanted, None)?;
    let gone = "uninstalled".to_owned();
    if context.options.offline || !journal.changes_config() {
        return Ok(gone);
    }
    let cri = context.cri(detected)?;
    let before = Before {
        containers: cri.running().await.unwrap_or_default(),
        time: now(),
    };
    journal.phase = Phase::Restarting;
    journal.running.clone_from(&before.containers);
    context.store.write_journal(journal)?;
    match service::restart(&context.host, &detected.restart, &cri).await? {
        // The files are gone; the daemon that still knows the handler merely fails pods that nobody creates.
        Restarted::Awaited(how) => {
            return Ok(format!(
                "{gone}; containerd forgets the handler when it is restarted: {how}"
            ));
        }
        Restarted::Done => {}
    }
    cri.wait_ready(READY).await?;
    cri.wait_handler(&context.options.handler, false, FORGET).await?;
    require_alive(&cri, &before).await?;
    Ok(format!("{gone}; containerd was restarted, all containers run on"))
}

/// Refuses while sandboxes of the handler are ready.
async fn require_unused(context: &Context, detected: &Detected) -> Result<()> {
    let pods = context.cri(detected)?.pods_of(&context.options.handler).await?;
    if pods.is_empty() {
        return Ok(());
    }
    let name = |pod: &k8s_cri::v1::PodSandbox| {
        let metadata = pod.metadata.clone().unwrap_or_default();
        format!("{}/{}", metadata.namespace, metadata.name)
    };
    let names: Vec<String> = pods.iter().map(name).collect();
    Err(Error::InUse(format!(
        "{} pods of the runtime {:?} run on this node and would lose it: {}. Nothing was changed. Delete or move them, or \
         use --drain to evict them or --force to leave them behind",
        names.len(),
        context.options.handler,
        names.join(", "),
    )))
}

/// Wishes that lead back to the pristine states, in the reverse order of the changes.
fn wishes(context: &Context, record: &Record) -> Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    for change in record.changes.iter().rev() {
        let now = State::of(&context.host, &change.path)?;
        let want = if now == change.after {
            match &change.pristine {
                State::Absent => Want::Absent,
                State::File { digest, .. } => Want::Text(context.store.read_copy(digest)?),
                State::Link { target } => Want::Link(target.clone()),
                State::Dir => Want::Dir,
            }
        } else if change.role == Role::Config && matches!(now, State::File { .. }) {
            info!(
                "{} was changed since: only Tandem's part is removed",
                change.path.display()
            );
            let text = context.host.read_text(&change.path)?.unwrap_or_default();
            let original = match &change.pristine {
                State::File { digest, .. } => {
                    Some(String::from_utf8_lossy(&context.store.read_copy(digest)?).into_owned())
                }
                _ => None,
            };
            match without_ours(&change.path, &text, original.as_deref())? {
                rest if rest.trim().is_empty() && change.pristine == State::Absent => Want::Absent,
                rest => Want::Text(rest.into_bytes()),
            }
        } else {
            if now != change.pristine {
                warn!(
                    "{} was changed by somebody else and is left alone",
                    change.path.display()
                );
            }
            continue;
        };
        wanted.push(Wanted {
            path: change.path.clone(),
            role: change.role,
            want,
            pristine: None,
        });
    }
    Ok(wanted)
}

/// Where the pristine file is restored, its mode and owner are too.
fn to_pristine(record: &Record, wanted: &[Wanted], changes: Vec<Change>) -> Vec<Change> {
    let restore = |mut change: Change| {
        let known = record.change(&change.path);
        let text = wanted
            .iter()
            .find(|wish| wish.path == change.path)
            .map(|wish| &wish.want);
        if let (Some(known), Some(Want::Text(bytes))) = (known, text)
            && let State::File { digest: pristine, .. } = &known.pristine
            && *pristine == digest(bytes)
        {
            change.after = known.pristine.clone();
        }
        change
    };
    changes.into_iter().map(restore).collect()
}

/// Removes the records, the cache of compiled code and the shim's state, and directories that are empty then.
fn remove_state(context: &Context) -> Result<()> {
    let Context { host, options, .. } = context;
    let dirs = [
        options.state_dir.join("aot"),
        options.run_dir.clone(),
        options.records(),
    ];
    for dir in dirs {
        let here = host.path(&dir)?;
        match fs::remove_dir_all(&here) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A pod that was left behind by force still uses it; it is on a tmpfs.
            Err(error) if dir == options.run_dir => warn!("{} was not removed: {error}", dir.display()),
            Err(error) => return Err(Error::io("remove", here)(error)),
        }
    }
    remove_records(context)
}
