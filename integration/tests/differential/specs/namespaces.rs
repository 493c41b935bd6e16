//! `linux.namespaces`, id mappings, host and domain names, clock offsets, `linux.sysctl`.

use std::os::unix::fs::chown;

use serde_json::{Value, json};
use tandem_integration::api::types::Mount;

use crate::case::{Case, case, push, remove};

/// Where a container's ids begin on the host, and how many there are.
const BASE: u32 = 231_072;
const SIZE: u32 = 65_536;

pub fn cases() -> Vec<Case> {
    [shared(), joined(), users(), names(), sysctls()].concat()
}

fn without(kinds: &'static [&'static str]) -> Case {
    case(&format!("namespaces/without-{}", kinds.join("-"))).edit(move |spec, _| {
        for kind in kinds {
            remove(spec, "/linux/namespaces", "type", kind);
        }
    })
}

fn namespaced(name: &str, namespace: Value) -> Case {
    case(&format!("namespaces/{name}")).push("/linux/namespaces", namespace)
}

fn shared() -> Vec<Case> {
    vec![
        without(&["pid"]),
        without(&["ipc"]),
        without(&["uts"]),
        without(&["network"]),
        without(&["pid", "ipc", "uts", "network"]),
        namespaced("cgroup", json!({ "type": "cgroup" })),
        namespaced("cgroup-with-its-hierarchies", json!({ "type": "cgroup" })).mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        namespaced("time", json!({ "type": "time" })),
        namespaced("time-with-offsets", json!({ "type": "time" })).set(
            "/linux/timeOffsets",
            json!({ "monotonic": { "secs": 1000, "nanosecs": 5 }, "boottime": { "secs": 2000, "nanosecs": 6 } }),
        ),
        without(&["mount"]),
        case("namespaces/none").set("/linux/namespaces", json!([])),
        namespaced("unknown", json!({ "type": "kitchen" })).error_names(&["kitchen"]),
        namespaced("twice", json!({ "type": "uts" })).error_names(&["uts"]),
    ]
}

fn joined() -> Vec<Case> {
    vec![
        case("namespaces/network-joined").edit(|spec, stage| {
            remove(spec, "/linux/namespaces", "type", "network");
            let path = stage.netns.path().to_string_lossy().into_owned();
            push(spec, "/linux/namespaces", json!({ "type": "network", "path": path }));
        }),
        case("namespaces/ipc-joined-by-process").edit(|spec, _| {
            remove(spec, "/linux/namespaces", "type", "ipc");
            push(
                spec,
                "/linux/namespaces",
                json!({ "type": "ipc", "path": format!("/proc/{}/ns/ipc", std::process::id()) }),
            );
        }),
        case("namespaces/path-is-missing")
            .edit(|spec, _| {
                remove(spec, "/linux/namespaces", "type", "network");
                push(
                    spec,
                    "/linux/namespaces",
                    json!({ "type": "network", "path": "/no/such/namespace" }),
                );
            })
            .error_names(&["/no/such/namespace", "o such file"]),
        case("namespaces/path-is-of-another-kind")
            .edit(|spec, _| {
                remove(spec, "/linux/namespaces", "type", "network");
                push(
                    spec,
                    "/linux/namespaces",
                    json!({ "type": "network", "path": "/proc/self/ns/uts" }),
                );
            })
            .error_names(&["/proc/self/ns/uts"]),
    ]
}

fn users() -> Vec<Case> {
    let map = |container: u32, host: u32, size: u32| json!({ "containerID": container, "hostID": host, "size": size });
    let mapped = |name: &str, maps: Value| {
        namespaced(&format!("user-{name}"), json!({ "type": "user" }))
            .set("/linux/uidMappings", maps.clone())
            .set("/linux/gidMappings", maps)
            .look(&["/data", "/data/seed", "/tmp"])
    };
    let one = json!([map(0, BASE, SIZE)]);
    vec![
        mapped("with-one-range", one.clone()).mapped(),
        mapped(
            "with-several-ranges",
            json!([
                map(0, BASE, 1000),
                map(1000, 500_000, 1000),
                map(2000, BASE + 1000, 5000)
            ]),
        ),
        mapped("with-the-host-s-root", json!([map(0, 0, 1), map(1, BASE, SIZE)])),
        mapped("of-another-user", one.clone()).mapped().set(
            "/process/user",
            json!({ "uid": 1000, "gid": 1000, "additionalGids": [3000] }),
        ),
        mapped("with-a-volume", one.clone())
            .mapped()
            .bind("dir", "/v", &["rbind"])
            .look(&["/v", "/v/file"]),
        mapped("with-a-mapped-volume", one.clone())
            .mapped()
            .look(&["/v", "/v/file"])
            .edit(move |spec, stage| {
                let source = stage.path("out").to_string_lossy().into_owned();
                let maps = json!([{ "containerID": 0, "hostID": BASE, "size": SIZE }]);
                push(
                    spec,
                    "/mounts",
                    json!({
                        "destination": "/v", "type": "bind", "source": source, "options": ["bind", "idmap"],
                        "uidMappings": maps, "gidMappings": maps,
                    }),
                );
            }),
        mapped("with-the-host-s-network", one.clone()).mapped().edit(|spec, _| {
            remove(spec, "/linux/namespaces", "type", "network");
            remove(spec, "/mounts", "destination", "/sys");
        }),
        mapped("with-devices", one.clone()).mapped().push(
            "/linux/devices",
            json!({ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666 }),
        ),
        namespaced("user-without-mappings", json!({ "type": "user" })).error_names(&["appings"]),
        mapped(
            "with-ranges-that-overlap",
            json!([map(0, BASE, 1000), map(500, 600_000, 1000)]),
        )
        .error_names(&["map", "nvalid argument"]),
        mapped("that-does-not-map-the-user", json!([map(0, BASE, 10)]))
            .set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
        case("namespaces/mappings-without-user")
            .set("/linux/uidMappings", json!([map(0, BASE, SIZE)]))
            .set("/linux/gidMappings", json!([map(0, BASE, SIZE)])),
        mapped("and-the-program-is-missing", one)
            .mapped()
            .linux_only()
            .set("/process/args", json!(["/no/such/program"]))
            .error_names(&["/no/such/program", "o such file"]),
    ]
}

fn names() -> Vec<Case> {
    vec![
        case("names/host").set("/hostname", json!("differential")),
        case("names/domain").set("/domainname", json!("example.test")),
        case("names/host-and-domain")
            .set("/hostname", json!("a"))
            .set("/domainname", json!("b")),
        without(&["uts"])
            .named("names/host-without-a-namespace")
            .set("/hostname", json!("x"))
            .error_names(&["ostname"]),
        case("names/host-too-long")
            .set("/hostname", json!("x".repeat(65)))
            .error_names(&["ostname"]),
    ]
}

fn sysctls() -> Vec<Case> {
    let sysctl = |name: &str, values: Value| case(&format!("sysctl/{name}")).set("/linux/sysctl", values);
    vec![
        sysctl("of-each-namespace", json!({
            "net.ipv4.ip_forward": "1", "net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1", "kernel.msgmax": "12345",
            "fs.mqueue.msg_max": "13",
        }))
        .look(&[
            "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/core/somaxconn", "/proc/sys/kernel/shm_rmid_forced",
            "/proc/sys/kernel/msgmax", "/proc/sys/fs/mqueue/msg_max",
        ]),
        sysctl("with-slashes", json!({ "net/ipv4/conf/lo/forwarding": "1" })).look(&["/proc/sys/net/ipv4/conf/lo/forwarding"]),
        sysctl("domain", json!({ "kernel.domainname": "by.sysctl" })),
        sysctl("of-the-host", json!({ "vm.swappiness": "10" })).error_names(&["vm.swappiness"]),
        sysctl("host-name", json!({ "kernel.hostname": "x" })),
        sysctl("unknown", json!({ "net.no_such.thing": "1" })).error_names(&["net", "no_such"]),
        case("sysctl/out-of-the-tree")
            .edit(|spec, _| {
                // What the host has, lest a runtime that is led there change it.
                let own = std::fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
                spec["linux"]["sysctl"] = json!({ "net/../vm/swappiness": own.trim() });
            })
            .error_names(&["swappiness"]),
        sysctl("bad-value", json!({ "net.ipv4.ip_forward": "banana" })).error_names(&["ip_forward"]),
        sysctl("of-the-host-s-network", json!({ "net.core.somaxconn": "99" }))
            .edit(|spec, _| remove(spec, "/linux/namespaces", "type", "network"))
            .error_names(&["net.core.somaxconn"]),
    ]
}

/// Gives the writable layer to the container's root, as containerd's snapshotter does, and the image's layers by
/// options of the mount, as containerd 2.x does.
pub fn mapped_rootfs(mounts: &mut [Mount]) {
    for mount in mounts {
        let owned = mount.options.iter().find_map(|option| option.strip_prefix("upperdir="));
        let owned = owned.map_or_else(|| mount.source.clone(), str::to_owned);
        chown(&owned, Some(BASE), Some(BASE)).unwrap();
        mount.options.push(format!("uidmap=0:{BASE}:{SIZE}"));
        mount.options.push(format!("gidmap=0:{BASE}:{SIZE}"));
    }
}
