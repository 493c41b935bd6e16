//! The probe: a Wasm guest run through CRI with our handler, exactly as the kubelet would run a pod's container. Only a
//! node on which it has answered gets pods.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, ImageSpec, ImageStatusRequest, LinuxContainerConfig, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{CALL, Cri, POLL, call, image::ProbeImage};
use crate::{
    error::{Error, Result},
    host::Host,
};

/// Longest time for a sandbox: its image may have to be pulled.
const SANDBOX: Duration = Duration::from_secs(120);
/// Longest time for the guest: its first start compiles it.
const GUEST: Duration = Duration::from_secs(60);
/// The kubelet ends pods that it does not know, and it looks every two seconds: a probe may be hit once or twice.
const ATTEMPTS: u32 = 5;

/// What the probe needs to know of the node.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    /// The handler to be tried.
    pub handler: &'a str,
    /// Whether the node's cgroups are made by systemd.
    pub systemd_cgroup: bool,
    /// A directory of the host, in which containerd writes the guest's output.
    pub logs: PathBuf,
}

impl Cri {
    /// Runs the probe and requires its answer.
    ///
    /// # Errors
    /// [`Error::Verify`] with what happened instead, in the last of some attempts.
    pub async fn probe(&self, host: &Host, probe: &Probe<'_>) -> Result<()> {
        let image = ProbeImage::new()?;
        let mut attempt = 1;
        let result = loop {
            let result = self.attempt(host, probe, &image, attempt).await;
            match result {
                Err(error) if attempt < ATTEMPTS => warn!("attempt {attempt} of the probe: {error}"),
                other => break other,
            }
            attempt += 1;
        };
        let removed = image.remove(&self.channel).await;
        let logs = host.path(&probe.logs)?;
        match fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", logs)(error));
            }
            _ => {}
        }
        result?;
        removed
    }

    async fn attempt(&self, host: &Host, probe: &Probe<'_>, image: &ProbeImage, attempt: u32) -> Result<()> {
        let failed = |error: Error| Error::Verify {
            step: "probe",
            why: format!(
                "a Wasm container could not be run with the handler {:?}: {error}",
                probe.handler
            ),
        };
        let name = format!("tandem-probe-{}-{attempt}", std::process::id());
        let sandbox = sandbox(probe, &name);
        let here = host.path(&probe.logs)?;
        fs::create_dir_all(&here).map_err(Error::io("create", &here))?;
        image.import(&self.channel).await.map_err(failed)?;
        let request = RunPodSandboxRequest {
            config: Some(sandbox.clone()),
            runtime_handler: probe.handler.into(),
        };
        let pod = call("RunPodSandbox", SANDBOX, self.runtime().run_pod_sandbox(request))
            .await
            .map_err(failed)?;
        let id = pod.pod_sandbox_id;
        let result = self.run(&id, sandbox, &image.name, &name).await;
        let removed = self.remove_pod(&id).await;
        let status = result.map_err(failed)?;
        let output = fs::read_to_string(here.join(&name)).unwrap_or_default();
        judge(&status, &output, &name)?;
        removed
    }

    /// Runs the container in the sandbox to its end.
    async fn run(&self, pod: &str, sandbox: PodSandboxConfig, image: &str, name: &str) -> Result<ContainerStatus> {
        let image = ImageSpec {
            image: image.into(),
            ..Default::default()
        };
        self.wait_image(&image).await?;
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "probe".into(),
                attempt: 0,
            }),
            image: Some(image),
            args: vec![name.into()],
            log_path: name.into(),
            linux: Some(LinuxContainerConfig::default()),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        let container = call("CreateContainer", GUEST, self.runtime().create_container(request)).await?;
        let id = container.container_id;
        let request = StartContainerRequest {
            container_id: id.clone(),
        };
        call("StartContainer", GUEST, self.runtime().start_container(request)).await?;
        let since = Instant::now();
        loop {
            let request = ContainerStatusRequest {
                container_id: id.clone(),
                verbose: false,
            };
            let answer = call("ContainerStatus", CALL, self.runtime().container_status(request)).await?;
            let status = answer.status.unwrap_or_default();
            if status.state() == ContainerState::ContainerExited {
                return Ok(status);
            }
            if since.elapsed() > GUEST {
                return Err(Error::Deadline {
                    what: "the end of the probe".into(),
                    after: GUEST,
                });
            }
            sleep(POLL).await;
        }
    }

    /// CRI learns of an image by an event.
    async fn wait_image(&self, image: &ImageSpec) -> Result<()> {
        let since = Instant::now();
        loop {
            let request = ImageStatusRequest {
                image: Some(image.clone()),
                verbose: false,
            };
            let answer = call("ImageStatus", CALL, self.images().image_status(request)).await?;
            if answer.image.is_some() {
                return Ok(());
            }
            if since.elapsed() > CALL {
                return Err(Error::Deadline {
                    what: format!("CRI's notice of the image {}", image.image),
                    after: CALL,
                });
            }
            sleep(POLL).await;
        }
    }

    async fn remove_pod(&self, id: &str) -> Result<()> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        call("StopPodSandbox", GUEST, self.runtime().stop_pod_sandbox(request)).await?;
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        call("RemovePodSandbox", GUEST, self.runtime().remove_pod_sandbox(request)).await?;
        Ok(())
    }
}

/// A sandbox in the node's network: the probe is about the runtime, and a node without a pod network yet can pass it.
fn sandbox(probe: &Probe<'_>, name: &str) -> PodSandboxConfig {
    let namespaces = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    };
    let linux = LinuxPodSandboxConfig {
        // Groups that exist on every node, so that nothing stays behind: systemd's, or the root of the hierarchy.
        cgroup_parent: if probe.systemd_cgroup {
            "system.slice".into()
        } else {
            "/".into()
        },
        security_context: Some(LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces),
            ..Default::default()
        }),
        ..Default::default()
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: name.into(),
            namespace: "tandem-probe".into(),
            attempt: 0,
        }),
        log_directory: probe.logs.to_string_lossy().into_owned(),
        linux: Some(linux),
        ..Default::default()
    }
}

/// The guest must have ended well and said its argument. CRI's log format is: time, stream, flags, text.
fn judge(status: &ContainerStatus, log: &str, nonce: &str) -> Result<()> {
    let said = log.lines().any(|line| line.splitn(4, ' ').nth(3) == Some(nonce));
    if status.exit_code == 0 && said {
        return Ok(());
    }
    let end = log.lines().next_back().unwrap_or("(nothing)");
    let (code, reason, message) = (status.exit_code, &status.reason, &status.message);
    Err(Error::Verify {
        step: "probe",
        why: format!("the guest ended with {code} {reason} {message} and its last words were {end:?}, not {nonce:?}"),
    })
}

/// The directory that containerd is told to write the probe's output to.
pub fn logs(records: &Path) -> PathBuf {
    records.join("probe")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(exit_code: i32) -> ContainerStatus {
        ContainerStatus {
            exit_code,
            ..Default::default()
        }
    }

    #[test]
    fn the_probe_must_both_end_well_and_answer() {
        let log = "2026-08-01T10:00:00.000000000Z stdout F tandem-probe-7-1\n";
        judge(&status(0), log, "tandem-probe-7-1").unwrap();
        assert!(judge(&status(1), log, "tandem-probe-7-1").is_err());
        assert!(judge(&status(0), log, "tandem-probe-7-2").is_err());
        let error = judge(&status(0), "", "x").unwrap_err();
        assert!(error.to_string().contains("(nothing)"), "{error}");
    }
}
