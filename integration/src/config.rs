//! The configuration of a private containerd: everything inside the instance's directory, nothing that a test does
//! not use, no cgroup for the daemon itself.

use std::path::{Path, PathBuf};

use crate::{Generation, TANDEM, session::Home};

/// What containerd's CRI service needs in order to run pods.
#[derive(Clone, Debug)]
pub struct Cri {
    /// Reference of the pause image; it must be imported into the namespace `k8s.io`.
    pub sandbox_image: String,
    /// Directory of CNI network configurations.
    pub cni_conf_dir: PathBuf,
    /// Directory of CNI plugins; `/usr/lib/cni` on Debian.
    pub cni_bin_dir: PathBuf,
}

/// Plugins no test uses. Some probe the machine for tools, some listen on TCP, all take time to start.
const UNUSED: [&str; 8] = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
];
/// The CRI service, which is one plugin in containerd 1.x and several in 2.x, and the plugin it cannot do without.
const CRI: [&str; 5] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.nri.v1.nri",
];

/// The text of `config.toml`.
pub(crate) fn text(
    generation: Generation,
    home: &Home,
    snapshotter: &str,
    cri: Option<&Cri>,
    registries: Option<&Path>,
) -> String {
    let mut disabled: Vec<&str> = UNUSED.to_vec();
    if cri.is_none() {
        disabled.extend(CRI);
    }
    let version = match generation {
        Generation::V1 => 2,
        Generation::V2 => 3,
    };
    let mut text = format!(
        "version = {version}\n\
         root = {root:?}\n\
         state = {state:?}\n\
         disabled_plugins = {disabled:?}\n\
         [grpc]\naddress = {socket:?}\n\
         [ttrpc]\naddress = {ttrpc:?}\n\
         [cgroup]\npath = \"\"\n\
         # Two and five seconds by default, which a shim may need on a machine that is busy with other tests.\n\
         [timeouts]\n\
         \"io.containerd.timeout.task.state\" = \"60s\"\n\
         \"io.containerd.timeout.shim.load\" = \"60s\"\n\
         \"io.containerd.timeout.shim.cleanup\" = \"60s\"\n\
         \"io.containerd.timeout.shim.shutdown\" = \"60s\"\n\
         # Without this containerd makes /opt/containerd.\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = {opt:?}\n",
        root = home.root(),
        state = home.state(),
        socket = home.socket(),
        ttrpc = home.dir.join("c.sock.ttrpc"),
        opt = home.dir.join("opt"),
    );
    if let Some(cri) = cri {
        text.push_str(&cri_section(generation, snapshotter, cri));
        if let Some(registries) = registries {
            text.push_str(&registry_section(generation, registries));
        }
    }
    text
}

fn registry_section(generation: Generation, registries: &Path) -> String {
    let images = match generation {
        Generation::V1 => "io.containerd.grpc.v1.cri",
        Generation::V2 => "io.containerd.cri.v1.images",
    };
    format!("[plugins.\"{images}\".registry]\nconfig_path = {registries:?}\n")
}

/// The configuration without the handler of the shim under test: its header and the line below.
pub(crate) fn without_tandem(text: &str) -> String {
    let ours = |line: &&str| line.ends_with(".runtimes.tandem]") || line.contains(TANDEM);
    let lines = text.lines().filter(|line| !ours(line));
    lines.map(|line| format!("{line}\n")).collect()
}

fn cri_section(generation: Generation, snapshotter: &str, cri: &Cri) -> String {
    let Cri {
        sandbox_image,
        cni_conf_dir,
        cni_bin_dir,
    } = cri;
    let common = "restrict_oom_score_adj = true\nnetns_mounts_under_state_dir = true\n";
    let server = "disable_tcp_service = true\nstream_server_address = \"127.0.0.1\"\nstream_server_port = \"0\"\n";
    match generation {
        Generation::V1 => {
            let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
            format!(
                "[{cri}]\nsandbox_image = {sandbox_image:?}\n{common}{server}\
                 [{cri}.containerd]\nsnapshotter = {snapshotter:?}\ndefault_runtime_name = \"runc\"\n\
                 [{cri}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
                 [{cri}.containerd.runtimes.tandem]\nruntime_type = {TANDEM:?}\n\
                 [{cri}.cni]\nbin_dir = {cni_bin_dir:?}\nconf_dir = {cni_conf_dir:?}\n"
            )
        }
        Generation::V2 => {
            let runtime = "plugins.\"io.containerd.cri.v1.runtime\"";
            let images = "plugins.\"io.containerd.cri.v1.images\"";
            // CRI asks for the NRI plugin to be there; it need not listen on its socket, which all instances share.
            format!(
                "[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = true\n\
                 [plugins.\"io.containerd.grpc.v1.cri\"]\n{server}\
                 [{images}]\nsnapshotter = {snapshotter:?}\nuse_local_image_pull = true\n\
                 [{images}.pinned_images]\nsandbox = {sandbox_image:?}\n\
                 [{runtime}]\n{common}\
                 [{runtime}.containerd]\ndefault_runtime_name = \"runc\"\n\
                 [{runtime}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
                 [{runtime}.containerd.runtimes.tandem]\nruntime_type = {TANDEM:?}\n\
                 [{runtime}.cni]\nbin_dirs = [{cni_bin_dir:?}]\nconf_dir = {cni_conf_dir:?}\n"
            )
        }
    }
}
