//! The removal of everything that an installation brought.

use std::{fs, io, path::PathBuf, time::Duration};

use k8s_cri::v1::PodSandbox;
use tracing::{info, warn};

use super::{
    Context,
    records::{remove_empty_state, remove_records},
    recover::{announce, recover, undone},
    verify::{RunningBefore, require_alive},
};
use crate::{
    cri::Ended,
    detect::Detected,
    error::{Error, Result},
    plan::{self, now, without_ours},
    service::{self, READY, Restarted},
    txn::{
        Change, DesiredPath, DesiredState, Journal, Operation, Phase, Record, Role, State, Writer, compare, digest,
        prepare,
    },
};

/// What is said where there is nothing to remove.
const NOTHING: &str = "nothing is installed";
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
        remove_empty_state(context)?;
        return Ok(NOTHING.into());
    }
    let store = context.store.lock()?;
    recover(context, &store, &detected, None).await?;
    let Some(record) = store.record()? else {
        remove_state(context, &store)?;
        return Ok("nothing was installed; left-over records were removed".into());
    };
    if !options.offline && !options.force {
        require_unused(context, &detected).await?;
    }
    let desired = pristine_paths(context, &record)?;
    let changes: Vec<Change> = prepare(&context.host, &store, &desired)?;
    let changes = to_pristine(&record, &desired, changes);
    let mut journal = Journal::new(Operation::Uninstall, "uninstall", changes, None);
    store.write_journal(&journal)?;
    let done = remove(context, &store, &detected, &mut journal, &desired).await;
    let outcome = match done {
        Ok(outcome) => outcome,
        Err(cause) => return Err(undone(context, &store, &detected, &journal, cause).await),
    };
    store.commit(&journal)?;
    remove_state(context, &store)?;
    Ok(outcome)
}

/// Says what an uninstall would do. Nothing is written, and no lock is taken.
///
/// # Errors
/// As [`uninstall`], where that would be refused.
pub async fn plan_uninstall(context: &Context) -> Result<String> {
    let detected = context.detect().await?;
    let Context { host, options, store } = context;
    let mut text = announce(context, None)?;
    let Some(record) = store.record()? else {
        return Ok(if text.is_empty() { NOTHING.into() } else { text });
    };
    if !options.offline && !options.force {
        match require_unused(context, &detected).await {
            Err(Error::InUse(_)) if options.drain => {
                let pods = context.cri(&detected)?.pods_of(&options.handler).await?;
                let names: Vec<String> = pods.iter().map(name).collect();
                text += &format!("evict pods: {}\n", names.join(", "));
            }
            other => other?,
        }
    }
    let desired = pristine_paths(context, &record)?;
    let changes = to_pristine(&record, &desired, compare(host, store, &desired)?);
    text += &plan::render(&changes, &desired, &detected, host)?;
    for dir in state_dirs(context).iter().filter(|dir| host.exists(dir)) {
        text += &format!("remove directory {} with all that is in it\n", dir.display());
    }
    Ok(text)
}

async fn remove(
    context: &Context,
    store: &Writer,
    detected: &Detected,
    journal: &mut Journal,
    desired: &[DesiredPath],
) -> Result<String> {
    journal.apply(&context.host, store, desired, None)?;
    let gone = "uninstalled".to_owned();
    if context.options.offline || !journal.changes_config() {
        return Ok(gone);
    }
    let cri = context.cri(detected)?;
    journal.phase = Phase::Restarting;
    journal.running_at = now();
    journal.running = cri.running_if_up().await?;
    store.write_journal(journal)?;
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
    let before = RunningBefore {
        containers: journal.running.clone(),
        ended: Ended {
            since: journal.running_at,
            until: None,
        },
    };
    require_alive(&cri, &before).await?;
    Ok(format!("{gone}; containerd was restarted, all containers run on"))
}

/// Namespace and name of a pod.
fn name(pod: &PodSandbox) -> String {
    let metadata = pod.metadata.clone().unwrap_or_default();
    format!("{}/{}", metadata.namespace, metadata.name)
}

/// Refuses while sandboxes of the handler are ready.
async fn require_unused(context: &Context, detected: &Detected) -> Result<()> {
    let pods = context.cri(detected)?.pods_of(&context.options.handler).await?;
    if pods.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = pods.iter().map(name).collect();
    Err(Error::InUse(format!(
        "{} pods of the runtime {:?} run on this node and would lose it: {}. Nothing was changed. Delete or move them, or \
         use --drain to evict them or --force to leave them behind",
        names.len(),
        context.options.handler,
        names.join(", "),
    )))
}

/// The pristine states that an uninstall goes back to, in the reverse order of the changes.
fn pristine_paths(context: &Context, record: &Record) -> Result<Vec<DesiredPath>> {
    let mut desired = Vec::new();
    for change in record.changes.iter().rev() {
        let now = State::of(&context.host, &change.path)?;
        let state = if now == change.after {
            match &change.pristine {
                State::Absent => DesiredState::Absent,
                State::File { digest, .. } => DesiredState::Text(context.store.read_copy(digest)?),
                State::Link { target } => DesiredState::Link(target.clone()),
                State::Dir => DesiredState::Dir,
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
                rest if rest.trim().is_empty() && change.pristine == State::Absent => DesiredState::Absent,
                rest => DesiredState::Text(rest.into_bytes()),
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
        desired.push(DesiredPath {
            path: change.path.clone(),
            role: change.role,
            state,
            pristine: None,
        });
    }
    Ok(desired)
}

/// Where the pristine file is restored, its mode and owner are too.
fn to_pristine(record: &Record, desired: &[DesiredPath], changes: Vec<Change>) -> Vec<Change> {
    let restore = |mut change: Change| {
        let known = record.change(&change.path);
        let text = desired
            .iter()
            .find(|item| item.path == change.path)
            .map(|item| &item.state);
        if let (Some(known), Some(DesiredState::Text(bytes))) = (known, text)
            && let State::File { digest: pristine, .. } = &known.pristine
            && *pristine == digest(bytes)
        {
            change.after = known.pristine.clone();
        }
        change
    };
    changes.into_iter().map(restore).collect()
}

/// Directories that an uninstall removes whole.
fn state_dirs(context: &Context) -> [PathBuf; 3] {
    let options = &context.options;
    [
        options.state_dir.join("aot"),
        options.run_dir.clone(),
        options.records(),
    ]
}

/// Removes the records, the cache of compiled code and the shim's state, and directories that are empty then.
fn remove_state(context: &Context, store: &Writer) -> Result<()> {
    let Context { host, options, .. } = context;
    for dir in state_dirs(context) {
        let here = host.path(&dir)?;
        match fs::remove_dir_all(&here) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A pod that was left behind by force still uses it; it is on a tmpfs.
            Err(error) if dir == options.run_dir => warn!("{} was not removed: {error}", dir.display()),
            Err(error) => return Err(Error::io("remove", here)(error)),
        }
    }
    remove_records(context, store)
}
