//! Usage of a container on a cgroup v2 node.
//! Source: kernel admin-guide/cgroup-v2.rst; units as in containerd's `cgroup2/stats/metrics.proto`.

use std::path::Path;

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat, RdmaEntry,
    RdmaStat,
};
use containerd_shim_protos::protobuf::MessageField;

use super::shared::{self, HugePageFiles, HugePages};
use super::{number, table};

/// Reads everything; a controller that is not enabled for the cgroup reads as zeros.
pub fn metrics(dir: &Path) -> Metrics {
    Metrics {
        pids: MessageField::some(pids(dir)),
        cpu: MessageField::some(cpu(dir)),
        memory: MessageField::some(memory(dir)),
        memory_events: MessageField::some(memory_events(dir)),
        io: MessageField::some(io(dir)),
        hugetlb: hugetlb(dir),
        rdma: MessageField::some(rdma(dir)),
        ..Default::default()
    }
}

fn pids(dir: &Path) -> PidsStat {
    PidsStat {
        current: number(&dir.join("pids.current")).unwrap_or(0),
        limit: number(&dir.join("pids.max")).unwrap_or(0),
        ..Default::default()
    }
}

fn cpu(dir: &Path) -> CPUStat {
    let stat = table(&dir.join("cpu.stat"));
    let value = |key: &str| stat.get(key).copied().unwrap_or(0);
    CPUStat {
        usage_usec: value("usage_usec"),
        user_usec: value("user_usec"),
        system_usec: value("system_usec"),
        nr_periods: value("nr_periods"),
        nr_throttled: value("nr_throttled"),
        throttled_usec: value("throttled_usec"),
        nr_bursts: value("nr_bursts"),
        burst_usec: value("burst_usec"),
        psi: pressure(&dir.join("cpu.pressure")).into(),
        ..Default::default()
    }
}

fn memory(dir: &Path) -> MemoryStat {
    let stat = table(&dir.join("memory.stat"));
    let value = |key: &str| stat.get(key).copied().unwrap_or(0);
    let file = |name: &str| number(&dir.join(name)).unwrap_or(0);
    MemoryStat {
        anon: value("anon"),
        file: value("file"),
        kernel_stack: value("kernel_stack"),
        slab: value("slab"),
        sock: value("sock"),
        shmem: value("shmem"),
        file_mapped: value("file_mapped"),
        file_dirty: value("file_dirty"),
        file_writeback: value("file_writeback"),
        anon_thp: value("anon_thp"),
        inactive_anon: value("inactive_anon"),
        active_anon: value("active_anon"),
        inactive_file: value("inactive_file"),
        active_file: value("active_file"),
        unevictable: value("unevictable"),
        slab_reclaimable: value("slab_reclaimable"),
        slab_unreclaimable: value("slab_unreclaimable"),
        pgfault: value("pgfault"),
        pgmajfault: value("pgmajfault"),
        workingset_refault: value("workingset_refault_anon") + value("workingset_refault_file"),
        workingset_activate: value("workingset_activate_anon") + value("workingset_activate_file"),
        workingset_nodereclaim: value("workingset_nodereclaim"),
        pgrefill: value("pgrefill"),
        pgscan: value("pgscan"),
        pgsteal: value("pgsteal"),
        pgactivate: value("pgactivate"),
        pgdeactivate: value("pgdeactivate"),
        pglazyfree: value("pglazyfree"),
        pglazyfreed: value("pglazyfreed"),
        thp_fault_alloc: value("thp_fault_alloc"),
        thp_collapse_alloc: value("thp_collapse_alloc"),
        usage: file("memory.current"),
        usage_limit: file("memory.max"),
        max_usage: file("memory.peak"),
        swap_usage: file("memory.swap.current"),
        swap_limit: file("memory.swap.max"),
        swap_max_usage: file("memory.swap.peak"),
        psi: pressure(&dir.join("memory.pressure")).into(),
        ..Default::default()
    }
}

fn memory_events(dir: &Path) -> MemoryEvents {
    let events = table(&dir.join("memory.events"));
    let value = |key: &str| events.get(key).copied().unwrap_or(0);
    MemoryEvents {
        low: value("low"),
        high: value("high"),
        max: value("max"),
        oom: value("oom"),
        oom_kill: value("oom_kill"),
        oom_group_kill: value("oom_group_kill"),
        ..Default::default()
    }
}

fn hugetlb(dir: &Path) -> Vec<HugeTlbStat> {
    let files = HugePageFiles {
        usage: "current",
        max: "max",
        failures: "events",
    };
    let stat = |pages: HugePages| HugeTlbStat {
        current: pages.usage,
        max: pages.max,
        failcnt: pages.failures,
        pagesize: pages.size,
        ..Default::default()
    };
    shared::huge_pages(dir, &files).into_iter().map(stat).collect()
}

fn rdma(dir: &Path) -> RdmaStat {
    let entries = |file: &str| {
        let entry = |(device, hca_handles, hca_objects)| RdmaEntry {
            device,
            hca_handles,
            hca_objects,
            ..Default::default()
        };
        shared::rdma(&dir.join(file)).into_iter().map(entry).collect()
    };
    RdmaStat {
        current: entries("rdma.current"),
        limit: entries("rdma.max"),
        ..Default::default()
    }
}

/// How long processes waited for a resource; none where the kernel does not count it.
/// Source: kernel `Documentation/accounting/psi.rst`.
fn pressure(file: &Path) -> Option<PSIStats> {
    let text = std::fs::read_to_string(file).ok()?;
    let data = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let value = |key: &str| line.split_whitespace().find_map(|field| field.strip_prefix(key));
        let average = |key: &str| value(key).and_then(|number| number.parse().ok()).unwrap_or(0.0);
        Some(PSIData {
            avg10: average("avg10="),
            avg60: average("avg60="),
            avg300: average("avg300="),
            total: value("total=").and_then(|number| number.parse().ok()).unwrap_or(0),
            ..Default::default()
        })
    };
    Some(PSIStats {
        some: data("some ").into(),
        full: data("full ").into(),
        ..Default::default()
    })
}

fn io(dir: &Path) -> IOStat {
    let text = std::fs::read_to_string(dir.join("io.stat")).unwrap_or_default();
    IOStat {
        usage: text.lines().filter_map(io_entry).collect(),
        psi: pressure(&dir.join("io.pressure")).into(),
        ..Default::default()
    }
}

/// A "nested keyed" line: `major:minor rbytes=… wbytes=… rios=… wios=…`.
fn io_entry(line: &str) -> Option<IOEntry> {
    let mut fields = line.split_whitespace();
    let (major, minor) = fields.next()?.split_once(':')?;
    let mut entry = IOEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..Default::default()
    };
    for (key, value) in fields.filter_map(|field| field.split_once('=')) {
        let Ok(value) = value.parse() else { continue };
        match key {
            "rbytes" => entry.rbytes = value,
            "wbytes" => entry.wbytes = value,
            "rios" => entry.rios = value,
            "wios" => entry.wios = value,
            _ => {}
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_memory_and_io_are_read_from_the_kernels_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n");
        write("memory.current", "4096\n");
        write("memory.max", "max\n");
        write("memory.stat", "anon 100\nfile 200\n");
        let pressure =
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        write("cpu.pressure", pressure);
        write("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n");
        let metrics = metrics(dir.path());
        assert_eq!(metrics.cpu.usage_usec, 1500);
        assert_eq!(metrics.memory.usage, 4096);
        assert_eq!(metrics.memory.usage_limit, u64::MAX);
        assert_eq!(metrics.memory.file, 200);
        assert_eq!(metrics.io.usage[0].wios, 4);
        assert_eq!((metrics.cpu.psi.some.avg10, metrics.cpu.psi.full.total), (1.5, 5));
        assert!(metrics.memory.psi.is_none());
    }
}
