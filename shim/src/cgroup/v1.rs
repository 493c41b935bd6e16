//! Usage of a container on a cgroup v1 (or hybrid) node.
//! Source: kernel admin-guide/cgroup-v1; units as in containerd's `cgroup1/stats/metrics.proto`.

use std::path::Path;

use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat, Metrics,
    PidsStat, RdmaEntry, RdmaStat, Throttle,
};
use containerd_shim_protos::protobuf::MessageField;

use super::shared::{self, HugePageFiles, HugePages};
use super::{Cgroups, number, table};

/// `cpuacct.stat` counts in USER_HZ, which is 100 on every architecture Linux exports to user space.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// Reads everything; a controller that the node lacks leaves its part unset.
pub fn metrics(cgroups: &Cgroups) -> Metrics {
    let part = |name: &str| cgroups.controller(name);
    Metrics {
        pids: part("pids").map(pids).into(),
        cpu: cpu(part("cpuacct"), part("cpu")).into(),
        memory: part("memory").map(memory).into(),
        memory_oom_control: part("memory").map(oom_control).into(),
        blkio: part("blkio").map(blkio).into(),
        hugetlb: part("hugetlb").map(hugetlb).unwrap_or_default(),
        rdma: part("rdma").map(rdma).into(),
        ..Default::default()
    }
}

fn pids(dir: &Path) -> PidsStat {
    PidsStat {
        current: number(&dir.join("pids.current")).unwrap_or(0),
        // containerd's convention: no limit is 0.
        limit: number(&dir.join("pids.max"))
            .filter(|&max| max != u64::MAX)
            .unwrap_or(0),
        ..Default::default()
    }
}

fn cpu(cpuacct: Option<&Path>, cpu: Option<&Path>) -> Option<CPUStat> {
    let usage = cpuacct.map(|dir| {
        let ticks = table(&dir.join("cpuacct.stat"));
        let nanoseconds = |key: &str| ticks.get(key).copied().unwrap_or(0) * NANOSECONDS_PER_TICK;
        let per_cpu = std::fs::read_to_string(dir.join("cpuacct.usage_percpu")).unwrap_or_default();
        CPUUsage {
            total: number(&dir.join("cpuacct.usage")).unwrap_or(0),
            kernel: nanoseconds("system"),
            user: nanoseconds("user"),
            per_cpu: per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
            ..Default::default()
        }
    });
    let throttling = cpu.map(|dir| {
        let stat = table(&dir.join("cpu.stat"));
        let value = |key: &str| stat.get(key).copied().unwrap_or(0);
        Throttle {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time: value("throttled_time"),
            ..Default::default()
        }
    });
    (usage.is_some() || throttling.is_some()).then(|| CPUStat {
        usage: usage.into(),
        throttling: throttling.into(),
        ..Default::default()
    })
}

fn memory(dir: &Path) -> MemoryStat {
    let stat = table(&dir.join("memory.stat"));
    let value = |key: &str| stat.get(key).copied().unwrap_or(0);
    MemoryStat {
        cache: value("cache"),
        rss: value("rss"),
        rss_huge: value("rss_huge"),
        mapped_file: value("mapped_file"),
        dirty: value("dirty"),
        writeback: value("writeback"),
        pg_pg_in: value("pgpgin"),
        pg_pg_out: value("pgpgout"),
        pg_fault: value("pgfault"),
        pg_maj_fault: value("pgmajfault"),
        inactive_anon: value("inactive_anon"),
        active_anon: value("active_anon"),
        inactive_file: value("inactive_file"),
        active_file: value("active_file"),
        unevictable: value("unevictable"),
        hierarchical_memory_limit: value("hierarchical_memory_limit"),
        hierarchical_swap_limit: value("hierarchical_memsw_limit"),
        total_cache: value("total_cache"),
        total_rss: value("total_rss"),
        total_rss_huge: value("total_rss_huge"),
        total_mapped_file: value("total_mapped_file"),
        total_dirty: value("total_dirty"),
        total_writeback: value("total_writeback"),
        total_pg_pg_in: value("total_pgpgin"),
        total_pg_pg_out: value("total_pgpgout"),
        total_pg_fault: value("total_pgfault"),
        total_pg_maj_fault: value("total_pgmajfault"),
        total_inactive_anon: value("total_inactive_anon"),
        total_active_anon: value("total_active_anon"),
        total_inactive_file: value("total_inactive_file"),
        total_active_file: value("total_active_file"),
        total_unevictable: value("total_unevictable"),
        usage: memory_entry(dir, "memory"),
        swap: memory_entry(dir, "memory.memsw"),
        kernel: memory_entry(dir, "memory.kmem"),
        kernel_tcp: memory_entry(dir, "memory.kmem.tcp"),
        ..Default::default()
    }
}

fn memory_entry(dir: &Path, prefix: &str) -> MessageField<MemoryEntry> {
    let value = |name: &str| number(&dir.join(format!("{prefix}.{name}")));
    value("usage_in_bytes")
        .map(|usage| MemoryEntry {
            usage,
            limit: value("limit_in_bytes").unwrap_or(0),
            max: value("max_usage_in_bytes").unwrap_or(0),
            failcnt: value("failcnt").unwrap_or(0),
            ..Default::default()
        })
        .into()
}

fn oom_control(dir: &Path) -> MemoryOomControl {
    let control = table(&dir.join("memory.oom_control"));
    let value = |key: &str| control.get(key).copied().unwrap_or(0);
    MemoryOomControl {
        oom_kill_disable: value("oom_kill_disable"),
        under_oom: value("under_oom"),
        oom_kill: value("oom_kill"),
        ..Default::default()
    }
}

fn hugetlb(dir: &Path) -> Vec<HugetlbStat> {
    let files = HugePageFiles {
        usage: "usage_in_bytes",
        max: "max_usage_in_bytes",
        failures: "failcnt",
    };
    let stat = |pages: HugePages| HugetlbStat {
        usage: pages.usage,
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

fn blkio(dir: &Path) -> BlkIOStat {
    let entries = |name: &str| {
        let text = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        text.lines().filter_map(blkio_entry).collect()
    };
    BlkIOStat {
        io_service_bytes_recursive: entries("blkio.throttle.io_service_bytes_recursive"),
        io_serviced_recursive: entries("blkio.throttle.io_serviced_recursive"),
        io_queued_recursive: entries("blkio.io_queued_recursive"),
        io_service_time_recursive: entries("blkio.io_service_time_recursive"),
        io_wait_time_recursive: entries("blkio.io_wait_time_recursive"),
        io_merged_recursive: entries("blkio.io_merged_recursive"),
        io_time_recursive: entries("blkio.time_recursive"),
        sectors_recursive: entries("blkio.sectors_recursive"),
        ..Default::default()
    }
}

/// A line `major:minor operation value`; the closing `Total value` has no device.
fn blkio_entry(line: &str) -> Option<BlkIOEntry> {
    let mut fields = line.split_whitespace();
    let (device, op, value) = (fields.next()?, fields.next()?, fields.next()?);
    let (major, minor) = device.split_once(':')?;
    Some(BlkIOEntry {
        op: op.to_owned(),
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        value: value.parse().ok()?,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_reported_in_nanoseconds() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cpuacct.usage"), "123456789\n").unwrap();
        std::fs::write(dir.path().join("cpuacct.usage_percpu"), "100 23 \n").unwrap();
        std::fs::write(dir.path().join("cpuacct.stat"), "user 3\nsystem 2\n").unwrap();
        let stat = cpu(Some(dir.path()), None).unwrap();
        assert_eq!(stat.usage.total, 123_456_789);
        assert_eq!(stat.usage.user, 30_000_000);
        assert_eq!(stat.usage.kernel, 20_000_000);
        assert_eq!(stat.usage.per_cpu, [100, 23]);
    }

    #[test]
    fn a_block_device_line_is_read_and_the_total_is_not() {
        let entry = blkio_entry("8:16 Read 4096").unwrap();
        assert_eq!(
            (entry.major, entry.minor, entry.op.as_str(), entry.value),
            (8, 16, "Read", 4096)
        );
        assert!(blkio_entry("Total 4096").is_none());
    }
}
