//! The end of the installer's own records.

use std::fs;

use super::Context;
use crate::{
    error::{Error, Result},
    txn::{Writer, remove_tree_if_empty},
};

/// Removes what a plan needed: on a host where nothing is installed, nothing stays.
pub(super) fn tidy(context: &Context, store: &Writer) -> Result<()> {
    store.collect()?;
    if store.record()?.is_none() && store.journal()?.is_none() {
        remove_records(context, store)?;
    }
    Ok(())
}

/// Removes the installer's own records, and the state directory if nothing else is in it.
pub(super) fn remove_records(context: &Context, store: &Writer) -> Result<()> {
    let records = context.host.path(store.dir())?;
    match fs::remove_dir_all(&records) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", records)(error)),
        _ => remove_empty_state(context),
    }
}

/// Removes the state directory if nothing is in it. This needs no lock: an installer at work has a directory there.
pub(super) fn remove_empty_state(context: &Context) -> Result<()> {
    let state = context.host.path(&context.options.state_dir)?;
    remove_tree_if_empty(&state, &state)
}
