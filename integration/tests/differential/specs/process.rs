//! `process`: environment, working directory, capabilities, scheduling, terminal; for the first process and for one that
//! is executed.

use serde_json::{Value, json};

use crate::case::{Case, case};

const PATH: &str = "PATH=/usr/bin:/bin";

pub fn cases() -> Vec<Case> {
    [
        environment(),
        directories(),
        capabilities(),
        rights(),
        scheduling(),
        terminals(),
        executed(),
    ]
    .concat()
}

fn env(name: &str, env: &[&str]) -> Case {
    case(&format!("environment/{name}")).set("/process/env", json!(env))
}

fn environment() -> Vec<Case> {
    vec![
        env("keeps-its-order", &["Z=1", PATH, "A=2", "M=3"]),
        env("has-an-empty-value", &[PATH, "EMPTY=", "AFTER=1"]),
        env("has-a-value-with-an-equals-sign", &[PATH, "A=b=c", "B= spaced "]),
        env("has-a-name-twice", &[PATH, "A=1", "B=2", "A=3"]),
        env("has-no-value", &[PATH, "NOVALUE"]),
        env("has-an-empty-name", &[PATH, "=x"]),
        env("has-no-path", &["A=1"]),
        env("is-empty", &[]),
        env("names-a-home", &[PATH, "HOME=/elsewhere"]),
        env("names-an-empty-home", &[PATH, "HOME="]),
        env("has-unicode-and-quotes", &[PATH, "A=ä b\t\"'\\"]),
        env("has-much", &[PATH, &format!("BIG={}", "x".repeat(30_000))]),
        case("environment/is-absent").edit(|spec, _| {
            spec["process"].as_object_mut().unwrap().remove("env");
        }),
        env("has-home-of-a-user", &[PATH]).set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
        env("has-home-of-nobody", &[PATH]).set("/process/user", json!({ "uid": 4242, "gid": 0 })),
        env("has-home-of-a-user-without-one", &[PATH]).set("/process/user", json!({ "uid": 2000, "gid": 0 })),
    ]
}

fn cwd(name: &str, dir: &str) -> Case {
    case(&format!("cwd/{name}")).set("/process/cwd", json!(dir))
}

fn directories() -> Vec<Case> {
    vec![
        cwd("exists", "/data/sub"),
        cwd("is-made", "/new/deep").look(&["/new", "/new/deep"]),
        cwd("is-made-for-a-user", "/new/deep")
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
            .look(&["/new/deep"]),
        cwd("is-below-a-volume", "/v/new")
            .bind("out", "/v", &["bind"])
            .look(&["/v/new"]),
        cwd("is-below-a-tmpfs", "/v/new")
            .mount("/v", "tmpfs", "tmpfs", &[])
            .look(&["/v/new"]),
        cwd("is-below-a-tmpfs-of-a-read-only-root", "/run/new").set("/root/readonly", json!(true)),
        cwd("is-a-link", "/to-data"),
        cwd("has-dots", "/data/./sub/../sub/"),
        cwd("is-a-dangling-link", "/to-nowhere").error_names(&["/to-nowhere"]),
        cwd("is-a-file", "/etc/passwd").error_names(&["/etc/passwd", "ot a directory"]),
        cwd("is-relative", "data").error_names(&["bsolute"]),
        cwd("is-empty", "").error_names(&["wd"]),
        cwd("is-made-in-a-read-only-root", "/new/deep").set("/root/readonly", json!(true)),
        cwd("is-closed-to-the-user", "/closed")
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
            .set("/process/capabilities", json!({}))
            .error_names(&["/closed", "ermission denied"]),
        cwd("is-closed-to-the-user-but-not-to-the-capabilities", "/closed")
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
    ]
}

fn sets(name: &str, value: Value) -> Case {
    case(&format!("capabilities/{name}")).set("/process/capabilities", value)
}

fn capabilities() -> Vec<Case> {
    let two = ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"];
    let user = json!({ "uid": 1000, "gid": 1000 });
    vec![
        sets("none", json!({})),
        sets(
            "empty",
            json!({ "bounding": [], "permitted": [], "effective": [], "inheritable": [], "ambient": [] }),
        ),
        sets("bounding-only", json!({ "bounding": two })),
        sets(
            "all-five",
            json!({ "bounding": two, "permitted": two, "effective": two, "inheritable": two, "ambient": two }),
        ),
        sets(
            "ambient-of-a-user",
            json!({ "bounding": two, "permitted": two, "effective": two, "inheritable": two, "ambient": two }),
        )
        .set("/process/user", user.clone()),
        sets(
            "inheritable-of-a-user",
            json!({ "bounding": two, "permitted": two, "effective": two, "inheritable": two }),
        )
        .set("/process/user", user.clone()),
        sets(
            "permitted-of-a-user",
            json!({ "bounding": two, "permitted": two, "effective": two }),
        )
        .set("/process/user", user),
        sets(
            "effective-is-less",
            json!({ "bounding": two, "permitted": two, "effective": ["CAP_CHOWN"] }),
        ),
        sets(
            "ambient-without-inheritable",
            json!({ "bounding": two, "permitted": two, "effective": two, "ambient": two }),
        ),
        sets("all-of-the-kernel", all_capabilities()),
        sets(
            "unknown",
            json!({ "bounding": ["CAP_CHOWN", "CAP_FLY"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"] }),
        ),
        case("capabilities/absent").edit(|spec, _| {
            spec["process"].as_object_mut().unwrap().remove("capabilities");
        }),
    ]
}

fn all_capabilities() -> Value {
    let names = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    let names: Vec<String> = names.iter().map(|name| format!("CAP_{name}")).collect();
    json!({ "bounding": names, "permitted": names, "effective": names })
}

fn rights() -> Vec<Case> {
    vec![
        case("process/may-gain-privileges").edit(|spec, _| {
            spec["process"].as_object_mut().unwrap().remove("noNewPrivileges");
        }),
        case("process/apparmor-profile-that-is-not-there")
            .set("/process/apparmorProfile", json!("no-such-profile"))
            .error_names(&["rmor"]),
        case("process/selinux-label").set("/process/selinuxLabel", json!("system_u:system_r:container_t:s0")),
        case("process/oom-score").set("/process/oomScoreAdj", json!(321)),
        case("process/oom-score-zero").set("/process/oomScoreAdj", json!(0)),
        case("process/oom-score-negative").set("/process/oomScoreAdj", json!(-321)),
        case("process/oom-score-out-of-range")
            .set("/process/oomScoreAdj", json!(2000))
            .error_names(&["oom_score_adj"]),
        case("process/personality").set("/linux/personality", json!({ "domain": "LINUX32" })),
        case("process/personality-unknown")
            .set("/linux/personality", json!({ "domain": "SOLARIS" }))
            .error_names(&["SOLARIS"]),
    ]
}

fn scheduling() -> Vec<Case> {
    vec![
        case("scheduling/batch").set("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 })),
        case("scheduling/idle").set("/process/scheduler", json!({ "policy": "SCHED_IDLE" })),
        case("scheduling/nice").set("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": -5 })),
        case("scheduling/round-robin").set("/process/scheduler", json!({ "policy": "SCHED_RR", "priority": 7 })),
        case("scheduling/unknown")
            .set("/process/scheduler", json!({ "policy": "SCHED_NEVER" }))
            .error_names(&["SCHED_NEVER"]),
        case("scheduling/io").set(
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }),
        ),
        case("scheduling/io-idle").set(
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 }),
        ),
        case("scheduling/affinity-of-what-is-executed")
            .exec(|process, _| process["execCPUAffinity"] = json!({ "initial": "0", "final": "1" }))
            .linux_only(),
    ]
}

fn terminals() -> Vec<Case> {
    let terminal = |name: &str| {
        case(&format!("terminal/{name}"))
            .set("/process/terminal", json!(true))
            .linux_only()
    };
    vec![
        terminal("plain"),
        terminal("with-a-size").set("/process/consoleSize", json!({ "width": 132, "height": 43 })),
        terminal("of-a-user").set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
    ]
}

fn executed() -> Vec<Case> {
    let exec = |name: &str, field: &'static str, value: Value| {
        let case = case(&format!("exec/{name}")).linux_only();
        case.exec(move |process, _| process[field] = value.clone())
    };
    vec![
        exec(
            "user",
            "user",
            json!({ "uid": 1000, "gid": 1000, "additionalGids": [3000, 5] }),
        ),
        exec("user-unknown", "user", json!({ "uid": 4242, "gid": 17 })),
        exec("umask", "user", json!({ "uid": 0, "gid": 0, "umask": 0o77 })),
        exec("cwd", "cwd", json!("/data/sub")),
        exec("cwd-is-missing", "cwd", json!("/no/such")).error_names(&["/no/such"]),
        exec("cwd-is-a-link", "cwd", json!("/to-data")),
        exec("environment", "env", json!(["Z=1", PATH, "A=2", "A=3", "EMPTY="])),
        exec("environment-with-home", "env", json!([PATH, "HOME=/x"])),
        exec(
            "capabilities",
            "capabilities",
            json!({ "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] }),
        ),
        exec("no-capabilities", "capabilities", json!({})),
        exec("capabilities-absent", "capabilities", Value::Null),
        exec("may-gain-privileges", "noNewPrivileges", json!(false)),
        exec(
            "limits",
            "rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 }]),
        ),
        exec("limits-absent", "rlimits", Value::Null),
        exec("oom-score", "oomScoreAdj", json!(123)),
        exec("scheduler", "scheduler", json!({ "policy": "SCHED_BATCH", "nice": 3 })),
        exec(
            "io-priority",
            "ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 1 }),
        ),
        exec("terminal", "terminal", json!(true)),
        exec(
            "apparmor-profile-that-is-not-there",
            "apparmorProfile",
            json!("no-such"),
        )
        .error_names(&["rmor"]),
        exec("where-the-container-has-a-user", "user", json!({ "uid": 0, "gid": 0 }))
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
    ]
}
