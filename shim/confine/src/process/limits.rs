//! Resource limits, scheduling and I/O priority of a process. Source: OCI runtime spec, config.md, "rlimits",
//! config-linux.md, "Scheduler", "IO Priority", "Personality"; setrlimit(2), sched_setattr(2), ioprio_set(2).

use nix::errno::Errno;
use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimit,
    PosixRlimitType, Process, Scheduler,
};

use crate::error::{Class, Error, Named, Result};

/// Raises the hard limits of this process to those of the spec where they are higher. For the host's root: inside of a
/// user namespace nobody may.
pub fn raise(limits: &[PosixRlimit]) -> Result<()> {
    for limit in limits {
        let name = || {
            format!(
                "raise {} to {}, which takes CAP_SYS_RESOURCE (lower it in the spec)",
                limit.typ(),
                limit.hard()
            )
        };
        let mut now = read(limit.typ()).host(name)?;
        if limit.hard() > now.rlim_max {
            now.rlim_max = limit.hard();
            write(limit.typ(), &now).asked(name)?;
        }
    }
    Ok(())
}

/// Sets the limits, but for that of open files: what is still to be done opens some.
pub fn set(limits: &[PosixRlimit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        if limits.iter().take(index).any(|other| other.typ() == limit.typ()) {
            return Err(Error::invalid(name_of(limit), "the spec names this limit twice"));
        }
    }
    let files = |limit: &&PosixRlimit| limit.typ() == PosixRlimitType::RlimitNofile;
    limits.iter().filter(|limit| !files(limit)).try_for_each(set_one)?;
    match limits.iter().find(files) {
        // Refused now if it will be.
        Some(limit) if limit.soft() > limit.hard() => Err(Error::kernel(Class::Invalid, name_of(limit), Errno::EINVAL)),
        _ => Ok(()),
    }
}

/// Sets the limit of open files. The last step before the program.
pub fn set_files(limits: &[PosixRlimit]) -> Result<()> {
    let mut files = limits
        .iter()
        .filter(|limit| limit.typ() == PosixRlimitType::RlimitNofile);
    files.try_for_each(set_one)
}

/// As [`set_files`], for a program that cannot do with fewer than `least`. Never more than this process may have already.
pub fn set_files_at_least(limits: &[PosixRlimit], least: u64) -> Result<()> {
    for limit in limits
        .iter()
        .filter(|limit| limit.typ() == PosixRlimitType::RlimitNofile)
    {
        let most = read(limit.typ()).host(|| name_of(limit))?.rlim_max;
        let value = libc::rlimit {
            rlim_cur: limit.soft().max(least).min(most),
            rlim_max: limit.hard().max(least).min(most),
        };
        write(limit.typ(), &value).asked(|| name_of(limit))?;
    }
    Ok(())
}

fn set_one(limit: &PosixRlimit) -> Result<()> {
    let value = libc::rlimit {
        rlim_cur: limit.soft(),
        rlim_max: limit.hard(),
    };
    write(limit.typ(), &value).asked(|| name_of(limit))
}

fn name_of(limit: &PosixRlimit) -> String {
    format!("set {} to {}:{}", limit.typ(), limit.soft(), limit.hard())
}

/// The kernel's number. Source: `include/uapi/asm-generic/resource.h`; the enumeration has the same order.
fn number(kind: PosixRlimitType) -> libc::__rlimit_resource_t {
    kind as libc::__rlimit_resource_t
}

fn read(kind: PosixRlimitType) -> nix::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a plain number and a structure that outlives the call.
    Errno::result(unsafe { libc::getrlimit(number(kind), &raw mut limit) })?;
    Ok(limit)
}

fn write(kind: PosixRlimitType, limit: &libc::rlimit) -> nix::Result<()> {
    // SAFETY: a plain number and a structure that outlives the call.
    Errno::result(unsafe { libc::setrlimit(number(kind), limit) }).map(drop)
}

/// Sets scheduler and I/O priority, where the spec has them. Some want capabilities that the container may not keep.
pub fn schedule(process: &Process) -> Result<()> {
    if let Some(scheduler) = process.scheduler() {
        set_scheduler(scheduler)?;
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let what = || format!("set the I/O priority {:?} {}", priority.class(), priority.priority());
        let level = libc::c_int::try_from(priority.priority()).map_err(|_| Errno::EINVAL);
        let set = level.and_then(|level| {
            const WHO_PROCESS: libc::c_int = 1;
            // SAFETY: plain numbers.
            Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class << 13 | level) })
        });
        set.asked(what)?;
    }
    Ok(())
}

/// Source: sched_setattr(2), which libc has no function for.
#[repr(C)]
#[derive(Default)]
struct SchedulerAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

fn set_scheduler(scheduler: &Scheduler) -> Result<()> {
    let what = || format!("set the scheduler {:?}", scheduler.policy());
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    let attributes = SchedulerAttributes {
        size: u32::try_from(size_of::<SchedulerAttributes>()).unwrap_or_default(),
        policy,
        flags: scheduler
            .flags()
            .iter()
            .flatten()
            .map(flag)
            .fold(0, |all, one| all | one),
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0).cast_unsigned(),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    };
    // SAFETY: this process, a structure that says its size and outlives the call, and no flags.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(result).map(drop).asked(what)
}

/// Execution domains. Source: kernel `include/uapi/linux/personality.h`.
const PER_LINUX: libc::c_ulong = 0;
const PER_LINUX32: libc::c_ulong = 8;

/// Sets the execution domain.
pub fn set_personality(personality: &LinuxPersonality) -> Result<()> {
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    };
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Error::invalid(
            format!("personality flag \"{}\"", flag.escape_debug()),
            "the specification has none",
        ));
    }
    // SAFETY: a plain number.
    Errno::result(unsafe { libc::personality(domain) })
        .map(drop)
        .asked(|| "set the personality".into())
}

/// Sets on which processors an executed process may run: those of its start, then those of its program.
/// Source: OCI runtime spec, config.md, `execCPUAffinity`; sched_setaffinity(2).
pub fn set_affinity(affinity: &oci_spec::runtime::ExecCPUAffinity) -> Result<()> {
    let lists = [affinity.initial(), affinity.cpu_affinity_final()];
    // The last one stays; nothing of the container's runs in between.
    let Some(list) = lists.into_iter().rev().find_map(Option::as_ref) else {
        return Ok(());
    };
    let what = || format!("set execCPUAffinity \"{}\"", list.escape_debug());
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus(list).ok_or_else(|| Error::invalid(what(), "it is not a list of CPUs, as 0-3,7"))? {
        set.set(cpu).asked(what)?;
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).asked(what)
}

/// Source: cpuset(7), "List format".
fn cpus(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= nix::sched::CpuSet::count() {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_is_read_or_refused() {
        assert_eq!(cpus("0-2,5"), Some(vec![0, 1, 2, 5]));
        for bad in ["", "a", "3-1", "0-99999999", "1,,2"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }
}
