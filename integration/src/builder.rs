//! The making of a container: every option that a test sets, and what containerd's own client would set besides.

use std::{collections::HashMap, path::Path};

use containerd_client::services::v1::{
    Container as Record, CreateContainerRequest, container::Runtime, snapshots::PrepareSnapshotRequest,
};
use prost_types::Any;
use serde_json::{Value, json};

use crate::{
    Container, Output, RUNC, Result,
    image::Image,
    session::{Session, lock},
    spec,
};

/// A container to be made. Everything not set is as containerd's own client would have it.
#[derive(Clone, Debug)]
pub struct ContainerBuilder {
    session: Session,
    image: Image,
    id: String,
    runtime: String,
    runtime_options: Option<Any>,
    labels: HashMap<String, String>,
    spec: Value,
    raw_spec: Option<Vec<u8>>,
    parent: String,
    stdin: Option<Vec<u8>>,
}

impl ContainerBuilder {
    pub(crate) fn new(session: Session, image: &Image) -> Self {
        let id = session.home.unique("c");
        let mut spec = spec::default(&format!("{}/{id}", session.home.cgroup()));
        spec["process"]["args"] = image.args.clone().into();
        if !image.env.is_empty() {
            let has_path = image.env.iter().any(|env| env.starts_with("PATH="));
            let path = (!has_path).then(|| spec::PATH.to_owned());
            let env: Vec<String> = path.into_iter().chain(image.env.clone()).collect();
            spec["process"]["env"] = env.into();
        }
        if let Some(cwd) = image.cwd.as_ref().filter(|cwd| !cwd.is_empty()) {
            spec["process"]["cwd"] = cwd.as_str().into();
        }
        Self {
            parent: image.chain_id.clone(),
            image: image.clone(),
            session,
            id,
            runtime: RUNC.into(),
            runtime_options: None,
            labels: HashMap::new(),
            spec,
            raw_spec: None,
            stdin: None,
        }
    }

    /// The container's id; by default one that no other container of any instance has. An id that others may have
    /// too clashes in runc's state directory, which all instances share.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self.spec["linux"]["cgroupsPath"] = format!("{}/{}", self.session.home.cgroup(), self.id).into();
        self
    }

    /// The runtime, such as [`crate::TANDEM`]; runc by default.
    pub fn runtime(mut self, name: impl Into<String>) -> Self {
        self.runtime = name.into();
        self
    }

    /// The runtime's options, of any type and content.
    pub fn runtime_options(mut self, options: Any) -> Self {
        self.runtime_options = Some(options);
        self
    }

    /// What to run, instead of the image's entrypoint and command.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        self.spec["process"]["args"] = args.into();
        self
    }

    /// Adds a variable to the environment.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.push("/process/env", json!(format!("{name}={value}")))
    }

    /// The working directory.
    pub fn cwd(mut self, dir: &str) -> Self {
        self.spec["process"]["cwd"] = dir.into();
        self
    }

    /// Adds a mount.
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        self.push("/mounts", spec::mount(destination, kind, source, options))
    }

    /// Mounts a file or directory of the machine, read-only or not.
    pub fn bind(self, source: &Path, destination: &str, writable: bool) -> Self {
        let access = if writable { "rw" } else { "ro" };
        let source = source.to_string_lossy();
        self.mount(destination, "bind", &source, &["rbind", access])
    }

    /// The rootfs cannot be written.
    pub fn readonly_rootfs(mut self) -> Self {
        self.spec["root"]["readonly"] = true.into();
        self
    }

    /// Runs as this user and group, without capabilities in effect (as a change of user takes them away).
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.spec["process"]["user"] = json!({ "uid": uid, "gid": gid });
        self
    }

    /// Further groups of the user.
    pub fn groups(mut self, gids: &[u32]) -> Self {
        self.spec["process"]["user"]["additionalGids"] = json!(gids);
        self
    }

    /// Has these capabilities instead of the default ones.
    pub fn capabilities(mut self, names: &[&str]) -> Self {
        self.spec["process"]["capabilities"] = json!({ "bounding": names, "permitted": names, "effective": names });
        self
    }

    /// May gain privileges; containerd's default is that it may not.
    pub fn new_privileges(mut self) -> Self {
        // Left out, as containerd's clients do, for whom false is the absence of the field.
        if let Some(process) = self.spec["process"].as_object_mut() {
            process.remove("noNewPrivileges");
        }
        self
    }

    /// Is under containerd's default seccomp profile; by default it is under none.
    pub fn seccomp(mut self) -> Self {
        self.spec["linux"]["seccomp"] = spec::seccomp();
        self
    }

    /// Sets a resource limit such as `RLIMIT_CPU`.
    pub fn rlimit(mut self, kind: &str, soft: u64, hard: u64) -> Self {
        // A spec may name each of them once.
        if let Some(limits) = self.spec["process"]["rlimits"].as_array_mut() {
            limits.retain(|limit| limit["type"] != kind);
        }
        let limit = json!({ "type": kind, "soft": soft, "hard": hard });
        self.push("/process/rlimits", limit)
    }

    /// Limits the cgroup's memory, in bytes.
    pub fn memory_limit(mut self, bytes: i64) -> Self {
        self.spec["linux"]["resources"]["memory"] = json!({ "limit": bytes });
        self
    }

    /// Limits the cgroup's CPU time to `quota` in every `period`, both in microseconds.
    pub fn cpu_limit(mut self, quota: i64, period: u64) -> Self {
        self.spec["linux"]["resources"]["cpu"] = json!({ "quota": quota, "period": period });
        self
    }

    /// Limits the cgroup's number of processes.
    pub fn pids_limit(mut self, pids: i64) -> Self {
        self.spec["linux"]["resources"]["pids"] = json!({ "limit": pids });
        self
    }

    /// Sets an annotation of the spec.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.spec["annotations"][key] = value.into();
        self
    }

    /// Marks the container as the sandbox of a pod, as CRI does.
    pub fn sandbox(self) -> Self {
        let id = self.id.clone();
        self.annotation("io.kubernetes.cri.container-type", "sandbox")
            .annotation("io.kubernetes.cri.sandbox-id", &id)
    }

    /// Puts the container into the pod of the sandbox `id`, as CRI does: they share one shim.
    pub fn in_sandbox(self, id: &str) -> Self {
        self.annotation("io.kubernetes.cri.container-type", "container")
            .annotation("io.kubernetes.cri.sandbox-id", id)
    }

    /// Sets a label of the record.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Joins a network namespace instead of having its own.
    pub fn netns(self, path: &Path) -> Self {
        self.namespace("network", path)
    }

    /// Joins any namespace, by its spec type (`pid`, `ipc`, …), instead of having its own.
    pub fn namespace(mut self, kind: &str, path: &Path) -> Self {
        self = self.without_namespace(kind);
        let path = path.to_string_lossy();
        self.push("/linux/namespaces", json!({ "type": kind, "path": path }))
    }

    /// Stays in the machine's namespace of this type.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        if let Some(namespaces) = self.spec["linux"]["namespaces"].as_array_mut() {
            namespaces.retain(|namespace| namespace["type"] != kind);
        }
        self
    }

    /// Sees the machine's network.
    pub fn host_network(self) -> Self {
        self.without_namespace("network")
    }

    /// Has a terminal as its standard streams, or not.
    pub fn tty(mut self, tty: bool) -> Self {
        self.spec["process"]["terminal"] = tty.into();
        self
    }

    /// Has this as its standard input, and then its end; without this call it has none.
    pub fn stdin(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(data.into());
        self
    }

    /// Changes the spec in any way.
    pub fn edit(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.spec);
        self
    }

    /// Replaces the spec by any bytes, valid JSON or not.
    pub fn raw_spec(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.raw_spec = Some(bytes.into());
        self
    }

    /// Stands on another snapshot than the image's; empty for none.
    pub fn parent_snapshot(mut self, chain_id: &str) -> Self {
        self.parent = chain_id.into();
        self
    }

    fn push(mut self, pointer: &str, value: Value) -> Self {
        if let Some(list) = self.spec.pointer_mut(pointer).and_then(Value::as_array_mut) {
            list.push(value);
        }
        self
    }

    /// Makes the snapshot and the record. The runtime is not involved yet: see [`Container::task`].
    ///
    /// # Errors
    /// Where containerd refuses; nothing is left then.
    pub async fn create(self) -> Result<Container> {
        let container = Container {
            tty: self.spec["process"]["terminal"] == true,
            stdin: self.stdin,
            session: self.session,
            id: self.id,
        };
        let Container { session, id, .. } = &container;
        lock(&session.home.ids).push(id.clone());

        let request = session.request(PrepareSnapshotRequest {
            snapshotter: session.snapshotter.into(),
            key: id.clone(),
            parent: self.parent,
            // Nothing refers to the snapshot before the record does, and containerd collects garbage at any time.
            labels: HashMap::from([("containerd.io/gc.root".into(), "1".into())]),
        });
        let mut snapshots = session.client().snapshots();
        let call = snapshots.prepare(request);
        session.call("snapshots.Prepare", id, call).await?;

        let spec = self.raw_spec.unwrap_or_else(|| self.spec.to_string().into_bytes());
        let record = Record {
            id: id.clone(),
            labels: self.labels,
            image: self.image.name,
            runtime: Some(Runtime {
                name: self.runtime,
                options: self.runtime_options,
            }),
            spec: Some(Any {
                type_url: spec::TYPE_URL.into(),
                value: spec,
            }),
            snapshotter: session.snapshotter.into(),
            snapshot_key: id.clone(),
            ..Default::default()
        };
        let request = session.request(CreateContainerRequest {
            container: Some(record),
        });
        let mut containers = session.client().containers();
        let call = containers.create(request);
        if let Err(error) = session.call("containers.Create", id, call).await {
            container.remove_snapshot().await?;
            return Err(error);
        }
        Ok(container)
    }

    /// Creates the container, its task, starts it, waits for its end and removes all.
    ///
    /// # Errors
    /// The first call that failed; everything is removed then too.
    pub async fn run_to_end(self) -> Result<Output> {
        let container = self.create().await?;
        let output = container.run_to_end().await;
        let removed = container.remove().await;
        let output = output?;
        removed?;
        Ok(output)
    }
}
