//! Every mount option that runc knows, on a volume and on a file system of the container's own, and one that it does not.
//! Options that could be refused have a spec of their own; the rest is grouped, since each spec costs three containers.

use crate::case::{Case, case, mount, push};

/// What belongs together.
const GROUPS: [(&str, &[&str]); 6] = [
    (
        "access",
        &[
            "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "defaults",
        ],
    ),
    (
        "times",
        &[
            "noatime",
            "atime",
            "nodiratime",
            "diratime",
            "relatime",
            "norelatime",
            "strictatime",
            "nostrictatime",
        ],
    ),
    (
        "writing",
        &[
            "sync",
            "async",
            "dirsync",
            "iversion",
            "noiversion",
            "lazytime",
            "nolazytime",
        ],
    ),
    ("links", &["nosymfollow", "symfollow"]),
    (
        "propagation",
        &[
            "private",
            "rprivate",
            "shared",
            "rshared",
            "slave",
            "rslave",
            "unbindable",
            "runbindable",
        ],
    ),
    (
        "recursive",
        &[
            "rro",
            "rrw",
            "rnosuid",
            "rsuid",
            "rnodev",
            "rdev",
            "rnoexec",
            "rexec",
            "rnodiratime",
            "rdiratime",
            "rrelatime",
            "rnorelatime",
            "rnoatime",
            "ratime",
            "rstrictatime",
            "rnostrictatime",
            "rnosymfollow",
            "rsymfollow",
        ],
    ),
];

/// What only some runtimes know.
const ALONE: [&str; 8] = [
    "mand",
    "nomand",
    "silent",
    "loud",
    "acl",
    "noacl",
    "remount",
    "frobnicate",
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (group, options) in GROUPS {
        cases.push(each(case(&format!("options/{group}-of-volumes")), options, true));
        cases.push(each(case(&format!("options/{group}-of-tmpfs")), options, false));
    }
    for option in ALONE {
        cases.push(each(case(&format!("options/{option}-of-a-volume")), &[option], true));
        cases.push(each(case(&format!("options/{option}-of-tmpfs")), &[option], false));
    }
    cases.push(
        case("options/flags-together")
            .bind(
                "dir",
                "/v",
                &[
                    "rbind",
                    "ro",
                    "nosuid",
                    "nodev",
                    "noexec",
                    "noatime",
                    "nosymfollow",
                    "rprivate",
                ],
            )
            .look(&["/v/file"]),
    );
    cases.push(case("options/the-last-one-counts").bind("dir", "/v", &["bind", "ro", "rw", "nosuid", "suid"]));
    cases
}

/// A mount for each option.
fn each(case: Case, options: &[&'static str], volume: bool) -> Case {
    options.iter().fold(case, |case, option| {
        let option = *option;
        case.edit(move |spec, stage| {
            let source = stage.path("dir").to_string_lossy().into_owned();
            let point = format!("/m/{option}");
            let entry = match volume {
                true => mount(&point, "bind", &source, &["rbind", option]),
                false => mount(&point, "tmpfs", "tmpfs", &[option]),
            };
            push(spec, "/mounts", entry);
        })
    })
}
