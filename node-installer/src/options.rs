//! What the command line (and with it the chart) can set.

use std::path::{Path, PathBuf};

/// Options that every command shares; all paths are the host's but those that say otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the host's root is mounted: `/host` in the chart's pods.
    pub host_root: PathBuf,
    /// The preset, instead of looking for it.
    pub distribution: Option<String>,
    /// containerd's program, instead of the preset's.
    pub containerd: Option<PathBuf>,
    /// containerd's root configuration file, instead of the preset's.
    pub config: Option<PathBuf>,
    /// containerd's socket, instead of the preset's.
    pub socket: Option<PathBuf>,
    /// A command that restarts containerd, instead of the preset's way. Run by the host's `/bin/sh`.
    pub restart_command: Option<String>,
    /// Name of the CRI handler.
    pub handler: String,
    /// Where the shim goes: a file system that programs may run from.
    pub install_dir: PathBuf,
    /// Where the shim keeps compiled code and the installer its records.
    pub state_dir: PathBuf,
    /// Where the shim keeps sockets and the state of containers; on a tmpfs.
    pub run_dir: PathBuf,
    /// The shim to install, in this process's own file system.
    pub shim: PathBuf,
    /// Change files only: containerd does not run (a node's image is being built).
    pub offline: bool,
    /// Uninstall although pods of this runtime run.
    pub force: bool,
    /// Evict such pods first.
    pub drain: bool,
    /// Name of the Kubernetes node, where there is an API server to talk to.
    pub node: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host_root: "/".into(),
            distribution: None,
            containerd: None,
            config: None,
            socket: None,
            restart_command: None,
            handler: "tandem".into(),
            install_dir: "/opt/tandem".into(),
            state_dir: "/var/lib/tandem".into(),
            run_dir: "/run/tandem".into(),
            shim: "/usr/local/bin/containerd-shim-tandem-v1".into(),
            offline: false,
            force: false,
            drain: false,
            node: None,
        }
    }
}

impl Options {
    /// The directory of the installer's own records.
    pub fn records(&self) -> PathBuf {
        self.state_dir.join("install")
    }

    /// The link that containerd executes.
    pub fn shim_link(&self) -> PathBuf {
        self.install_dir.join("bin").join(SHIM)
    }

    /// What was found out about the node's default runtime.
    pub fn runtime_options(&self) -> PathBuf {
        self.install_dir.join("etc/runtime.toml")
    }

    /// The directory of a version of the shim.
    pub fn version_dir(&self, name: &str) -> PathBuf {
        self.install_dir.join("versions").join(name)
    }

    /// The file of a version of the shim.
    pub fn version_file(&self, name: &str) -> PathBuf {
        self.version_dir(name).join(SHIM)
    }

    /// What the link holds for a version: relative, so that it is right from wherever the host's root is seen.
    pub fn link_target(&self, name: &str) -> PathBuf {
        Path::new("../versions").join(name).join(SHIM)
    }
}

/// File name of the shim, as containerd's naming convention has it.
pub const SHIM: &str = "containerd-shim-tandem-v1";
