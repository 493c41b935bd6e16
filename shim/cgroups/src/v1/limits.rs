//! From the spec's resources to the files of cgroup v1, in the order in which the kernel takes them.
//! Source: OCI runtime spec, config-linux.md, "Control groups"; the meaning of 0 and -1 is runc's.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxResources,
    LinuxThrottleDevice,
};

use super::devices;
use crate::device_rules;
use crate::setting::{Setting, Step};

/// All steps that `resources` asks for. What it does not mention stays as it is.
pub fn steps(resources: &LinuxResources) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(rules) = resources.devices() {
        let rules = device_rules::of_spec(rules);
        steps.extend(devices::settings(&rules).into_iter().map(Step::Set));
    }
    if let Some(memory) = resources.memory() {
        steps.extend(of_memory(memory));
    }
    if let Some(cpu) = resources.cpu() {
        steps.extend(of_cpu(cpu));
    }
    let mut rest = Vec::new();
    rest.extend(resources.pids().as_ref().and_then(of_pids));
    rest.extend(resources.hugepage_limits().iter().flatten().map(of_hugepages));
    if let Some(block) = resources.block_io() {
        rest.extend(of_block_io(block));
    }
    if let Some(network) = resources.network() {
        rest.extend(of_network(network));
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        let number = |name, limit: Option<u32>| limit.map_or(String::new(), |limit| format!(" {name}={limit}"));
        let (handles, objects) = (
            number("hca_handle", limit.hca_handles()),
            number("hca_object", limit.hca_objects()),
        );
        rest.push(Setting::new("rdma", "rdma.max", format!("{device}{handles}{objects}")));
    }
    steps.extend(rest.into_iter().map(Step::Set));
    steps
}

fn of_memory(memory: &LinuxMemory) -> Vec<Step> {
    let given = |limit: Option<i64>| limit.filter(|limit| *limit != 0);
    let limit = given(memory.limit());
    // Without a limit on memory there is none on memory and swap together, unless somebody says so.
    let both = given(memory.swap()).or_else(|| limit.filter(|limit| *limit == -1));
    let set = |file: &'static str, value| Setting::new("memory", file, value);
    let mut steps = Vec::new();
    match (
        limit.map(|limit| set("memory.limit_in_bytes", limit)),
        both.map(|both| set("memory.memsw.limit_in_bytes", both)),
    ) {
        (Some(limit), Some(both)) => steps.push(Step::EitherOrder(limit, both)),
        (limit, both) => steps.extend(limit.or(both).map(Step::Set)),
    }
    let more = [
        given(memory.reservation()).map(|limit| set("memory.soft_limit_in_bytes", limit)),
        given(memory.kernel_tcp()).map(|limit| set("memory.kmem.tcp.limit_in_bytes", limit)),
        memory
            .disable_oom_killer()
            .filter(|disable| *disable)
            .map(|_| set("memory.oom_control", 1)),
        memory
            .swappiness()
            .map(|swappiness| Setting::new("memory", "memory.swappiness", swappiness)),
    ];
    steps.extend(more.into_iter().flatten().map(Step::Set));
    steps
}

fn of_cpu(cpu: &LinuxCpu) -> Vec<Step> {
    let set = |file: &'static str, value: String| Setting::new("cpu", file, value);
    let positive = |value: Option<u64>| value.filter(|value| *value != 0).map(|value| value.to_string());
    let signed = |value: Option<i64>| value.filter(|value| *value != 0).map(|value| value.to_string());
    let mut steps = Vec::new();
    let mut push = |file: &'static str, value: Option<String>| {
        steps.extend(value.map(|value| Step::Set(set(file, value))));
    };
    push("cpu.shares", positive(cpu.shares()));
    push("cpu.rt_period_us", positive(cpu.realtime_period()));
    push("cpu.rt_runtime_us", signed(cpu.realtime_runtime()));
    push("cpu.idle", cpu.idle().map(|idle| idle.to_string()));
    match (
        positive(cpu.period()).map(|value| set("cpu.cfs_period_us", value)),
        signed(cpu.quota()).map(|value| set("cpu.cfs_quota_us", value)),
    ) {
        (Some(period), Some(quota)) => steps.push(Step::EitherOrder(period, quota)),
        (period, quota) => steps.extend(period.or(quota).map(Step::Set)),
    }
    steps.extend(
        cpu.burst()
            .map(|burst| Step::Set(set("cpu.cfs_burst_us", burst.to_string()))),
    );
    let sets = [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())];
    steps.extend(sets.into_iter().filter_map(|(file, value)| {
        let value = value.as_ref().filter(|value| !value.is_empty())?;
        Some(Step::Set(Setting::new("cpuset", file, value)))
    }));
    steps
}

fn of_pids(pids: &LinuxPids) -> Option<Setting> {
    match pids.limit() {
        0 => None,
        limit if limit < 0 => Some(Setting::new("pids", "pids.max", "max")),
        limit => Some(Setting::new("pids", "pids.max", limit)),
    }
}

fn of_hugepages(limit: &LinuxHugepageLimit) -> Setting {
    let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size());
    Setting::new("hugetlb", file, limit.limit())
}

fn of_block_io(block: &LinuxBlockIo) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |file: &'static str, value: String| settings.push(Setting::new("blkio", file, value));
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        set("blkio.weight", weight.to_string());
    }
    if let Some(weight) = block.leaf_weight().filter(|weight| *weight != 0) {
        set("blkio.leaf_weight", weight.to_string());
    }
    for device in block.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            set("blkio.weight_device", format!("{number} {weight}"));
        }
        if let Some(weight) = device.leaf_weight() {
            set("blkio.leaf_weight_device", format!("{number} {weight}"));
        }
    }
    let throttles: [(&'static str, &Option<Vec<LinuxThrottleDevice>>); 4] = [
        ("blkio.throttle.read_bps_device", block.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", block.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", block.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", block.throttle_write_iops_device()),
    ];
    for (file, devices) in throttles {
        for device in devices.iter().flatten() {
            set(file, format!("{}:{} {}", device.major(), device.minor(), device.rate()));
        }
    }
    settings
}

fn of_network(network: &LinuxNetwork) -> Vec<Setting> {
    let class = network
        .class_id()
        .map(|class| Setting::new("net_cls", "net_cls.classid", class));
    let priorities = network.priorities().iter().flatten().map(|priority| {
        let value = format!("{} {}", priority.name(), priority.priority());
        Setting::new("net_prio", "net_prio.ifpriomap", value)
    });
    class.into_iter().chain(priorities).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Vec<(String, String)> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let settings = steps(&resources).into_iter().flat_map(|step| match step {
            Step::Set(setting) => vec![setting],
            Step::EitherOrder(first, second) => vec![first, second],
        });
        settings
            .map(|setting| (setting.file.into_owned(), setting.value))
            .collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_not_mentioned_is_not_touched() {
        assert_eq!(written("{}"), []);
        assert_eq!(written(r#"{"memory":{},"cpu":{},"pids":{"limit":0}}"#), []);
        assert_eq!(written(r#"{"memory":{"limit":0},"cpu":{"shares":0,"quota":0}}"#), []);
    }

    #[test]
    fn limits_of_a_pod_become_files() {
        assert_eq!(
            written(
                r#"{"memory":{"limit":1048576,"swap":2097152},"pids":{"limit":-1},
                "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0-1","mems":"0"},
                "hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#
            ),
            pairs(&[
                ("memory.limit_in_bytes", "1048576"),
                ("memory.memsw.limit_in_bytes", "2097152"),
                ("cpu.shares", "512"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
                ("pids.max", "max"),
                ("hugetlb.2MB.limit_in_bytes", "4194304"),
            ])
        );
    }

    #[test]
    fn memory_without_a_limit_has_swap_without_one() {
        assert_eq!(
            written(r#"{"memory":{"limit":-1}}"#),
            pairs(&[("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")])
        );
    }

    #[test]
    fn throttled_and_weighted_devices_are_written_one_by_one() {
        assert_eq!(
            written(
                r#"{"blockIO":{"weight":100,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600},
                {"major":8,"minor":16,"rate":300}]}}"#
            ),
            pairs(&[
                ("blkio.weight", "100"),
                ("blkio.throttle.read_bps_device", "8:0 600"),
                ("blkio.throttle.read_bps_device", "8:16 300"),
            ])
        );
    }
}
