//! What can be done to a running task: pause, resume, update; and what the kernel's cgroup files then say.

use std::fs;
use std::path::{Path, PathBuf};

use containerd_client::services::v1::{PauseTaskRequest, ResumeTaskRequest, UpdateTaskRequest};
use prost_types::Any;

use crate::leftovers::mounts;
use crate::{Error, Result, Task};

impl Task {
    /// Freezes all its processes.
    ///
    /// # Errors
    /// The runtime's refusal: `FailedPrecondition` unless it runs.
    pub async fn pause(&self) -> Result<()> {
        let request = self.session().request(PauseTaskRequest {
            container_id: self.id().to_owned(),
        });
        let mut tasks = self.session().client().tasks();
        self.session()
            .call("tasks.Pause", self.id(), tasks.pause(request))
            .await
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Task::pause`].
    pub async fn resume(&self) -> Result<()> {
        let request = self.session().request(ResumeTaskRequest {
            container_id: self.id().to_owned(),
        });
        let mut tasks = self.session().client().tasks();
        self.session()
            .call("tasks.Resume", self.id(), tasks.resume(request))
            .await
    }

    /// Changes its limits to what `resources` (JSON of the OCI spec's `LinuxResources`) mentions.
    ///
    /// # Errors
    /// The runtime's refusal: `InvalidArgument` for what the kernel does not take.
    pub async fn update(&self, resources: &str) -> Result<()> {
        let request = self.session().request(UpdateTaskRequest {
            container_id: self.id().to_owned(),
            resources: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
                value: resources.into(),
            }),
            ..Default::default()
        });
        let mut tasks = self.session().client().tasks();
        self.session()
            .call("tasks.Update", self.id(), tasks.update(request))
            .await
    }

    /// What the kernel has in `v1` (cgroup v1, `memory.limit_in_bytes`) or `v2` (`memory.max`) for its first process.
    ///
    /// # Errors
    /// [`Error::Setup`] where there is no such file.
    pub fn cgroup_file(&self, v1: &str, v2: &str) -> Result<String> {
        let controller = v1.split('.').next().unwrap_or_default();
        let lost = |why: String| Error::Setup(format!("cgroup file {v1} of process {}: {why}", self.pid()));
        let own = fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).map_err(|e| lost(e.to_string()))?;
        let file = find(&own, controller)
            .map(|dir| dir.join(v1))
            .or_else(|| find(&own, "").map(|dir| dir.join(v2)))
            .ok_or_else(|| lost("no such controller".to_owned()))?;
        let text = fs::read_to_string(&file).map_err(|error| lost(format!("{}: {error}", file.display())))?;
        Ok(text.trim().to_owned())
    }
}

/// The cgroup in the hierarchy with this controller, v2 where it is the empty string.
fn find(own: &str, controller: &str) -> Option<PathBuf> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        if !controllers.split(',').any(|one| one == controller) {
            return None;
        }
        let kind = if controller.is_empty() { "cgroup2" } else { "cgroup" };
        let name = if controller.is_empty() { None } else { Some(controller) };
        let mount = mounts().into_iter().find(|mount| {
            mount.kind == kind && name.is_none_or(|name| mount.point.ends_with(name) || has_part(&mount.point, name))
        })?;
        Some(mount.point.join(Path::new(path).strip_prefix("/").ok()?))
    })
}

/// `cpu,cpuacct` and the like.
fn has_part(point: &Path, name: &str) -> bool {
    let last = point.file_name().and_then(|last| last.to_str());
    last.is_some_and(|last| last.split(',').any(|part| part == name))
}
