//! Whether the node runs Tandem, and still runs all else.

use std::time::Duration;

use tracing::info;

use super::Context;
use crate::{
    cri::{Cri, Probe, logs},
    detect::Detected,
    error::{Error, Result},
    service::READY,
};

/// How long after a restart CRI may take to list a handler. k0s notices a new file and restarts containerd itself.
const HANDLER: Duration = Duration::from_secs(60);

/// The containers that ran before a restart, and when that was.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Their ids.
    pub containers: Vec<String>,
    /// Nanoseconds since 1970.
    pub time: i64,
}

/// Requires that the runtime is ready, that the handler is there, that nothing was lost, and that the probe answers.
///
/// # Errors
/// [`Error::Verify`] names the step that failed.
pub async fn verify(context: &Context, detected: &Detected, before: &Before) -> Result<()> {
    let cri = context.cri(detected)?;
    let handler = &context.options.handler;
    cri.wait_ready(READY).await?;
    cri.wait_handler(handler, true, HANDLER).await?;
    require_alive(&cri, before).await?;
    let probe = Probe {
        handler,
        systemd_cgroup: systemd_cgroup(context)?,
        logs: logs(&context.options.records()),
    };
    cri.probe(&context.host, &probe).await?;
    info!("verified: a Wasm container ran with the handler {handler:?} and answered");
    Ok(())
}

/// Requires that no container was lost by a restart.
pub(super) async fn require_alive(cri: &Cri, before: &Before) -> Result<()> {
    let lost = cri.lost(&before.containers, before.time).await?;
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::Verify {
        step: "containers",
        why: format!(
            "containerd's restart ended containers that ran before: {}",
            lost.join(", ")
        ),
    })
}

/// What the installed options say.
fn systemd_cgroup(context: &Context) -> Result<bool> {
    let path = context.options.runtime_options();
    let text = context.host.read_text(&path)?.unwrap_or_default();
    let document = crate::containerd::format::parse(&path, &text)?;
    Ok(document
        .get("SystemdCgroup")
        .and_then(toml_edit::Item::as_bool)
        .unwrap_or(false))
}

/// Whether an installation that was verified once still stands: its files are as they were left, and CRI has the
/// handler. Cheap enough to be asked every minute.
///
/// # Errors
/// What is not as it was.
pub async fn stands(context: &Context) -> Result<()> {
    let missing = |why: String| Error::Verify { step: "files", why };
    let record = context
        .store
        .record()?
        .ok_or_else(|| missing("nothing is installed".into()))?;
    if context.store.journal()?.is_some() {
        return Err(missing("an operation was interrupted".into()));
    }
    for change in &record.changes {
        if crate::txn::State::of(&context.host, &change.path)? != change.after {
            return Err(missing(format!("{} was changed", change.path.display())));
        }
    }
    let detected = context.detect().await?;
    let cri = context.cri(&detected)?;
    cri.wait_handler(&context.options.handler, true, HANDLER).await?;
    super::install::collect(context, &detected).await
}
