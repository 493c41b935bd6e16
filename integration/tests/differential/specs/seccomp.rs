//! `linux.seccomp`: which calls are refused, and with what.

use serde_json::{Value, json};

use crate::case::{Case, case};

fn profile(name: &str, profile: Value) -> Case {
    case(&format!("seccomp/{name}")).set("/linux/seccomp", profile)
}

/// Allows everything but `syscalls`.
fn but(syscalls: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls })
}

pub fn cases() -> Vec<Case> {
    let getcwd = |action: &str| json!([{ "names": ["getcwd"], "action": action }]);
    vec![
        case("seccomp/containerd-s-default").edit(|spec, _| spec["linux"]["seccomp"] = tandem_integration::spec::seccomp()),
        case("seccomp/containerd-s-default-of-a-user")
            .edit(|spec, _| spec["linux"]["seccomp"] = tandem_integration::spec::seccomp())
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
        case("seccomp/with-new-privileges").edit(|spec, _| {
            spec["linux"]["seccomp"] = tandem_integration::spec::seccomp();
            spec["process"]["noNewPrivileges"] = false.into();
        }),
        profile("an-error", but(getcwd("SCMP_ACT_ERRNO"))).linux_only(),
        profile("an-error-of-its-own", but(json!([{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }]))).linux_only(),
        profile("an-error-of-zero", but(json!([{ "names": ["ioprio_get"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }]))).linux_only(),
        profile("a-death", but(getcwd("SCMP_ACT_KILL"))).linux_only(),
        profile("a-death-of-the-process", but(getcwd("SCMP_ACT_KILL_PROCESS"))).linux_only(),
        profile("a-trap", but(getcwd("SCMP_ACT_TRAP"))).linux_only(),
        profile("a-note-in-the-log", but(getcwd("SCMP_ACT_LOG"))),
        profile("a-tracer", but(getcwd("SCMP_ACT_TRACE"))).linux_only(),
        profile("by-argument", but(json!([{
            "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
            "args": [{ "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }],
        }]))),
        profile("by-two-arguments", but(json!([{
            "names": ["ioprio_get"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
            "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 0, "op": "SCMP_CMP_LE" }],
        }]))),
        profile("by-masked-argument", but(json!([{
            "names": ["personality"], "action": "SCMP_ACT_ERRNO",
            "args": [{ "index": 0, "value": 0xffff_0000_u32, "valueTwo": 0xffff_0000_u32, "op": "SCMP_CMP_MASKED_EQ" }],
        }]))),
        profile("with-flags", json!({
            "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_LOG" }],
        })),
        profile("with-no-rules", json!({ "defaultAction": "SCMP_ACT_ALLOW" })),
        profile("with-unknown-calls", but(json!([{ "names": ["no_such_call", "getcwd"], "action": "SCMP_ACT_ERRNO" }]))).linux_only(),
        profile("of-several-architectures", json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO" }],
        })).linux_only(),
        profile("unknown-action", but(getcwd("SCMP_ACT_SING"))).error_names(&["SCMP_ACT_SING"]),
        profile("unknown-architecture", json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ABACUS"],
            "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO" }],
        })).error_names(&["SCMP_ARCH_ABACUS"]),
        profile("unknown-flag", json!({
            "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_PIRATE"],
            "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO" }],
        })).error_names(&["SECCOMP_FILTER_FLAG_PIRATE"]),
    ]
}
