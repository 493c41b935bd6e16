use super::*;
use serde_json::{Value, json};

fn around(modules: Modules) -> Surroundings<'static> {
    Surroundings {
        bundle: Path::new("/bundle"),
        modules,
        systemd_cgroup: false,
        is_directory: &|path| !path.ends_with("file"),
        hierarchies: vec![(
            "/sys/fs/cgroup/cpu,cpuacct".into(),
            "/sys/fs/cgroup/cpu,cpuacct/pods/c".into(),
        )],
        host_process: 7,
    }
}

fn spec(edit: impl FnOnce(&mut Value)) -> Spec {
    let mut spec = json!({
        "ociVersion": "1.1.0",
        "root": { "path": "rootfs" },
        "process": {
            "cwd": "/", "args": ["x"], "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": true,
            "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
        },
        "mounts": [{ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }],
        "linux": { "namespaces": [{ "type": "mount" }], "cgroupsPath": "pods/c" },
    });
    edit(&mut spec);
    serde_json::from_value(spec).unwrap()
}

fn bind(options: &[&str]) -> Value {
    json!([{ "destination": "/data", "type": "bind", "source": "/src/dir", "options": options }])
}

fn adapted(edit: impl FnOnce(&mut Value)) -> Adapted {
    adapt(&spec(edit), &around(Modules::default())).unwrap().unwrap()
}

#[test]
fn an_ordinary_spec_is_given_to_libcontainer_as_it_is() {
    assert!(adapt(&spec(|_| {}), &around(Modules::default())).unwrap().is_none());
    let plain = spec(|spec| spec["mounts"] = bind(&["rbind", "ro"]));
    assert!(adapt(&plain, &around(Modules::default())).unwrap().is_none());
}

#[test]
fn capabilities_that_are_left_out_are_none() {
    for edit in [json!({}), json!(null)] {
        let adapted = adapted(|spec| spec["process"]["capabilities"] = edit);
        let process = adapted.spec.process().as_ref().unwrap();
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.effective(), &Some(Capabilities::default()));
        assert_eq!(capabilities.permitted(), &Some(Capabilities::default()));
        let again = serde_json::to_value(&adapted.spec).unwrap();
        assert_eq!(again["process"]["capabilities"]["permitted"], json!([]));
    }
}

#[test]
fn privileges_that_may_be_gained_are_left_unsaid() {
    let adapted = adapted(|spec| spec["process"]["noNewPrivileges"] = false.into());
    assert_eq!(adapted.spec.process().as_ref().unwrap().no_new_privileges(), None);
}

#[test]
fn a_label_that_the_node_cannot_give_is_refused_and_named() {
    for (key, name) in [("apparmorProfile", "AppArmor"), ("selinuxLabel", "SELinux")] {
        let labelled = spec(|spec| spec["process"][key] = "the-label".into());
        let fault = adapt(&labelled, &around(Modules::default())).err().unwrap();
        assert!(
            fault.message.contains(name) && fault.message.contains("the-label"),
            "{fault}"
        );
        let on = Modules {
            apparmor: true,
            selinux: true,
        };
        assert!(adapt(&labelled, &around(on)).unwrap().is_none());
        let empty = spec(|spec| spec["process"][key] = "".into());
        assert!(adapt(&empty, &around(Modules::default())).is_ok());
    }
}

#[test]
fn propagation_of_the_root_is_said_in_plain_words() {
    for (said, plain) in [("rshared", "shared"), ("rslave", "slave"), ("rprivate", "private")] {
        let adapted = adapted(|spec| spec["linux"]["rootfsPropagation"] = said.into());
        let linux = adapted.spec.linux().as_ref().unwrap();
        assert_eq!(linux.rootfs_propagation().as_deref(), Some(plain));
    }
}

#[test]
fn a_private_directory_is_staged_and_a_private_file_is_not() {
    let directory = adapted(|spec| spec["mounts"] = bind(&["rbind", "rprivate"]));
    let What::Copy {
        source,
        recursive,
        private,
        ids,
        ..
    } = &directory.staged[0].what
    else {
        panic!("not a copy")
    };
    assert_eq!(source, Path::new("/src/dir"));
    assert!(*recursive && *private && ids.is_none());
    let file = spec(|spec| {
        spec["mounts"] = bind(&["rbind", "rprivate"]);
        spec["mounts"][0]["source"] = "/src/file".into();
    });
    assert!(adapt(&file, &around(Modules::default())).unwrap().is_none());
}

#[test]
fn ids_of_a_mount_come_from_it_or_from_the_container() {
    let mapping = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let own = adapted(|spec| {
        spec["mounts"] = bind(&["bind", "idmap"]);
        spec["mounts"][0]["uidMappings"] = mapping.clone();
        spec["mounts"][0]["gidMappings"] = mapping.clone();
    });
    let containers = adapted(|spec| {
        spec["mounts"] = bind(&["bind", "ridmap"]);
        spec["linux"]["namespaces"] = json!([{ "type": "user" }, { "type": "mount" }]);
        spec["linux"]["uidMappings"] = mapping.clone();
        spec["linux"]["gidMappings"] = mapping.clone();
    });
    for (adapted, recursive) in [(own, false), (containers, true)] {
        let What::Copy { ids, .. } = &adapted.staged[0].what else {
            panic!("not a copy")
        };
        let expected = Mappings::parse("0:1000:10", "0:1000:10").unwrap();
        assert_eq!(ids, &Some((Ids::Mappings(expected), recursive)));
        let mount = &adapted.spec.mounts().as_ref().unwrap()[0];
        assert!(mount.uid_mappings().is_none());
        assert!(
            mount
                .options()
                .as_ref()
                .unwrap()
                .iter()
                .all(|option| !option.ends_with("idmap"))
        );
    }
    let nobodys = spec(|spec| spec["mounts"] = bind(&["bind", "idmap"]));
    let fault = adapt(&nobodys, &around(Modules::default())).err().unwrap();
    assert!(fault.message.contains("/data"), "{fault}");
}

#[test]
fn in_a_user_namespace_sources_are_staged_and_the_cgroup_is_not_systemds() {
    let adapted = adapted(|spec| {
        spec["mounts"] = bind(&["rbind"]);
        spec["linux"]["namespaces"] = json!([{ "type": "user", "path": "/proc/1/ns/user" }]);
    });
    assert_eq!(adapted.staged.len(), 1);
    let linux = adapted.spec.linux().as_ref().unwrap();
    assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/pods/c")));
}

#[test]
fn a_device_outside_dev_is_staged() {
    let adapted = adapted(|spec| {
        spec["linux"]["devices"] = json!([
            { "path": "/opt/null", "type": "c", "major": 1, "minor": 3 },
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 },
        ]);
    });
    assert_eq!(adapted.staged[0].mount, 1);
    let linux = adapted.spec.linux().as_ref().unwrap();
    assert_eq!(linux.devices().as_ref().unwrap().len(), 1);
    let mounts = adapted.spec.mounts().as_ref().unwrap();
    assert_eq!(mounts[1].destination(), Path::new("/opt/null"));
}

#[test]
fn a_cgroup_mount_becomes_one_for_each_hierarchy_and_stays_read_only() {
    let mounts = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] }]);
    let adapted = adapted(|spec| spec["mounts"] = mounts);
    let mounts = adapted.spec.mounts().as_ref().unwrap();
    let text = mounts.iter().map(|mount| {
        let source = mount.source().as_ref().unwrap().display();
        let kind = mount.typ().as_ref().unwrap();
        format!("{} {kind} {source}", mount.destination().display())
    });
    assert_eq!(
        text.collect::<Vec<_>>(),
        [
            "/sys/fs/cgroup tmpfs tmpfs",
            "/sys/fs/cgroup/cpu,cpuacct bind /sys/fs/cgroup/cpu,cpuacct/pods/c",
            "/sys/fs/cgroup/cpu bind /sys/fs/cgroup/cpu,cpuacct/pods/c",
            "/sys/fs/cgroup/cpuacct bind /sys/fs/cgroup/cpu,cpuacct/pods/c",
        ]
    );
    let read_only = |mount: &Mount| mount.options().as_ref().unwrap().contains(&"ro".to_owned());
    assert!(mounts[1..].iter().all(read_only));
}

#[test]
fn the_containers_cgroups_are_not_staged_in_a_user_namespace() {
    let adapted = adapted(|spec| {
        spec["mounts"] =
            json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] }]);
        spec["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "user" }]);
    });
    let mounts = adapted.spec.mounts().as_ref().unwrap();
    let own = Path::new("/sys/fs/cgroup/cpu,cpuacct/pods/c");
    assert!(mounts[1..].iter().all(|mount| mount.source().as_deref() == Some(own)));
    assert!(adapted.staged.is_empty());
}

#[test]
fn hooks_of_the_runtimes_namespace_are_sent_back_there_only_when_it_is_left() {
    let hooks = json!({ "createRuntime": [{ "path": "/h" }], "createContainer": [{ "path": "/h" }] });
    let unchanged = spec(|spec| spec["hooks"] = hooks.clone());
    assert!(adapt(&unchanged, &around(Modules::default())).unwrap().is_none());
    let adapted = adapted(|spec| {
        spec["hooks"] = hooks;
        spec["mounts"] = bind(&["rbind", "rprivate"]);
    });
    let hooks = adapted.spec.hooks().as_ref().unwrap();
    let path = |hooks: &Option<Vec<Hook>>| hooks.as_ref().unwrap()[0].path().clone();
    assert_eq!(path(hooks.create_runtime()), Path::new("/proc/self/exe"));
    assert_eq!(path(hooks.create_container()), Path::new("/h"));
}

#[test]
fn namespaces_that_a_mapped_root_joins_are_brought_to_where_it_can_get() {
    let namespaces = json!([
        { "type": "network", "path": "/run/netns/pod" }, { "type": "mount" }, { "type": "pid", "path": "/proc/7/ns/pid" },
    ]);
    let plain = spec(|spec| spec["linux"]["namespaces"] = namespaces.clone());
    assert!(adapt(&plain, &around(Modules::default())).unwrap().is_none());
    let adapted = adapted(|spec| {
        spec["linux"]["namespaces"] = namespaces;
        let user = json!({ "type": "user", "path": "/proc/7/ns/user" });
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(user);
    });
    assert_eq!(adapted.namespaces, [0, 2]);
}
