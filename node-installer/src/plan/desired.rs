//! Putting together what is to be on the host.

use std::path::{Path, PathBuf};

use crate::{
    error::Result,
    host::Host,
    options::Options,
    txn::{DesiredPath, DesiredState, Role},
};

/// Adds a text file, and the directories above it, to what is desired.
pub(super) fn file(host: &Host, path: &Path, role: Role, bytes: Vec<u8>, desired: &mut Vec<DesiredPath>) -> Result<()> {
    parents(host, path, desired)?;
    push(desired, path, role, DesiredState::Text(bytes), None);
    Ok(())
}

/// Adds the directories above a path that are missing, the highest first.
pub(super) fn parents(host: &Host, path: &Path, desired: &mut Vec<DesiredPath>) -> Result<()> {
    let missing = path.ancestors().skip(1).take_while(|dir| !host.exists(dir));
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    for dir in missing {
        if !desired.iter().any(|item| item.path == dir) {
            push(desired, &dir, Role::File, DesiredState::Dir, None);
        }
    }
    Ok(())
}

/// Adds a path.
pub(super) fn push(
    desired: &mut Vec<DesiredPath>,
    path: &Path,
    role: Role,
    state: DesiredState,
    pristine: Option<Vec<u8>>,
) {
    desired.push(DesiredPath {
        path: path.to_owned(),
        role,
        state,
        pristine,
    });
}

/// Adds containerd's link to a version.
///
/// # Errors
/// As of the directories above it.
pub fn link(host: &Host, options: &Options, version: &str, desired: &mut Vec<DesiredPath>) -> Result<()> {
    let link = options.shim_link();
    parents(host, &link, desired)?;
    push(
        desired,
        &link,
        Role::File,
        DesiredState::Link(options.link_target(version)),
        None,
    );
    Ok(())
}
