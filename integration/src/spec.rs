//! The OCI runtime spec that containers start from: containerd's own default (`pkg/oci/spec.go`,
//! `populateDefaultUnixSpec` and `WithDefaultUnixDevices`), so that what a test sees is what a user would.
//!
//! It is plain JSON, because tests must be able to write what a typed spec could not hold.

use std::path::Path;

use serde_json::{Value, json};

/// Type of the spec in a container's record.
pub const TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Capabilities of a container that asks for nothing.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// `PATH` of a container whose image names none.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// System calls that containerd's default profile allows without conditions (`contrib/seccomp/seccomp_default.go`).
const ALLOWED_CALLS: &str = include_str!("seccomp.txt");

/// The default spec of a container in the cgroup `cgroups_path`.
pub fn default(cgroups_path: &str) -> Value {
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "network"];
    // As containerd's clients do: with the unified hierarchy a container gets a cgroup namespace too.
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        namespaces.push("cgroup");
    }
    let namespaces: Vec<Value> = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "process": {
            "cwd": "/",
            "args": [],
            "env": [PATH],
            "noNewPrivileges": true,
            "user": { "uid": 0, "gid": 0 },
            "capabilities": {
                "bounding": CAPABILITIES,
                "permitted": CAPABILITIES,
                "effective": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        },
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/run", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/sys/devices/virtual/powercap",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
            "resources": { "devices": devices() },
        },
    })
}

/// A mount entry.
pub fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn devices() -> Vec<Value> {
    // null, random, full, tty, zero, urandom, console, and all of devpts.
    const ALLOWED: [(u32, Option<u32>); 9] = [
        (1, Some(3)),
        (1, Some(8)),
        (1, Some(7)),
        (5, Some(0)),
        (1, Some(5)),
        (1, Some(9)),
        (5, Some(1)),
        (136, None),
        (5, Some(2)),
    ];
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    for (major, minor) in ALLOWED {
        let mut rule = json!({ "allow": true, "type": "c", "major": major, "access": "rwm" });
        if let Some(minor) = minor {
            rule["minor"] = minor.into();
        }
        rules.push(rule);
    }
    rules
}

/// containerd's default seccomp profile for a container with the default capabilities.
pub fn seccomp() -> Value {
    const AF_VSOCK: u32 = 40;
    // CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWCGROUP.
    const CLONE_NAMESPACES: u32 = 0x7E02_0000;
    const ENOSYS: u32 = 38;
    let allow = |names: &[&str], args: Value| json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": args });
    let arg = |index: u32, value: u32, op: &str| json!([{ "index": index, "value": value, "op": op }]);
    let mut rules = vec![
        allow(&ALLOWED_CALLS.split_whitespace().collect::<Vec<_>>(), json!([])),
        allow(&["socket"], arg(0, AF_VSOCK, "SCMP_CMP_NE")),
        allow(&["process_vm_readv", "process_vm_writev", "ptrace"], json!([])),
        allow(
            &["clone"],
            json!([{
                "index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ",
            }]),
        ),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }),
        allow(&["chroot"], json!([])),
    ];
    for persona in [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(allow(&["personality"], arg(0, persona, "SCMP_CMP_EQ")));
    }
    let architectures = match std::env::consts::ARCH {
        "aarch64" => vec!["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => {
            rules.push(allow(&["arch_prctl", "modify_ldt"], json!([])));
            vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        }
    };
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": architectures, "syscalls": rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_allows_what_every_program_needs_and_nothing_of_the_kernels_own() {
        let calls: Vec<_> = ALLOWED_CALLS.split_whitespace().collect();
        assert!(calls.contains(&"execve") && calls.contains(&"write"));
        assert!(!calls.contains(&"mount") && !calls.contains(&"init_module"));
    }
}
