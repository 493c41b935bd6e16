//! Pods through CRI, as the kubelet makes them.

use std::collections::HashMap;

use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerStatusRequest, CreateContainerRequest, ImageSpec, ImageStatusRequest,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StatusRequest,
    StopPodSandboxRequest, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};
use serde_json::Value;
use tandem_integration::{
    Containerd,
    api::tonic::transport::{Channel, Endpoint},
};

/// A pod with one container.
#[derive(Clone, Debug)]
pub struct Pod {
    id: String,
    /// Its container.
    pub container: String,
}

/// CRI of a private containerd.
#[derive(Clone, Debug)]
pub struct Cri {
    client: RuntimeServiceClient<Channel>,
    channel: Channel,
    cgroup: String,
    logs: String,
}

impl Cri {
    pub fn of(ctd: &Containerd) -> Self {
        let address = format!("unix://{}", ctd.home().socket().display());
        let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
        Self {
            client: RuntimeServiceClient::new(channel.clone()),
            channel,
            cgroup: ctd.home().cgroup(),
            logs: ctd.home().io().to_string_lossy().into_owned(),
        }
    }

    /// CRI learns of an image by an event.
    pub async fn wait_image(&self, image: &str) {
        let request = ImageStatusRequest {
            image: Some(ImageSpec {
                image: image.into(),
                ..Default::default()
            }),
            verbose: false,
        };
        let mut images = ImageServiceClient::new(self.channel.clone());
        let since = std::time::Instant::now();
        // CRI answers some time after containerd does.
        while !images
            .image_status(request.clone())
            .await
            .is_ok_and(|answer| answer.into_inner().image.is_some())
        {
            assert!(since.elapsed().as_secs() < 60, "CRI does not see {image}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Runs a pod in the machine's network with one container.
    pub async fn run(&self, handler: &str, name: &str, image: &str, args: &[&str]) -> Pod {
        let mut client = self.client.clone();
        let sandbox = self.sandbox(name);
        let request = RunPodSandboxRequest {
            config: Some(sandbox.clone()),
            runtime_handler: handler.into(),
        };
        let id = client
            .run_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .pod_sandbox_id;
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "main".into(),
                attempt: 0,
            }),
            image: Some(ImageSpec {
                image: image.into(),
                ..Default::default()
            }),
            command: args.iter().map(|arg| (*arg).to_owned()).collect(),
            log_path: format!("{name}.log"),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        let container = client
            .create_container(request)
            .await
            .unwrap()
            .into_inner()
            .container_id;
        let request = StartContainerRequest {
            container_id: container.clone(),
        };
        client.start_container(request).await.unwrap();
        Pod { id, container }
    }

    fn sandbox(&self, name: &str) -> PodSandboxConfig {
        let namespaces = NamespaceOption {
            network: NamespaceMode::Node.into(),
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: name.into(),
                namespace: "test".into(),
                attempt: 0,
            }),
            log_directory: self.logs.clone(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Process id of a pod's container while it runs, else `None`.
    pub async fn pid(&self, pod: &Pod) -> Option<i64> {
        let request = ContainerStatusRequest {
            container_id: pod.container.clone(),
            verbose: true,
        };
        let answer = self.client.clone().container_status(request).await.ok()?.into_inner();
        if answer.status?.state() != k8s_cri::v1::ContainerState::ContainerRunning {
            return None;
        }
        let info: Value = serde_json::from_str(answer.info.get("info")?).ok()?;
        info["pid"]
            .as_i64()
            .filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists())
    }

    pub async fn remove(&self, pod: Pod) {
        let mut client = self.client.clone();
        let request = StopPodSandboxRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        client.stop_pod_sandbox(request).await.unwrap();
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod.id };
        client.remove_pod_sandbox(request).await.unwrap();
    }

    /// Names of the configured handlers. CRI comes up a moment after containerd's other services.
    pub async fn handlers(&self) -> Vec<String> {
        let since = std::time::Instant::now();
        let status = loop {
            match self.client.clone().status(StatusRequest { verbose: true }).await {
                Ok(status) => break status.into_inner(),
                Err(error) => assert!(since.elapsed().as_secs() < 20, "{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let config: Value = serde_json::from_str(&status.info["config"]).unwrap();
        let runtimes: HashMap<String, Value> =
            serde_json::from_value(config["containerd"]["runtimes"].clone()).unwrap();
        let mut names: Vec<String> = runtimes.into_keys().collect();
        names.sort();
        names
    }
}
