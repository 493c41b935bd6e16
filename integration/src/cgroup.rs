//! The cgroups of an instance or of CRI's containers, in every hierarchy of cgroup v1 and in the unified one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::leftovers::mounts;

/// Every hierarchy's mount point.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    mounts()
        .into_iter()
        .filter(|mount| matches!(mount.kind.as_str(), "cgroup" | "cgroup2"))
        .map(|mount| mount.point)
}

/// The cgroups below `parent`, innermost first, without the parent itself.
pub fn below(parent: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        collect(&hierarchy.join(parent.trim_start_matches('/')), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
            found.push(entry.path());
        }
    }
}

/// Removes `parent` and what is below it as far as no process is inside.
pub fn remove(parent: &str) {
    for group in below(parent) {
        let _ = fs::remove_dir(group);
    }
    for hierarchy in hierarchies() {
        let _ = fs::remove_dir(hierarchy.join(parent.trim_start_matches('/')));
    }
}

/// Whether any hierarchy has the cgroup `parent`.
pub fn exists(parent: &str) -> bool {
    hierarchies().any(|hierarchy| hierarchy.join(parent.trim_start_matches('/')).is_dir())
}
