//! Pods with users of their own (`hostUsers: false`): root in the container is nobody on the host, and its files and
//! volumes are his all the same.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use serde_json::{Value, json};
use tandem_integration::api::types::Mount;
use tandem_integration::{Container, ContainerBuilder, Result, on_both_generations};

use super::{Both, Seen};

/// Where the container's ids begin on the host, and how many there are.
const BASE: u32 = 231_072;
const SIZE: u32 = 65_536;

fn mapping() -> Value {
    json!([{ "containerID": 0, "hostID": BASE, "size": SIZE }])
}

/// As CRI writes it for a pod with `hostUsers: false`.
fn with_users(builder: ContainerBuilder) -> ContainerBuilder {
    builder.edit(|spec| {
        spec["linux"]["uidMappings"] = mapping();
        spec["linux"]["gidMappings"] = mapping();
        spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "type": "user" }));
    })
}

/// A volume that belongs to root on the host, where no mapped user could reach it by path.
fn volume() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("v")).unwrap();
    std::fs::write(dir.path().join("v/of-root"), "root's\n").unwrap();
    std::fs::set_permissions(dir.path().join("v/of-root"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn with_mapped(builder: ContainerBuilder, source: &Path) -> ContainerBuilder {
    builder
        .mount(
            "/v",
            "bind",
            &source.to_string_lossy(),
            &["rbind", "rw", "rprivate", "idmap"],
        )
        .edit(|spec| {
            let mount = spec["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            mount["uidMappings"] = mapping();
            mount["gidMappings"] = mapping();
        })
}

/// Gives the writable layer to the container's root, as containerd's snapshotter does, and the image's layers by
/// options of the mount, as containerd 2.x does.
fn mapped_rootfs(mounts: &mut [Mount]) {
    for mount in mounts {
        let owned = mount.options.iter().find_map(|option| option.strip_prefix("upperdir="));
        let owned = owned.map_or_else(|| mount.source.clone(), str::to_owned);
        chown(&owned, Some(BASE), Some(BASE)).unwrap();
        mount.options.push(format!("uidmap=0:{BASE}:{SIZE}"));
        mount.options.push(format!("gidmap=0:{BASE}:{SIZE}"));
    }
}

async fn run(container: &Container) -> Result<(u32, String, String)> {
    let mut task = container
        .task_with(|request| mapped_rootfs(&mut request.rootfs))
        .await?;
    task.start().await?;
    let code = task.wait().await?.code;
    task.delete().await?;
    let stderr = task.stderr().map(|pipe| pipe.text()).unwrap_or_default();
    Ok((code, task.stdout().text(), stderr))
}

on_both_generations! {
    async fn root_in_the_container_is_nobody_on_the_host(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for (uid, builder) in [0, 1000].into_iter().flat_map(|uid| both.waiting().map(|b| (uid, b))) {
            let container = with_users(builder).user(uid, uid).groups(&[3000]).create().await?;
            let mut task = container.task_with(|request| mapped_rootfs(&mut request.rootfs)).await?;
            task.start().await?;
            task.stdout().wait_for("up").await?;
            let seen = Seen { pid: task.pid() };
            let (status, on_host) = (seen.status(), BASE + uid);
            assert_eq!(status["Uid"], [on_host; 4].map(|id| id.to_string()).join("\t"));
            assert_eq!(status["Groups"], (BASE + 3000).to_string());
            assert_eq!(seen.proc("uid_map").split_whitespace().collect::<Vec<_>>(), ["0", &BASE.to_string(), &SIZE.to_string()]);
            assert_ne!(seen.link("ns/user"), std::fs::read_link("/proc/self/ns/user").unwrap().to_string_lossy());
            // The image's own files are its root's.
            let data = std::fs::metadata(seen.path("/echo.wasm")).or_else(|_| std::fs::metadata(seen.path("/bin/busybox")));
            assert_eq!(data.unwrap().uid(), BASE);
            task.kill_and_delete().await?;
            container.remove().await?;
        }
        both.stop().await
    }

    async fn a_mapped_volume_is_read_and_written_as_the_hosts_root(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let volume = volume();
        let source = volume.path().join("v");
        for builder in both.reading("/v/of-root") {
            let container = with_mapped(with_users(builder), &source).create().await?;
            let (code, stdout, stderr) = run(&container).await?;
            assert_eq!((code, stdout.as_str()), (0, "root's\n"), "{stderr}");
            container.remove().await?;
        }
        for builder in both.writing("/v/new") {
            let container = with_mapped(with_users(builder), &source).create().await?;
            let (code, _, stderr) = run(&container).await?;
            assert_eq!(code, 0, "{stderr}");
            assert_eq!(source.join("new").metadata().unwrap().uid(), 0);
            std::fs::remove_file(source.join("new")).unwrap();
            container.remove().await?;
        }
        both.stop().await
    }

    async fn a_volume_that_is_not_mapped_belongs_to_nobody(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let volume = volume();
        for builder in both.reading("/v/of-root") {
            let container = with_users(builder).bind(&volume.path().join("v"), "/v", true).create().await?;
            let (code, stdout, stderr) = run(&container).await?;
            assert!(code != 0 && stdout.is_empty(), "{stdout}");
            assert!(stderr.contains("ermission"), "{stderr}");
            container.remove().await?;
        }
        both.stop().await
    }

    async fn what_a_container_writes_to_its_root_belongs_to_its_users(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for builder in both.writing("/written") {
            let container = with_users(builder).create().await?;
            let mut upper = String::new();
            let mut task = container.task_with(|request| {
                mapped_rootfs(&mut request.rootfs);
                let options = request.rootfs.iter().flat_map(|mount| &mount.options);
                upper = options.filter_map(|option| option.strip_prefix("upperdir=")).next().unwrap_or_default().to_owned();
            }).await?;
            task.start().await?;
            assert_eq!(task.wait().await?.code, 0, "{:?}", task.stderr().map(|pipe| pipe.text()));
            if !upper.is_empty() {
                assert_eq!(Path::new(&upper).join("written").metadata().unwrap().uid(), BASE);
            }
            task.delete().await?;
            container.remove().await?;
        }
        both.stop().await
    }

    async fn a_container_joins_its_pods_users(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let [_, pause] = both.waiting();
        let pod = with_users(pause).sandbox().create().await?;
        let mut sandbox = pod.task_with(|request| mapped_rootfs(&mut request.rootfs)).await?;
        sandbox.start().await?;
        sandbox.stdout().wait_for("up").await?;
        let namespaces = Seen { pid: sandbox.pid() };
        for builder in both.waiting() {
            let of = |name: &str| format!("/proc/{}/ns/{name}", namespaces.pid);
            let builder = ["user", "network", "ipc", "uts", "pid"].into_iter().fold(builder.in_sandbox(pod.id()), |builder, name| {
                let kind = if name == "net" { "network" } else { name };
                builder.namespace(kind, Path::new(&of(if name == "network" { "net" } else { name })))
            });
            // By a pid that means nothing on the host its cgroups cannot be found.
            let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
            let builder = builder.pids_limit(77).mount("/sys/fs/cgroup", "cgroup", "cgroup", &options);
            let container = builder.edit(|spec| {
                spec["linux"]["uidMappings"] = mapping();
                spec["linux"]["gidMappings"] = mapping();
            }).create().await?;
            let mut task = container.task_with(|request| mapped_rootfs(&mut request.rootfs)).await?;
            task.start().await?;
            task.stdout().wait_for("up").await?;
            let seen = Seen { pid: task.pid() };
            for name in ["ns/user", "ns/net", "ns/ipc", "ns/uts", "ns/pid"] {
                assert_eq!(seen.link(name), namespaces.link(name), "{name}");
            }
            let limit = ["pids/pids.max", "pids.max"].map(|file| seen.path(&format!("/sys/fs/cgroup/{file}")));
            let limit = limit.iter().find(|file| file.exists()).unwrap();
            assert_eq!(std::fs::read_to_string(limit).unwrap(), "77\n");
            let written = std::fs::write(limit, "9").unwrap_err();
            assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{written}");
            assert!(seen.status()["Uid"].starts_with(&BASE.to_string()));
            task.kill_and_delete().await?;
            container.remove().await?;
        }
        sandbox.kill_and_delete().await?;
        pod.remove().await?;
        both.stop().await
    }
}
