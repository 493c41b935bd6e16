//! `linux.cgroupsPath` and `linux.resources`: what arrives in the container's cgroup.

use serde_json::{Value, json};

use crate::case::{Case, case};

fn resources(name: &str, field: &'static str, value: Value) -> Case {
    case(&format!("cgroups/{name}")).edit(move |spec, _| spec["linux"]["resources"][field] = value.clone())
}

pub fn cases() -> Vec<Case> {
    const MIB: i64 = 1 << 20;
    vec![
        resources("memory-limit", "memory", json!({ "limit": 64 * MIB })),
        resources(
            "memory-limit-and-swap",
            "memory",
            json!({ "limit": 64 * MIB, "swap": 128 * MIB }),
        ),
        resources("memory-unlimited", "memory", json!({ "limit": -1, "swap": -1 })),
        resources(
            "memory-reservation",
            "memory",
            json!({ "limit": 64 * MIB, "reservation": 32 * MIB }),
        ),
        resources("memory-swappiness", "memory", json!({ "swappiness": 10 })),
        resources(
            "memory-without-killing",
            "memory",
            json!({ "limit": 64 * MIB, "disableOOMKiller": true }),
        ),
        resources("memory-too-small", "memory", json!({ "limit": 4096 })),
        resources("cpu-shares", "cpu", json!({ "shares": 512 })),
        resources("cpu-smallest-shares", "cpu", json!({ "shares": 2 })),
        resources("cpu-quota", "cpu", json!({ "quota": 20_000, "period": 50_000 })),
        resources("cpu-quota-alone", "cpu", json!({ "quota": 20_000 })),
        resources("cpu-unlimited", "cpu", json!({ "quota": -1, "period": 100_000 })),
        resources("cpu-period-alone", "cpu", json!({ "period": 50_000 })),
        resources(
            "cpu-burst",
            "cpu",
            json!({ "quota": 50_000, "period": 100_000, "burst": 10_000 }),
        ),
        resources("cpu-idle", "cpu", json!({ "idle": 1 })),
        resources("cpu-set", "cpu", json!({ "cpus": "0", "mems": "0" })),
        resources("cpu-set-that-is-not-there", "cpu", json!({ "cpus": "4000" })).error_names(&["cpus"]),
        resources(
            "cpu-quota-out-of-range",
            "cpu",
            json!({ "quota": 1, "period": 100_000 }),
        )
        .error_names(&["cpu"]),
        resources("pids", "pids", json!({ "limit": 50 })),
        resources("pids-unlimited", "pids", json!({ "limit": -1 })),
        resources("block-io-weight", "blockIO", json!({ "weight": 200 })),
        resources(
            "huge-pages",
            "hugepageLimits",
            json!([{ "pageSize": "2MB", "limit": 4 * MIB }]),
        ),
        resources("network-class", "network", json!({ "classID": 1_048_577 })),
        resources("unified", "unified", json!({ "memory.high": "33554432" })),
        resources("all-at-once", "memory", json!({ "limit": 64 * MIB, "swap": 64 * MIB }))
            .set(
                "/linux/resources/cpu",
                json!({ "shares": 204, "quota": 20_000, "period": 100_000, "cpus": "0-1" }),
            )
            .set("/linux/resources/pids", json!({ "limit": 77 })),
        case("cgroups/path-has-dots").edit(|spec, _| {
            let path = spec["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
            spec["linux"]["cgroupsPath"] = path.replacen('/', "/../", 1).into();
        }),
    ]
}
