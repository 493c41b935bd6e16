//! From the spec's resources to the files of cgroup v2.
//! Source: OCI runtime spec, config-linux.md, "Control groups"; conversions from v1's units are runc's.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::Error;
use crate::setting::{Setting, Step};

/// All steps that `resources` asks for, devices aside. What it does not mention stays as it is.
pub fn steps(resources: &LinuxResources) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    if let Some(memory) = resources.memory() {
        steps.extend(of_memory(memory));
    }
    if let Some(cpu) = resources.cpu() {
        steps.extend(of_cpu(cpu));
    }
    steps.extend(resources.pids().as_ref().and_then(of_pids));
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.max", limit.page_size());
        steps.push(Setting::new("hugetlb", file, limit.limit()));
    }
    if let Some(block) = resources.block_io() {
        steps.extend(of_block_io(block));
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        let number = |name, limit: Option<u32>| limit.map_or(String::new(), |limit| format!(" {name}={limit}"));
        let handles = number("hca_handle", limit.hca_handles());
        let objects = number("hca_object", limit.hca_objects());
        steps.push(Setting::new("rdma", "rdma.max", format!("{device}{handles}{objects}")));
    }
    // Last: the spec's author knows the files' names and means them.
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') || !file.contains('.') {
            return Err(Error::NotAFileName(file.clone()));
        }
        steps.push(Setting::new("unified", file.clone(), value));
    }
    Ok(steps.into_iter().map(Step::Set).collect())
}

fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn of_memory(memory: &LinuxMemory) -> Vec<Setting> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let maximum = given(memory.limit());
    // v1 counts memory and swap together, v2 swap alone.
    let swap = match (maximum, given(memory.swap())) {
        (_, Some(swap)) if swap < 0 => Some(-1),
        (Some(maximum), Some(both)) if maximum >= 0 => Some((both - maximum).max(0)),
        (Some(-1), None) => Some(-1),
        _ => None,
    };
    let set = |file: &'static str, value: i64| Setting::new("memory", file, limit(value));
    let all = [
        swap.map(|value| set("memory.swap.max", value)),
        maximum.map(|value| set("memory.max", value)),
        given(memory.reservation()).map(|value| set("memory.low", value)),
    ];
    all.into_iter().flatten().collect()
}

fn of_cpu(cpu: &LinuxCpu) -> Vec<Setting> {
    let positive = |value: Option<u64>| value.filter(|value| *value != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = positive(cpu.period());
    let maximum = (quota.is_some() || period.is_some()).then(|| {
        let quota = quota.map_or_else(|| "max".to_owned(), limit);
        period.map_or_else(|| quota.clone(), |period| format!("{quota} {period}"))
    });
    let set = |file: &'static str, value: String| Setting::new("cpu", file, value);
    let sets = |file: &'static str, value: &Option<String>| {
        let value = value.as_ref().filter(|value| !value.is_empty())?;
        Some(Setting::new("cpuset", file, value))
    };
    let all = [
        positive(cpu.shares()).map(|shares| set("cpu.weight", weight(shares).to_string())),
        cpu.idle().map(|idle| set("cpu.idle", idle.to_string())),
        maximum.map(|value| set("cpu.max", value)),
        cpu.burst().map(|burst| set("cpu.max.burst", burst.to_string())),
        sets("cpuset.cpus", cpu.cpus()),
        sets("cpuset.mems", cpu.mems()),
    ];
    all.into_iter().flatten().collect()
}

/// Weight (1 to 10000, usually 100) for shares (2 to 262144, usually 1024), so that usual stays usual.
/// Source: opencontainers/cgroups, `ConvertCPUSharesToCgroupV2Value`: 10 to the power of
/// (l² + 125 l) / 612 − 7/34 with l = log2(shares).
fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        shares => {
            #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18")]
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000"
            )]
            let weight = 10f64.powf(exponent).ceil() as u64;
            weight.clamp(1, 10_000)
        }
    }
}

fn of_pids(pids: &LinuxPids) -> Option<Setting> {
    (pids.limit() != 0).then(|| Setting::new("pids", "pids.max", limit(pids.limit())))
}

fn of_block_io(block: &LinuxBlockIo) -> Vec<Setting> {
    let mut settings = Vec::new();
    // BFQ's scale is that of the spec; the io controller's is ten times as wide.
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        let weight = 1 + (u64::from(weight).max(10) - 10) * 9999 / 990;
        settings.push(Setting::new("io", "io.weight", format!("default {weight}")));
    }
    let throttles = [
        ("rbps", block.throttle_read_bps_device()),
        ("wbps", block.throttle_write_bps_device()),
        ("riops", block.throttle_read_iops_device()),
        ("wiops", block.throttle_write_iops_device()),
    ];
    for (name, devices) in throttles {
        settings.extend(devices.iter().flatten().map(|device| {
            let value = format!("{}:{} {name}={}", device.major(), device.minor(), device.rate());
            Setting::new("io", "io.max", value)
        }));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let settings = steps(&resources).unwrap().into_iter().map(|step| match step {
            Step::Set(setting) => format!("{}={}", setting.file, setting.value),
            Step::EitherOrder(..) => unreachable!(),
        });
        settings.collect()
    }

    #[test]
    fn what_is_not_mentioned_is_not_touched() {
        assert!(written("{}").is_empty());
        assert!(
            written(r#"{"memory":{"limit":0},"cpu":{"shares":0,"quota":0,"period":0},"pids":{"limit":0}}"#).is_empty()
        );
    }

    #[test]
    fn limits_of_a_pod_become_files() {
        assert_eq!(
            written(
                r#"{"memory":{"limit":1048576,"swap":3145728,"reservation":4096},"pids":{"limit":-1},
                "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1"},
                "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"unified":{"memory.high":"900"}}"#
            ),
            [
                "memory.swap.max=2097152",
                "memory.max=1048576",
                "memory.low=4096",
                "cpu.weight=100",
                "cpu.max=50000 100000",
                "cpuset.cpus=0-1",
                "pids.max=max",
                "hugetlb.2MB.max=4194304",
                "memory.high=900",
            ]
        );
    }

    #[test]
    fn no_quota_is_no_maximum() {
        assert_eq!(
            written(r#"{"cpu":{"quota":-1,"period":100000}}"#),
            ["cpu.max=max 100000"]
        );
        assert_eq!(written(r#"{"cpu":{"quota":20000}}"#), ["cpu.max=20000"]);
    }

    #[test]
    fn usual_shares_are_the_usual_weight_and_the_ends_meet() {
        assert_eq!([2, 1024, 262_144, 1 << 40].map(weight), [1, 100, 10_000, 10_000]);
        assert!((2..5000).map(weight).is_sorted());
    }

    #[test]
    fn a_unified_name_cannot_leave_the_cgroup() {
        for name in ["../memory.max", "a/b.c", "tasks"] {
            let json = format!(r#"{{"unified":{{"{name}":"1"}}}}"#);
            let resources: LinuxResources = serde_json::from_str(&json).unwrap();
            assert!(matches!(steps(&resources), Err(Error::NotAFileName(_))));
        }
    }
}
