//! `process.rlimits`.

use serde_json::{Value, json};

use crate::case::{Case, case};

fn limits(name: &str, limits: Value) -> Case {
    case(&format!("rlimits/{name}")).set("/process/rlimits", limits)
}

fn limit(kind: &str, soft: u64, hard: u64) -> Value {
    json!({ "type": format!("RLIMIT_{kind}"), "soft": soft, "hard": hard })
}

pub fn cases() -> Vec<Case> {
    let all = [
        ("AS", 1 << 40),
        ("CORE", 0),
        ("CPU", 1000),
        ("DATA", 1 << 40),
        ("FSIZE", 1 << 40),
        ("LOCKS", 50),
        ("MEMLOCK", 65536),
        ("MSGQUEUE", 819_200),
        ("NICE", 10),
        ("NOFILE", 512),
        ("NPROC", 4096),
        ("RSS", 1 << 40),
        ("RTPRIO", 5),
        ("RTTIME", 1_000_000),
        ("SIGPENDING", 1000),
        ("STACK", 4 << 20),
    ];
    let all: Vec<Value> = all.iter().map(|(kind, value)| limit(kind, *value, *value)).collect();
    vec![
        limits("of-every-kind", json!(all)).linux_only(),
        limits("none", json!([])),
        case("rlimits/absent").edit(|spec, _| {
            spec["process"].as_object_mut().unwrap().remove("rlimits");
        }),
        limits(
            "soft-below-hard",
            json!([limit("NOFILE", 100, 2000), limit("CORE", 0, 4096)]),
        ),
        limits(
            "infinite",
            json!([limit("CORE", u64::MAX, u64::MAX), limit("MEMLOCK", u64::MAX, u64::MAX)]),
        ),
        limits("eight-descriptors", json!([limit("NOFILE", 8, 8)])),
        limits(
            "more-descriptors-than-the-runtime-has",
            json!([limit("NOFILE", 200_000, 200_000)]),
        ),
        limits("a-small-stack", json!([limit("STACK", 1 << 20, 1 << 20)])).linux_only(),
        limits("hard-below-soft", json!([limit("NOFILE", 2000, 1000)])).error_names(&["NOFILE"]),
        limits(
            "above-what-the-kernel-allows",
            json!([limit("NOFILE", u64::MAX, u64::MAX)]),
        )
        .error_names(&["NOFILE"]),
        limits("unknown", json!([limit("FLIGHT", 1, 1)])).error_names(&["RLIMIT_FLIGHT"]),
        limits("twice", json!([limit("NOFILE", 100, 100), limit("NOFILE", 200, 200)])),
        limits(
            "of-a-user",
            json!([limit("NOFILE", 100, 100), limit("NPROC", 4096, 4096)]),
        )
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
    ]
}
