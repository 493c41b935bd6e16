//! `mounts`, `root` and `linux.rootfsPropagation`.

use serde_json::json;

use crate::case::{Case, case, entry, remove};

pub fn cases() -> Vec<Case> {
    [volumes(), targets(), kinds(), roots(), refused()].concat()
}

fn volumes() -> Vec<Case> {
    vec![
        case("mounts/bind")
            .bind("dir", "/v", &["bind"])
            .look(&["/v", "/v/file", "/v/below"]),
        case("mounts/rbind")
            .bind("dir", "/v", &["rbind"])
            .look(&["/v", "/v/below"]),
        case("mounts/bind-read-only")
            .bind("dir", "/v", &["bind", "ro"])
            .look(&["/v", "/v/file"]),
        case("mounts/rbind-read-only")
            .bind("dir", "/v", &["rbind", "ro"])
            .look(&["/v", "/v/below"]),
        case("mounts/rbind-recursively-read-only")
            .bind("dir", "/v", &["rbind", "rro"])
            .look(&["/v", "/v/below"]),
        case("mounts/bind-of-a-file")
            .bind("file", "/etc/new", &["bind", "ro"])
            .look(&["/etc/new"]),
        case("mounts/bind-over-a-file")
            .bind("file", "/etc/passwd", &["bind"])
            .look(&["/etc/passwd"]),
        case("mounts/bind-of-a-link")
            .bind("link", "/v", &["bind"])
            .look(&["/v", "/v/file"]),
        case("mounts/bind-of-a-flagged-mount").bind("flagged", "/v", &["bind"]),
        case("mounts/bind-of-a-flagged-mount-read-only").bind("flagged", "/v", &["bind", "ro"]),
        case("mounts/bind-of-a-flagged-mount-with-its-flags-cleared").bind(
            "flagged",
            "/v",
            &["bind", "suid", "dev", "exec"],
        ),
        case("mounts/bind-of-a-shared-mount").bind("shared", "/v", &["rbind"]),
        case("mounts/bind-of-what-only-root-may-reach")
            .bind("private", "/v", &["bind"])
            .look(&["/v", "/v/file"]),
        case("mounts/bind-of-a-device")
            .mount("/data/null", "bind", "/dev/null", &["bind"])
            .look(&["/data/null"]),
        case("mounts/bind-without-a-type").edit(|spec, stage| {
            let source = stage.path("dir").to_string_lossy().into_owned();
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.push(json!({ "destination": "/v", "source": source, "options": ["rbind"] }));
        }),
        case("mounts/bind-of-type-none").edit(|spec, stage| {
            let source = stage.path("dir").to_string_lossy().into_owned();
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.push(json!({ "destination": "/v", "type": "none", "source": source, "options": ["bind"] }));
        }),
        case("mounts/type-bind-without-the-option")
            .bind("dir", "/v", &["ro"])
            .look(&["/v"]),
        case("mounts/a-relative-source").mount("/spec", "bind", "config.json", &["bind", "ro"]),
    ]
}

fn targets() -> Vec<Case> {
    vec![
        case("mounts/target-is-made")
            .bind("dir", "/made/deep/below", &["bind"])
            .look(&["/made", "/made/deep"]),
        case("mounts/target-file-is-made")
            .bind("file", "/made/deep/file", &["bind"])
            .look(&["/made", "/made/deep/file"]),
        case("mounts/target-is-made-in-a-volume")
            .bind("out", "/v", &["bind"])
            .mount("/v/new", "tmpfs", "tmpfs", &[])
            .look(&["/v/new"]),
        case("mounts/target-through-a-link")
            .bind("dir", "/to-data", &["bind"])
            .look(&["/to-data", "/data", "/data/file"]),
        case("mounts/target-below-a-link")
            .bind("file", "/var/run/new", &["bind"])
            .look(&["/var/run/new", "/run/new"]),
        case("mounts/target-of-a-dangling-link")
            .bind("dir", "/to-nowhere", &["bind"])
            .look(&["/to-nowhere", "/no/such/place"]),
        case("mounts/target-with-dots")
            .bind("dir", "/data/../v/./x//", &["bind"])
            .look(&["/v/x"]),
        case("mounts/target-out-of-the-root")
            .bind("dir", "/../../../v", &["bind"])
            .look(&["/v"]),
        case("mounts/target-is-relative")
            .bind("dir", "v", &["bind"])
            .look(&["/v"]),
        case("mounts/two-on-one-target")
            .bind("dir", "/v", &["bind"])
            .mount("/v", "tmpfs", "tmpfs", &["ro"])
            .look(&["/v"]),
        case("mounts/a-parent-after-its-child")
            .bind("dir", "/v/child", &["bind"])
            .mount("/v", "tmpfs", "tmpfs", &[]),
        case("mounts/nested-volumes")
            .mount("/v", "tmpfs", "tmpfs", &["mode=755"])
            .bind("dir", "/v/a/b", &["bind", "ro"])
            .bind("file", "/v/a/c", &["bind"])
            .look(&["/v/a", "/v/a/b", "/v/a/c"]),
        case("mounts/on-a-file-of-proc")
            .bind("file", "/proc/uptime", &["bind", "ro"])
            .look(&["/proc/uptime"]),
        case("mounts/on-a-directory-of-sys")
            .mount("/sys/firmware", "tmpfs", "tmpfs", &["ro"])
            .look(&["/sys/firmware"]),
        case("mounts/over-sys")
            .mount("/sys", "tmpfs", "tmpfs", &["ro"])
            .edit(|spec, _| {
                spec["linux"]["maskedPaths"] = json!([]);
            }),
        case("mounts/on-the-root").bind("dir", "/", &["bind"]).linux_only(),
    ]
}

fn kinds() -> Vec<Case> {
    vec![
        case("mounts/tmpfs").mount("/v", "tmpfs", "tmpfs", &[]).look(&["/v"]),
        case("mounts/tmpfs-with-data")
            .mount(
                "/v",
                "tmpfs",
                "memory",
                &["size=64k", "mode=1700", "uid=5", "gid=6", "nr_inodes=32"],
            )
            .look(&["/v"]),
        case("mounts/tmpfs-takes-the-mode-of-what-it-covers")
            .mount("/data/sub", "tmpfs", "tmpfs", &[])
            .look(&["/data/sub"]),
        case("mounts/tmpfs-over-tmp")
            .mount("/tmp", "tmpfs", "tmpfs", &["nosuid"])
            .look(&["/tmp"]),
        case("mounts/tmpfs-with-a-copy")
            .mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"])
            .look(&["/data", "/data/seed", "/data/sub", "/data/sub/deep"]),
        case("mounts/tmpfs-with-a-copy-read-only")
            .mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "ro", "size=1m"])
            .look(&["/data", "/data/seed"]),
        case("mounts/proc-with-hidden-processes").edit(|spec, _| {
            entry(spec, "/mounts", "destination", "/proc")["options"] =
                json!(["nosuid", "noexec", "nodev", "hidepid=2"]);
        }),
        case("mounts/proc-without-options").edit(|spec, _| {
            entry(spec, "/mounts", "destination", "/proc")["options"] = json!([]);
        }),
        case("mounts/sysfs-writable").edit(|spec, _| {
            entry(spec, "/mounts", "destination", "/sys")["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }),
        case("mounts/without-sys").edit(|spec, _| remove(spec, "/mounts", "destination", "/sys")),
        case("mounts/without-dev").edit(|spec, _| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        }),
        case("mounts/dev-is-a-volume")
            .edit(|spec, stage| {
                let mounts = spec["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
                let source = stage.path("out").to_string_lossy().into_owned();
                mounts.push(json!({ "destination": "/dev", "type": "bind", "source": source, "options": ["bind"] }));
            })
            .linux_only(),
        case("mounts/dev-read-only").edit(|spec, _| {
            entry(spec, "/mounts", "destination", "/dev")["options"] = json!(["nosuid", "ro", "mode=755"]);
        }),
        case("mounts/cgroup-read-only").mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
        case("mounts/cgroup-writable").mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "rw"],
        ),
    ]
}

fn roots() -> Vec<Case> {
    let mut cases = vec![
        case("root/read-only")
            .set("/root/readonly", json!(true))
            .look(&["/", "/data", "/tmp"]),
        case("root/read-only-with-a-target-to-make")
            .set("/root/readonly", json!(true))
            .bind("out", "/made/below", &["bind"])
            .look(&["/made", "/made/below"]),
    ];
    for propagation in [
        "private",
        "rprivate",
        "slave",
        "rslave",
        "shared",
        "rshared",
        "unbindable",
        "runbindable",
    ] {
        cases.push(
            case(&format!("root/propagation-{propagation}"))
                .bind("shared", "/v", &["rbind"])
                .edit(move |spec, _| spec["linux"]["rootfsPropagation"] = propagation.into()),
        );
    }
    cases.push(
        case("root/propagation-unknown")
            .set("/linux/rootfsPropagation", json!("sideways"))
            .error_names(&["sideways"]),
    );
    cases
}

fn refused() -> Vec<Case> {
    vec![
        case("mounts/source-is-missing")
            .bind("no-such", "/v", &["bind"])
            .error_names(&["no-such", "/v", "o such file"]),
        case("mounts/source-is-missing-and-recursive")
            .bind("no-such", "/v", &["rbind"])
            .error_names(&["no-such", "/v"]),
        case("mounts/unknown-type")
            .mount("/v", "nosuchfs", "none", &[])
            .error_names(&["/v", "nosuchfs"]),
        case("mounts/bad-data")
            .mount("/v", "tmpfs", "tmpfs", &["size=banana"])
            .error_names(&["/v", "nvalid argument"]),
        case("mounts/a-directory-on-a-file")
            .bind("dir", "/etc/passwd", &["bind"])
            .error_names(&["/etc/passwd", "ot a directory"]),
        case("mounts/a-file-on-a-directory")
            .bind("file", "/data", &["bind"])
            .error_names(&["/data"]),
        case("mounts/target-loops")
            .bind("dir", "/loop/x", &["bind"])
            .error_names(&["/loop"]),
        case("mounts/target-below-a-file")
            .bind("dir", "/etc/passwd/x", &["bind"])
            .error_names(&["/etc/passwd/x"]),
        case("mounts/over-proc")
            .bind("dir", "/proc", &["bind"])
            .error_names(&["/proc"]),
        case("mounts/tmpfs-over-proc")
            .mount("/proc", "tmpfs", "tmpfs", &[])
            .error_names(&["/proc"]),
        case("mounts/inside-of-proc")
            .bind("dir", "/proc/1/fd", &["bind"])
            .error_names(&["/proc/1/fd"]),
        case("mounts/on-a-file-of-proc-that-decides")
            .bind("file", "/proc/sys/kernel/core_pattern", &["bind"])
            .error_names(&["/proc/sys/kernel/core_pattern"]),
        case("mounts/target-is-made-in-a-read-only-volume")
            .bind("dir", "/v", &["bind", "ro"])
            .mount("/v/new", "tmpfs", "tmpfs", &[])
            .error_names(&["/v/new"]),
        case("root/missing")
            .set("/root/path", json!("no-such-root"))
            .error_names(&["no-such-root"]),
    ]
}
