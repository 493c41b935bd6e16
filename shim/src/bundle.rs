//! The bundle: containerd's directory for a container, with the OCI spec in `config.json`.
//! Source: OCI runtime spec, bundle.md and config.md.

use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount, Process, Spec};

use crate::fault::{Fault, Result};

/// Where `start` notes the shim's address in the bundle. containerd 1.6 reads it there.
pub const ADDRESS_FILE: &str = "address";
/// Specs are some ten KiB; the cap keeps a hostile one from filling the shim's memory.
const MAX_SPEC_BYTES: u64 = 8 * 1024 * 1024;

/// A bundle whose spec has what every container needs: a process with arguments, a root and a Linux section.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    spec: Spec,
    args: Vec<String>,
}

impl Bundle {
    /// Reads and checks `config.json` in `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let file = path.join("config.json");
        let fault = |why: String| Fault::invalid(format!("bundle {}: {why}", path.display()));
        let mut bytes = Vec::new();
        std::fs::File::open(&file)
            .and_then(|file| file.take(MAX_SPEC_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| {
                fault(format!(
                    "config.json cannot be read: {error}; a bundle needs an OCI runtime spec in config.json"
                ))
            })?;
        if bytes.len() as u64 > MAX_SPEC_BYTES {
            return Err(fault(format!("config.json is larger than {MAX_SPEC_BYTES} bytes")));
        }
        Self::parse(path, &bytes)
    }

    /// Checks a spec's bytes. Pure, for tests and fuzzing.
    pub fn parse(path: &Path, json: &[u8]) -> Result<Self> {
        let fault = |why: String| Fault::invalid(format!("bundle {}: {why}", path.display()));
        let spec: Spec = serde_json::from_slice(json)
            .map_err(|error| fault(format!("config.json is not a valid OCI runtime spec: {error}")))?;
        if spec.root().is_none() {
            return Err(fault("config.json has no \"root\"".into()));
        }
        if spec.linux().is_none() {
            return Err(fault("config.json has no \"linux\" section".into()));
        }
        let process = spec
            .process()
            .as_ref()
            .ok_or_else(|| fault("config.json has no \"process\"".into()))?;
        let args = process.args().clone().unwrap_or_default();
        if args.first().is_none_or(String::is_empty) {
            return Err(fault(
                "process.args is empty: set the image's entrypoint or the pod's command (for an image with a Wasm layer any name will do)".into(),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            spec,
            args,
        })
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole spec.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The process's arguments; never empty, the first never the empty string.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// The spec's mounts.
    pub fn mounts(&self) -> &[Mount] {
        self.spec.mounts().as_deref().unwrap_or_default()
    }

    /// The process section (checked by `parse` to be there).
    pub fn process(&self) -> Option<&Process> {
        self.spec.process().as_ref()
    }

    /// Whether the process has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.process().and_then(Process::terminal).unwrap_or(false)
    }

    /// User of the process.
    pub fn uid(&self) -> u32 {
        self.process().map_or(0, |process| process.user().uid())
    }

    /// Whether the container's users are others than the node's.
    pub fn has_user_namespace(&self) -> bool {
        self.namespace(LinuxNamespaceType::User).is_some()
    }

    /// Directory of the root file system.
    pub fn rootfs(&self) -> PathBuf {
        let root = self.spec.root().as_ref().map(|root| root.path().clone());
        self.path.join(root.unwrap_or_else(|| "rootfs".into()))
    }

    /// The spec's cgroup path, or one by the container's name.
    pub fn cgroup_path(&self, id: &str) -> PathBuf {
        tandem_confine::cgroups::path(&self.spec, id)
    }

    /// Whether the spec's cgroup path is one for systemd, `SLICE:PREFIX:NAME`. CRI names it so where the kubelet has
    /// systemd make the pods' cgroups. Source: containerd `internal/cri/server/helpers.go`, `getCgroupsPath`.
    pub fn has_systemd_cgroup(&self) -> bool {
        let linux = self.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_ref()?.to_str());
        let parts: Vec<&str> = path.unwrap_or_default().split(':').collect();
        matches!(parts[..], [slice, _, _] if slice.ends_with(".slice"))
    }

    /// Whether the container has a PID namespace of its own, so that the kernel ends all its processes with
    /// its first one.
    pub fn has_own_pid_namespace(&self) -> bool {
        self.namespace(LinuxNamespaceType::Pid)
            .is_some_and(|namespace| namespace.path().is_none())
    }

    fn namespace(&self, typ: LinuxNamespaceType) -> Option<&LinuxNamespace> {
        let linux = self.spec.linux().as_ref()?;
        linux
            .namespaces()
            .as_ref()?
            .iter()
            .find(|namespace| namespace.typ() == typ)
    }

    /// Whether hooks have to run when the container was started.
    pub fn has_poststart_hooks(&self) -> bool {
        let hooks = self.spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
        hooks.is_some_and(|hooks| !hooks.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"ociVersion":"1.1.0","root":{"path":"rootfs"},
        "process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["/a.wasm"]},
        "linux":{"namespaces":[{"type":"pid"}]}}"#;

    fn parse(json: &str) -> Result<Bundle> {
        Bundle::parse(Path::new("/b"), json.as_bytes())
    }

    #[test]
    fn a_minimal_bundle_is_accepted() {
        let bundle = parse(GOOD).unwrap();
        assert_eq!(bundle.rootfs(), Path::new("/b/rootfs"));
        assert!(bundle.has_own_pid_namespace());
        assert!(!bundle.has_poststart_hooks());
    }

    #[test]
    fn absent_and_partial_hooks_are_accepted() {
        for hooks in ["{}", r#"{"prestart":[]}"#, r#"{"poststop":[]}"#] {
            let json = GOOD.replacen('{', &format!("{{\"hooks\":{hooks},"), 1);
            assert!(parse(&json).is_ok(), "{hooks}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (cut, named) in [
            (r#""root":{"path":"rootfs"},"#, "root"),
            (r#""args":["/a.wasm"]"#, "args"),
        ] {
            let json = GOOD.replace(cut, "").replace(",}", "}");
            let fault = parse(&json).unwrap_err();
            assert!(fault.message.contains(named), "{fault}");
        }
        let empty = GOOD.replace("/a.wasm", "");
        assert!(parse(&empty).unwrap_err().message.contains("entrypoint"));
    }

    proptest::proptest! {
        #[test]
        fn a_spec_cut_or_changed_anywhere_is_read_or_refused_by_name(at in 0..GOOD.len(), byte: u8, cut: bool) {
            let mut json = GOOD.as_bytes().to_vec();
            if cut {
                json.truncate(at);
            } else {
                json[at] = byte;
            }
            match Bundle::parse(Path::new("/b"), &json) {
                Ok(bundle) => assert!(!bundle.args()[0].is_empty()),
                Err(fault) => assert!(fault.message.starts_with("bundle /b: "), "{fault}"),
            }
        }
    }

    #[test]
    fn a_bundle_without_a_spec_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let fault = Bundle::load(dir.path()).unwrap_err();
        assert!(fault.message.contains("config.json"), "{fault}");
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        let fault = Bundle::load(dir.path()).unwrap_err();
        assert!(fault.message.contains("not a valid OCI runtime spec"), "{fault}");
    }

    #[test]
    fn a_cgroup_is_systemds_by_its_name() {
        let systemds = |path: &str| {
            let linux = format!(r#""linux":{{"cgroupsPath":"{path}","#);
            parse(&GOOD.replace(r#""linux":{"#, &linux))
                .unwrap()
                .has_systemd_cgroup()
        };
        assert!(systemds("kubepods-besteffort-pod1.slice:cri-containerd:abc"));
        for path in ["/kubepods/pod1/abc", "default/abc", "/a.slice/b", "a:b:c", ""] {
            assert!(!systemds(path), "{path}");
        }
        assert!(!parse(GOOD).unwrap().has_systemd_cgroup());
    }
}
