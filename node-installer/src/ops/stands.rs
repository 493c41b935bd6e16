//! The look at an installation that was verified once.

use std::time::Duration;

use tracing::info;

use super::{Context, versions::collect};
use crate::{
    error::{Error, Result},
    txn::State,
};

/// How long CRI may take to list the handler.
const HANDLER: Duration = Duration::from_secs(60);

/// Whether an installation that was verified once still stands: its files are as they were left, and CRI has the
/// handler. Cheap enough to be asked every minute. While another installer works on the host, nothing is looked at:
/// its files are in between.
///
/// # Errors
/// What is not as it was.
pub async fn stands(context: &Context) -> Result<()> {
    let missing = |why: String| Error::Verify { step: "files", why };
    let nothing = || missing("nothing is installed".into());
    // Where there is no record, the lock's directory must not be made.
    context.store.record()?.ok_or_else(nothing)?;
    let store = match context.store.lock() {
        Err(Error::Locked(_)) => {
            info!("another installer works on this host; the next look is in a minute");
            return Ok(());
        }
        other => other?,
    };
    let record = store.record()?.ok_or_else(nothing)?;
    if store.journal()?.is_some() {
        return Err(missing("an operation was interrupted".into()));
    }
    for change in &record.changes {
        if State::of(&context.host, &change.path)? != change.after {
            return Err(missing(format!("{} was changed", change.path.display())));
        }
    }
    let detected = context.detect().await?;
    let cri = context.cri(&detected)?;
    cri.wait_handler(&context.options.handler, true, HANDLER).await?;
    collect(context, &store, &detected).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Host, Options,
        txn::{Journal, Operation, Record},
    };

    #[tokio::test]
    async fn a_node_on_which_another_installer_works_is_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let context = Context::on(Host::tree(root.path()), Options::default());
        let other = context.store.lock().unwrap();
        other.write_record(&Record::new("1", "test")).unwrap();
        other
            .write_journal(&Journal::new(Operation::Rollback, "t", Vec::new(), None))
            .unwrap();
        stands(&context).await.unwrap();
        drop(other);
        let error = stands(&context).await.unwrap_err().to_string();
        assert!(error.contains("an operation was interrupted"), "{error}");
    }
}
