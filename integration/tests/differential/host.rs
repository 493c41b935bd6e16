//! A container's first process as the host sees it: all that can be compared of a guest, and of every container the
//! values of its cgroups.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::report::Report;

/// Lines of `/proc/PID/status` that a spec decides.
const STATUS: [&str; 14] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Cpus_allowed_list",
    "Mems_allowed_list",
    "THP_enabled",
];
/// Files of a cgroup that count, not set. Any file whose name contains one of these is left out.
const COUNTED: [&str; 24] = [
    "stat",
    "usage",
    "failcnt",
    "events",
    "pressure",
    "peak",
    "current",
    "procs",
    "tasks",
    "threads",
    "effective",
    "sectors",
    "time",
    "wait",
    "merged",
    "queued",
    "serviced",
    "service",
    "event_control",
    "force_empty",
    "reset",
    "kill",
    "notify",
    "slabinfo",
];
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Adds what the host sees of `pid`.
pub fn look(report: &mut Report, pid: u32) {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_else(|error| error.to_string());
    let status = read("status");
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if STATUS.contains(&name) {
            report.set(format!("host status {name}"), value.trim().replace('\t', " "));
        }
    }
    for line in read("limits").lines().skip(1) {
        let (name, rest) = line.split_at(line.len().min(26));
        let values: Vec<&str> = rest.split_whitespace().take(2).collect();
        report.set(format!("host limit {}", name.trim()), values.join(" "));
    }
    for name in [
        "oom_score_adj",
        "uid_map",
        "gid_map",
        "setgroups",
        "coredump_filter",
        "timens_offsets",
    ] {
        let words: Vec<String> = read(name).split_whitespace().map(str::to_owned).collect();
        report.set(format!("host {name}"), words.join(" "));
    }
    for name in NAMESPACES {
        report.set(format!("host namespaces.{name}"), link(&proc.join("ns").join(name)));
    }
    for link_name in ["root", "cwd"] {
        report.set(format!("host {link_name}"), link(&proc.join(link_name)));
    }
    mount_table(report, &read("mountinfo"));
    let groups = read("cgroup");
    cgroup_values(report, &groups);
}

fn link(path: &Path) -> String {
    fs::read_link(path).map_or_else(|error| error.to_string(), |to| to.to_string_lossy().into_owned())
}

/// Flags, type and propagation of every mount, by its point; several on one point by their height.
fn mount_table(report: &mut Report, table: &str) {
    let mut heights: BTreeMap<&str, usize> = BTreeMap::new();
    for line in table.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let fields: Vec<&str> = before.split(' ').collect();
        let [_, _, _, root, point, flags, propagation @ ..] = fields.as_slice() else {
            continue;
        };
        let height = heights.entry(point).and_modify(|height| *height += 1).or_default();
        let propagation: Vec<&str> = propagation.iter().filter_map(|word| word.split(':').next()).collect();
        let name = if *height == 0 {
            (*point).to_owned()
        } else {
            format!("{point}#{height}")
        };
        let kind = after.split(' ').next().unwrap_or_default();
        let value = format!("{kind} {root} {flags} {}", propagation.join(" "));
        report.set(format!("host mounts {name}"), value.trim());
    }
}

/// Every setting of the process's cgroups, in each hierarchy.
fn cgroup_values(report: &mut Report, groups: &str) {
    let hierarchies = hierarchies();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let base = hierarchies.iter().find(|(kind, options, _)| match controllers {
            "" => kind == "cgroup2",
            named => kind == "cgroup" && options.split(',').any(|option| named.split(',').next() == Some(option)),
        });
        let name = if controllers.is_empty() { "unified" } else { controllers };
        report.set(format!("host cgroups {name}"), path);
        let Some((_, _, base)) = base.filter(|_| path != "/") else {
            continue;
        };
        let dir = base.join(path.trim_start_matches('/'));
        for file in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if COUNTED.iter().any(|word| name.contains(word)) {
                continue;
            }
            let Ok(value) = fs::read_to_string(file.path()) else {
                continue;
            };
            if name == "devices.list" {
                // Rules that allow, in no order.
                for rule in value.lines() {
                    let (what, access) = rule.rsplit_once(' ').unwrap_or((rule, ""));
                    report.set(format!("host cgroup devices {what}"), access);
                }
                continue;
            }
            report.set(format!("host cgroup {name}"), value.trim().replace('\n', "; "));
        }
    }
}

/// Type, options and place of every cgroup hierarchy of this machine.
fn hierarchies() -> Vec<(String, String, PathBuf)> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parsed = table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let point = before.split(' ').nth(4)?;
        kind.starts_with("cgroup")
            .then(|| (kind.to_owned(), options.to_owned(), point.into()))
    });
    parsed.collect()
}
