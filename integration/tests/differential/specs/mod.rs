//! Specs written by hand: a file for each section of the OCI runtime specification.

mod cgroups;
mod devices;
mod entrypoints;
mod hooks;
mod mount_options;
mod mounts;
mod namespaces;
mod other;
mod paths;
mod process;
mod rlimits;
mod seccomp;
mod user;

pub use namespaces::mapped_rootfs;

use crate::case::{Case, case};

/// All of them.
pub fn all() -> Vec<Case> {
    [
        vec![case("default")],
        mounts::cases(),
        mount_options::cases(),
        process::cases(),
        entrypoints::cases(),
        user::cases(),
        rlimits::cases(),
        devices::cases(),
        namespaces::cases(),
        other::cases(),
        paths::cases(),
        hooks::cases(),
        cgroups::cases(),
        seccomp::cases(),
    ]
    .concat()
}

#[test]
fn every_spec_has_a_name_of_its_own() {
    let mut names: Vec<String> = all().into_iter().map(|case| case.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
