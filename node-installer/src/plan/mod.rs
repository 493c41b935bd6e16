//! What would be done, worked out to the last byte and judged by the host's containerd, before anything is written
//! outside the installer's own directory.

mod config;
mod diff;
mod shim;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{
    detect::Detected,
    error::Result,
    host::Host,
    options::Options,
    txn::{Change, Record, Role, Store, Want, Wanted, prepare},
};

pub use config::without_ours;
pub use diff::render;
pub use shim::{Candidate, now, obsolete};

/// Changes that are ready to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The wishes, in order. The shim comes before everything that makes containerd use it.
    pub wanted: Vec<Wanted>,
    /// Those that are not fulfilled yet.
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
    store: &Store,
    candidate: Candidate,
) -> Result<Plan> {
    let earlier = store.record()?;
    let held = earlier.as_ref().and_then(|record| record.held.as_deref()) == Some(candidate.digest.as_str());
    let keep_current = held && !options.force;

    let writable = |dir: &Path, programs| host.require_writable(detected.preset, dir, programs);
    writable(&options.install_dir, true)?;
    writable(&options.state_dir, false)?;

    let mut wanted = Vec::new();
    if !keep_current {
        candidate.wish(host, options, &mut wanted)?;
    }
    let config = config::plan(host, options, detected, store).await?;
    for wish in &config.wanted {
        writable(wish.path.parent().unwrap_or(Path::new("/")), false)?;
    }
    let options_file = options.runtime_options();
    file(
        host,
        &options_file,
        Role::File,
        runtime_options(config.systemd_cgroup).into_bytes(),
        &mut wanted,
    )?;
    if !keep_current {
        link(host, options, &candidate.name, &mut wanted)?;
    }
    wanted.extend(config.wanted);

    let changes = prepare(host, store, &wanted)?;
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
        wanted,
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

/// Wishes for a text file and for the directories above it.
fn file(host: &Host, path: &Path, role: Role, bytes: Vec<u8>, wanted: &mut Vec<Wanted>) -> Result<()> {
    parents(host, path, wanted)?;
    push(wanted, path, role, Want::Text(bytes), None);
    Ok(())
}

/// Wishes for the directories above a path that are missing, the highest first.
fn parents(host: &Host, path: &Path, wanted: &mut Vec<Wanted>) -> Result<()> {
    let missing = path.ancestors().skip(1).take_while(|dir| !host.exists(dir));
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    for dir in missing {
        if !wanted.iter().any(|wish| wish.path == dir) {
            push(wanted, &dir, Role::File, Want::Dir, None);
        }
    }
    Ok(())
}

fn push(wanted: &mut Vec<Wanted>, path: &Path, role: Role, want: Want, pristine: Option<Vec<u8>>) {
    wanted.push(Wanted {
        path: path.to_owned(),
        role,
        want,
        pristine,
    });
}

/// Wishes that containerd's link lead to a version.
///
/// # Errors
/// As of the directories above it.
pub fn link(host: &Host, options: &Options, version: &str, wanted: &mut Vec<Wanted>) -> Result<()> {
    let link = options.shim_link();
    parents(host, &link, wanted)?;
    push(
        wanted,
        &link,
        Role::File,
        Want::Link(options.link_target(version)),
        None,
    );
    Ok(())
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
