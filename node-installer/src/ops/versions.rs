//! The end of old versions of the shim.

use tracing::info;

use super::{Context, recover::undone};
use crate::{
    cri::Cri,
    detect::Detected,
    error::Result,
    plan::obsolete,
    txn::{DesiredPath, DesiredState, Journal, Operation, Role, State, Writer, prepare},
};

/// Removes versions of the shim that no pod can need any more.
///
/// # Errors
/// A containerd that does not answer, a file that cannot be removed.
pub(super) async fn collect(context: &Context, store: &Writer, detected: &Detected) -> Result<()> {
    let Context { host, options, .. } = context;
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
    let absent = |path| DesiredPath {
        path,
        role: Role::File,
        state: DesiredState::Absent,
        pristine: None,
    };
    let paths = gone
        .iter()
        .flat_map(|name| [options.version_file(name), options.version_dir(name)]);
    let desired: Vec<DesiredPath> = paths.map(absent).collect();
    let changes = prepare(host, store, &desired)?;
    record.versions.retain(|version| !gone.contains(&version.name));
    record
        .changes
        .retain(|change| !desired.iter().any(|item| item.path == change.path));
    debug_assert!(changes.iter().all(|change| change.after == State::Absent));
    let journal = Journal::new(Operation::Install, "collect", changes, Some(record));
    store.write_journal(&journal)?;
    if let Err(cause) = journal.apply(host, store, &desired, None) {
        return Err(undone(context, store, detected, &journal, cause).await);
    }
    store.commit(&journal)?;
    info!("removed unused versions of the shim: {}", gone.join(", "));
    Ok(())
}
