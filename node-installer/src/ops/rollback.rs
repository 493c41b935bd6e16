//! The return to the version of the shim before the current one.

use super::{
    Context,
    install::lock,
    recover::{recover, undone},
    verify::{Before, verify},
};
use crate::{
    error::{Error, Result},
    plan,
    txn::{Journal, Operation, prepare},
};

/// Lets new pods start with the earlier version. Pods that run keep the one they have, containerd is not restarted.
/// The version that is left is not installed again until another one was, or until `install --force`.
///
/// # Errors
/// Where there is no earlier version, or where it does not pass the verification; the current one stays then.
pub async fn rollback(context: &Context) -> Result<String> {
    let detected = context.detect().await?;
    let _lock = lock(context)?;
    recover(context, &detected, None).await?;
    let Context { host, options, store } = context;
    let none = || Error::Usage("there is no earlier version of the shim on this host to go back to".into());
    let mut record = store.record()?.ok_or_else(none)?;
    let mut left = record.versions.pop().ok_or_else(none)?;
    let earlier = record.versions.last_mut().ok_or_else(none)?;
    earlier.retired = None;
    let name = earlier.name.clone();
    left.retired = Some(plan::now());
    record.held = Some(left.digest.clone());
    // Behind the current one in age, so that it is what a second rollback would leave for good.
    record.versions.insert(0, left);

    let mut wanted = Vec::new();
    plan::link(host, options, &name, &mut wanted)?;
    let changes = prepare(host, store, &wanted)?;
    changes.iter().for_each(|change| record.absorb(change));
    let journal = Journal::new(Operation::Rollback, "rollback", changes, Some(record));
    store.write_journal(&journal)?;
    let done = async {
        journal.apply(host, store, &wanted, None)?;
        if options.offline {
            return Ok(());
        }
        verify(context, &detected, &Before::default()).await
    };
    if let Err(cause) = done.await {
        return Err(undone(context, &detected, &journal, cause).await);
    }
    store.commit(&journal)?;
    Ok(name)
}
