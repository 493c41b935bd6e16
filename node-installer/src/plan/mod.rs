//! What would be done, worked out to the last byte and judged by the host's containerd, before anything is written
//! outside the installer's own directory.

mod config;
mod desired;
mod diff;
mod shim;

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{
    detect::Detected,
    error::Result,
    host::Host,
    options::Options,
    txn::{Change, DesiredPath, Record, Role, Writer, prepare},
};

pub use config::without_ours;
pub use desired::link;
pub use diff::render;
pub use shim::{Candidate, now, obsolete};

/// Changes that are ready to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is to be, in order. The shim comes before everything that makes containerd use it.
    pub desired: Vec<DesiredPath>,
    /// What has to be changed for that.
    pub changes: Vec<Change>,
    /// The record after them.
    pub record: Record,
    /// The shim.
    pub candidate: Candidate,
    /// Fingerprint of the goal.
    pub target: String,
}

/// Plans an installation or upgrade to the candidate.
///
/// # Errors
/// A host on which it would fail, with the reason.
pub async fn install(
    host: &Host,
    options: &Options,
    detected: &Detected,
    store: &Writer,
    candidate: Candidate,
) -> Result<Plan> {
    let earlier = store.record()?;
    let rolled_back_from = earlier.as_ref().and_then(|record| record.rolled_back_from.as_deref());
    let keep_current = rolled_back_from == Some(candidate.digest.as_str()) && !options.force;

    let writable = |dir: &Path, programs| host.require_writable(detected.preset, dir, programs);
    writable(&options.install_dir, true)?;
    writable(&options.state_dir, false)?;

    let mut desired = Vec::new();
    if !keep_current {
        candidate.add_to(host, options, &mut desired)?;
    }
    let config = config::plan(host, options, detected, store).await?;
    for item in &config.desired {
        writable(item.path.parent().unwrap_or(Path::new("/")), false)?;
    }
    let options_file = options.runtime_options();
    desired::file(
        host,
        &options_file,
        Role::File,
        runtime_options(config.systemd_cgroup).into_bytes(),
        &mut desired,
    )?;
    if !keep_current {
        link(host, options, &candidate.name, &mut desired)?;
    }
    desired.extend(config.desired);

    let changes = prepare(host, store, &desired)?;
    let mut record = earlier.unwrap_or_else(|| Record::new("", detected.preset));
    detected.preset.clone_into(&mut record.preset);
    for change in &changes {
        record.absorb(change);
    }
    if !keep_current {
        candidate.become_current(&mut record);
    }
    Ok(Plan {
        target: target(&candidate, options, detected),
        desired,
        changes,
        record,
        candidate,
    })
}

/// What later verifications go by.
fn runtime_options(systemd_cgroup: bool) -> String {
    format!(
        "# Who makes the cgroups of this node's containers, by its default runtime: for tandem-node-installer's verification.\n\
         SystemdCgroup = {systemd_cgroup}\n"
    )
}

/// What an interrupted operation must have aimed at in order to be continued.
pub fn target(candidate: &Candidate, options: &Options, detected: &Detected) -> String {
    let mut hasher = Sha256::new();
    let parts = [
        candidate.digest.as_str(),
        &options.handler,
        &options.install_dir.to_string_lossy(),
        detected.preset,
        &detected.program.version.to_string(),
    ];
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    hasher
        .finalize()
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
