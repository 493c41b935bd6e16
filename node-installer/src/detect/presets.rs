//! One table of what distributions do differently. Everything that depends on the distribution is a field here; no
//! other module asks which one it is.
//!
//! Sources, read in August 2026: the distributions' documentation and the rendered files in `testdata/`.

/// A fact about a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// This path exists.
    Path(&'static str),
    /// This path does not exist.
    NoPath(&'static str),
    /// `ID` of os-release is this.
    Os(&'static str),
    /// systemd runs the host.
    Systemd,
    /// It does not.
    NoSystemd,
}

/// Where the configuration is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A root file that belongs to the node's admin: edited on containerd 1.x, given a drop-in on 2.x.
    Root {
        /// The file.
        path: &'static str,
        /// Where drop-ins go if the root file imports no directory yet.
        drop_ins: &'static str,
    },
    /// A root file that the distribution renders at every start (k3s, RKE2): a drop-in where the rendered file imports
    /// a directory, else a template that extends the built-in one.
    Rendered {
        /// The directory of both.
        dir: &'static str,
    },
    /// A directory that the distribution watches and merges itself (k0s).
    Watched {
        /// The root file, whose format the drop-ins must have.
        root: &'static str,
        /// The directory.
        drop_ins: &'static str,
    },
    /// A template with variables, rendered at every start (microk8s).
    Template {
        /// The file.
        path: &'static str,
    },
}

/// How containerd comes to read its configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// A systemd unit: the first of these that is enabled or present.
    Unit(&'static [&'static str]),
    /// The distribution does it when the files change.
    ByItself,
    /// Nothing on the host can do it without ending pods; the operator does it, and the installer goes on after that.
    Operator(&'static str),
}

/// Whether a distribution can be set up, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It can be set up.
    Supported {
        /// containerd's programs, the first that exists counts.
        programs: &'static [&'static str],
        /// containerd's socket.
        socket: &'static str,
        /// Its configuration.
        place: Place,
        /// Its restart.
        restart: Restart,
    },
    /// It cannot.
    Refused {
        /// What is in the way.
        why: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}

/// One distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name, as `--distribution` takes it.
    pub name: &'static str,
    /// All of these hold on its nodes.
    pub evidence: &'static [Evidence],
    /// Whether and how they are set up.
    pub support: Support,
}

use Evidence::{NoPath, NoSystemd, Os, Path, Systemd};

/// Where distribution packages and containerd's own archive put it.
const USUAL: &[&str] = &["/usr/bin/containerd", "/usr/local/bin/containerd", "/bin/containerd"];
const K3S: &str = "/var/lib/rancher/k3s/agent/etc/containerd";
const RKE2: &str = "/var/lib/rancher/rke2/agent/etc/containerd";
const K3S_SOCKET: &str = "/run/k3s/containerd/containerd.sock";

const VANILLA: Support = Support::Supported {
    programs: USUAL,
    socket: "/run/containerd/containerd.sock",
    place: Place::Root {
        path: "/etc/containerd/config.toml",
        drop_ins: "/etc/containerd/conf.d",
    },
    restart: Restart::Unit(&["containerd.service"]),
};

/// Where k3s unpacks what it brings along.
const UNPACKED: &str = "/var/lib/rancher/k3s/data/current/bin/containerd";

const fn k3s(programs: &'static [&'static str], restart: Restart) -> Support {
    Support::Supported {
        programs,
        socket: K3S_SOCKET,
        place: Place::Rendered { dir: K3S },
        restart,
    }
}

const fn rke2(restart: Restart) -> Support {
    Support::Supported {
        programs: &["/var/lib/rancher/rke2/bin/containerd"],
        socket: K3S_SOCKET,
        place: Place::Rendered { dir: RKE2 },
        restart,
    }
}

/// Every distribution, the most specific evidence first: the first match counts.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "talos",
        evidence: &[Os("talos")],
        support: Support::Refused {
            why: "Talos has a read-only root and takes runtimes from its machine configuration alone",
            instead: "build the shim into a system extension, and add the runtime by a CRICustomizationConfig document \
                      or a machine.files entry for /etc/cri/conf.d/20-customization.part (docs/install.md, Talos)",
        },
    },
    Preset {
        name: "bottlerocket",
        evidence: &[Os("bottlerocket")],
        support: Support::Refused {
            why: "Bottlerocket has a read-only, verified root and renders containerd's configuration from its own settings",
            instead: "use a node group with another operating system for Wasm pods; a Bottlerocket variant of one's own \
                      is the only other way (docs/install.md, Bottlerocket)",
        },
    },
    Preset {
        name: "cos",
        evidence: &[Os("cos")],
        support: Support::Refused {
            why: "Container-Optimized OS mounts its root read-only and its writable directories noexec",
            instead: "use GKE node pools with the image type UBUNTU_CONTAINERD",
        },
    },
    Preset {
        name: "flatcar",
        evidence: &[Os("flatcar"), NoPath("/etc/containerd/config.toml")],
        support: Support::Refused {
            why: "Flatcar's containerd reads /usr/share/containerd/config.toml, which is on a read-only file system",
            instead: "copy that file to /etc/containerd/config.toml, let a drop-in of containerd.service set \
                      CONTAINERD_CONFIG to it, restart containerd, and install again (docs/install.md, Flatcar)",
        },
    },
    Preset {
        name: "cri-o",
        evidence: &[
            Path("/run/crio/crio.sock"),
            NoPath("/run/containerd/containerd.sock"),
            NoPath(K3S_SOCKET),
        ],
        support: Support::Refused {
            why: "its container runtime is CRI-O, and Tandem is a shim for containerd",
            instead: "use nodes with containerd",
        },
    },
    Preset {
        name: "microk8s",
        evidence: &[Path("/var/snap/microk8s/current/args")],
        support: Support::Supported {
            programs: &["/snap/microk8s/current/bin/containerd"],
            socket: "/var/snap/microk8s/common/run/containerd.sock",
            place: Place::Template {
                path: "/var/snap/microk8s/current/args/containerd-template.toml",
            },
            restart: Restart::Unit(&["snap.microk8s.daemon-containerd.service"]),
        },
    },
    Preset {
        name: "k0s",
        evidence: &[Path("/etc/k0s/containerd.toml"), Path("/var/lib/k0s/bin/containerd")],
        support: Support::Supported {
            programs: &["/var/lib/k0s/bin/containerd"],
            socket: "/run/k0s/containerd.sock",
            place: Place::Watched {
                root: "/etc/k0s/containerd.toml",
                drop_ins: "/etc/k0s/containerd.d",
            },
            restart: Restart::ByItself,
        },
    },
    Preset {
        name: "rke2-server",
        evidence: &[
            Path(RKE2),
            Path("/etc/systemd/system/multi-user.target.wants/rke2-server.service"),
        ],
        support: rke2(Restart::Unit(&["rke2-server.service"])),
    },
    Preset {
        name: "rke2-agent",
        evidence: &[Path(RKE2)],
        support: rke2(Restart::Unit(&["rke2-agent.service"])),
    },
    Preset {
        name: "k3d",
        evidence: &[Path(K3S), NoSystemd],
        // The image of k3s was unpacked when it was built.
        support: k3s(
            &[UNPACKED, "/bin/containerd"],
            Restart::Operator(
                "k3s is the first process of this node, so that only the node itself can be restarted: `docker restart` \
                 the node's container (k3d node list), or `k3d node stop` and `k3d node start`",
            ),
        ),
    },
    Preset {
        name: "k3s-agent",
        evidence: &[Path(K3S), Systemd, Path("/etc/systemd/system/k3s-agent.service")],
        support: k3s(&[UNPACKED], Restart::Unit(&["k3s-agent.service"])),
    },
    Preset {
        name: "k3s-server",
        evidence: &[Path(K3S), Systemd],
        support: k3s(&[UNPACKED], Restart::Unit(&["k3s.service"])),
    },
    Preset {
        name: "kind",
        evidence: &[Path("/kind"), Path("/etc/containerd/config.toml")],
        support: VANILLA,
    },
    Preset {
        name: "minikube",
        evidence: &[Path("/var/lib/minikube")],
        support: VANILLA,
    },
    Preset {
        name: "eks",
        evidence: &[Path("/etc/eks")],
        support: VANILLA,
    },
    Preset {
        name: "aks",
        evidence: &[Path("/etc/kubernetes/azure.json")],
        support: VANILLA,
    },
    Preset {
        name: "vanilla",
        evidence: &[],
        support: VANILLA,
    },
];

/// The preset of this name.
pub fn by_name(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
