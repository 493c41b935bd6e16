//! Devices: those of the spec are there, and the device cgroup allows what the spec allows; huge pages.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::json;
use tandem_integration::{ContainerBuilder, Result, on_both_generations};

use super::{Both, Running};

/// `/dev/kmsg`, which the default rules do not allow, under another name.
fn with_device(builder: ContainerBuilder, path: &str, allowed: bool) -> ContainerBuilder {
    builder.edit(|spec| {
        spec["linux"]["devices"] = json!([
            { "path": path, "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 0, "gid": 7 },
        ]);
        if allowed {
            let rules = spec["linux"]["resources"]["devices"].as_array_mut().unwrap();
            rules.push(json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }));
        }
    })
}

on_both_generations! {
    async fn devices_of_the_spec_are_made_also_outside_of_dev(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for path in ["/dev/log-of-kernel", "/opt/devices/log"] {
            both.each(|b| with_device(b, path, true), |seen| {
                let data = seen.path(path).symlink_metadata().unwrap();
                assert!(data.file_type().is_char_device());
                assert_eq!((data.rdev(), data.mode() & 0o777, data.gid()), (nix::libc::makedev(1, 11), 0o640, 7));
            }).await?;
        }
        both.stop().await
    }

    async fn a_device_that_is_not_allowed_cannot_be_opened(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for (allowed, path) in [(true, "/dev/x"), (false, "/dev/x"), (true, "/opt/x"), (false, "/opt/x")] {
            for builder in both.waiting() {
                // Opened from outside in the container's cgroup: `dd` would read the kernel's log for ever.
                let running = Running::start(with_device(builder, path, allowed)).await?;
                let opened = opened_in_cgroup_of(running.task.pid(), path);
                assert_eq!(opened, allowed, "{path}, allowed {allowed}");
                running.end().await?;
            }
        }
        both.stop().await
    }

    async fn huge_pages_are_limited(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let v1 = Path::new("/sys/fs/cgroup/hugetlb");
        let v2 = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        let limit = json!([{ "pageSize": "2MB", "limit": 4_194_304 }]);
        let configure = |b: ContainerBuilder| b.edit(|spec| spec["linux"]["resources"]["hugepageLimits"] = limit.clone());
        if v1.exists() || v2.contains("hugetlb") {
            both.each(configure, |seen| {
                let cgroup = seen.proc("cgroup");
                let find = |line: &str| line.split_once(":hugetlb:").map(|(_, path)| format!("{}{path}/hugetlb.2MB.limit_in_bytes", v1.display()));
                let unified = |line: &str| line.strip_prefix("0::").map(|path| format!("/sys/fs/cgroup{path}/hugetlb.2MB.max"));
                let file = cgroup.lines().find_map(find).or_else(|| cgroup.lines().find_map(unified)).unwrap();
                assert_eq!(std::fs::read_to_string(file).unwrap().trim(), "4194304");
            }).await?;
        } else {
            // A limit that cannot be kept is not promised: runc refuses as well.
            for builder in both.waiting() {
                let container = configure(builder).create().await?;
                let error = container.task().await.unwrap_err();
                assert!(error.message().contains("hugetlb"), "{error}");
                container.remove().await?;
            }
        }
        both.stop().await
    }
}

/// Whether a process in the cgroups and mounts of `pid` may open `path` for reading.
fn opened_in_cgroup_of(pid: u32, path: &str) -> bool {
    let cgroups: Vec<std::path::PathBuf> = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let dir = match controllers {
                "devices" => format!("/sys/fs/cgroup/devices{path}/cgroup.procs"),
                "" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
                    format!("/sys/fs/cgroup{path}/cgroup.procs")
                }
                _ => return None,
            };
            Some(dir.into())
        })
        .collect();
    let script = format!(
        "{} exec 3</proc/{pid}/root{path}",
        cgroups
            .iter()
            .map(|file| format!("echo $$ >{};", file.display()))
            .collect::<String>()
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .stderr(std::process::Stdio::null())
        .status();
    status.unwrap().success()
}
