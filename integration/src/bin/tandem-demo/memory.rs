//! The memory that a running container costs: the proportional set size (PSS) of its processes and of its shim's.
//!
//! A page that several processes map is divided among them, so that the sum over all is what the machine has given.

use std::fs;

use tandem_integration::{Error, Result, Task};

/// What the shim's service and its zygote call themselves.
const SHIM: &str = "tandem-";

/// The PSS of everything that runs for a task, in bytes.
///
/// # Errors
/// Where the runtime does not tell the task's processes, or the kernel not their memory.
pub async fn of(task: &Task) -> Result<u64> {
    let mut processes = task.pids().await?;
    let shim = shim_of(task.pid());
    if shim.is_empty() {
        return Err(Error::Setup(format!(
            "process {} is no descendant of a shim",
            task.pid()
        )));
    }
    processes.extend(shim);
    processes.into_iter().map(pss).sum()
}

/// The processes above a container's first one that belong to its shim: the zygote and the service.
fn shim_of(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| status(*pid, "PPid:").and_then(|parent| parent.parse().ok());
    let of_shim = |pid: &u32| status(*pid, "Name:").is_some_and(|name| name.starts_with(SHIM));
    std::iter::successors(parent(&pid), parent)
        .take_while(of_shim)
        .collect()
}

/// A field of proc_pid_status(5).
fn status(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(field))
        .map(|value| value.trim().to_owned())
}

fn pss(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|source| Error::System {
        what: "cannot read",
        path: path.clone().into(),
        source,
    })?;
    parse_pss(&text).ok_or_else(|| Error::Setup(format!("{path} has no Pss: the kernel is older than 4.14")))
}

/// The line `Pss:   972 kB`, in bytes; the kernel's kB are KiB.
fn parse_pss(rollup: &str) -> Option<u64> {
    let value = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pss_is_read_in_bytes_and_its_parts_are_not_taken_for_it() {
        let text = "55d0-7fff ---p 00000000 00:00 0   [rollup]\nRss:   4036 kB\nPss_Dirty:   603 kB\nPss:   972 kB\n";
        assert_eq!(parse_pss(text), Some(972 * 1024));
        assert_eq!(parse_pss("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_no_shim() {
        assert!(pss(std::process::id()).unwrap() > 0);
        assert!(shim_of(std::process::id()).is_empty());
    }
}
