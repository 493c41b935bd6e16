//! The return to the version of the shim before the current one.

use super::{
    Context,
    recover::{announce, recover, undone},
    verify::{RunningBefore, require_verified},
};
use crate::{
    error::{Error, Result},
    kubernetes::VERSION,
    plan,
    txn::{DesiredPath, Journal, Operation, Record, compare, prepare},
};

/// Lets new pods start with the earlier version. Pods that run keep the one they have, containerd is not restarted.
/// The version that is left is not installed again until another one was, or until `install --force`.
///
/// # Errors
/// Where there is no earlier version, or where it does not pass the verification; the current one stays then.
pub async fn rollback(context: &Context) -> Result<String> {
    let detected = context.detect().await?;
    let Context { host, options, .. } = context;
    // The lock would make the directory.
    if !host.exists(options.records()) {
        return Err(nowhere());
    }
    let store = context.store.lock()?;
    recover(context, &store, &detected, None).await?;
    let (mut record, name) = earlier(store.record()?)?;
    let desired = link(context, &name)?;
    let changes = prepare(host, &store, &desired)?;
    changes.iter().for_each(|change| record.absorb(change));
    let journal = Journal::new(Operation::Rollback, "rollback", changes, Some(record));
    store.write_journal(&journal)?;
    let done = async {
        journal.apply(host, &store, &desired, None)?;
        if options.offline {
            return Ok(());
        }
        require_verified(context, &store, &detected, &RunningBefore::default()).await
    };
    if let Err(cause) = done.await {
        return Err(undone(context, &store, &detected, &journal, cause).await);
    }
    store.commit(&journal)?;
    Ok(name)
}

/// Says what a rollback would do. Nothing is written, and no lock is taken.
///
/// # Errors
/// As [`rollback`], where that would be refused.
pub async fn plan_rollback(context: &Context) -> Result<String> {
    let detected = context.detect().await?;
    let (_, name) = earlier(context.store.record()?)?;
    let desired = link(context, &name)?;
    let changes = compare(&context.host, &context.store, &desired)?;
    let mut text = announce(context, None)?;
    text += &plan::render(&changes, &desired, &detected, &context.host)?;
    if !context.options.offline {
        text += "verify: run a Wasm container through CRI, and go back where that fails\n";
    }
    if let Some(node) = &context.options.node {
        text += &format!("label node {node}: {VERSION}={name}\n");
    }
    Ok(text)
}

/// The record with the earlier version as the current one, and that version's name.
fn earlier(record: Option<Record>) -> Result<(Record, String)> {
    let mut record = record.ok_or_else(nowhere)?;
    let mut left = record.versions.pop().ok_or_else(nowhere)?;
    let earlier = record.versions.last_mut().ok_or_else(nowhere)?;
    earlier.retired = None;
    let name = earlier.name.clone();
    left.retired = Some(plan::now());
    record.rolled_back_from = Some(left.digest.clone());
    // Behind the current one in age, so that it is what a second rollback would leave for good.
    record.versions.insert(0, left);
    Ok((record, name))
}

fn nowhere() -> Error {
    Error::Usage("there is no earlier version of the shim on this host to go back to".into())
}

fn link(context: &Context, name: &str) -> Result<Vec<DesiredPath>> {
    let mut desired = Vec::new();
    plan::link(&context.host, &context.options, name, &mut desired)?;
    Ok(desired)
}
