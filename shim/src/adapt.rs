//! The spec as libcontainer has to be given it, where it does not do what the spec says.
//!
//! containerd's `config.json` stays as it is. Where a spec has to be adapted, the adapted one is a bundle of its own
//! in a directory of containerd's, which goes with it.
//!
//! - `rootfsPropagation`: libcontainer knows `shared` and `slave`, which are recursive there; Kubernetes says
//!   `rshared` and `rslave` as soon as a volume is to see mounts of the host.
//! - A cgroup mount on cgroup v1: libcontainer mounts it writable whatever the spec says, so that a container could
//!   raise its own limits; and it looks for the container's cgroups by a pid that means nothing in a PID namespace that
//!   the container joins. So each hierarchy is mounted as the bind mount that it is.

use std::fs;
use std::path::{Path, PathBuf};

use libcgroups::common::{CgroupConfig, cgroup_v1_directories};
use oci_spec::runtime::{Mount, MountBuilder, Spec};

use crate::bundle::Bundle;
use crate::fault::{Fault, Result};

/// Directory of the adapted bundle in containerd's.
const ADAPTED: &str = "tandem";
/// What every mount of a cgroup is, whatever the spec says.
const CGROUP_OPTIONS: [&str; 4] = ["rbind", "nosuid", "nodev", "noexec"];

/// The bundle to give to libcontainer: containerd's own, or an adapted one inside of it.
pub fn bundle_for(bundle: &Bundle, id: &str, systemd_cgroup: bool) -> Result<PathBuf> {
    let config = CgroupConfig {
        cgroup_path: bundle.cgroup_path(id),
        systemd_cgroup,
        container_name: id.to_owned(),
    };
    let fault = |why: String| Fault::internal(format!("cannot adapt the spec of container {id}: {why}"));
    let needs_hierarchies = bundle.mounts().iter().any(is_cgroup);
    let hierarchies = if needs_hierarchies {
        cgroup_v1_directories(config).map_err(|error| fault(error.to_string()))?
    } else {
        None
    };
    let Some(spec) = adapted(bundle, hierarchies.as_deref()) else {
        return Ok(bundle.path().to_owned());
    };
    let dir = bundle.path().join(ADAPTED);
    let json = serde_json::to_vec(&spec).map_err(|error| fault(error.to_string()))?;
    match fs::create_dir(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(fault(format!("{}: {error}", dir.display())));
        }
        _ => {}
    }
    let file = dir.join("config.json");
    fs::write(&file, json).map_err(|error| fault(format!("{}: {error}", file.display())))?;
    Ok(dir)
}

/// The adapted spec; none where libcontainer can take it as it is. `hierarchies`: on cgroup v1, where each is mounted
/// and the container's directory in it.
fn adapted(bundle: &Bundle, hierarchies: Option<&[(PathBuf, PathBuf)]>) -> Option<Spec> {
    let propagation = bundle
        .spec()
        .linux()
        .as_ref()
        .and_then(|linux| linux.rootfs_propagation().as_deref())
        .and_then(|propagation| propagation.strip_prefix('r'));
    if propagation.is_none() && hierarchies.is_none() {
        return None;
    }
    let mut spec = bundle.spec().clone();
    if let (Some(propagation), Some(linux)) = (propagation, spec.linux_mut()) {
        linux.set_rootfs_propagation(Some(propagation.to_owned()));
    }
    // Relative paths are relative to containerd's bundle.
    if let Some(root) = spec.root_mut() {
        root.set_path(bundle.rootfs());
    }
    let mounts = bundle.mounts().iter().flat_map(|mount| match hierarchies {
        Some(hierarchies) if is_cgroup(mount) => of_hierarchies(mount, hierarchies),
        _ => vec![with_absolute_source(mount, bundle.path())],
    });
    let mounts = mounts.collect();
    spec.set_mounts(Some(mounts));
    Some(spec)
}

fn is_cgroup(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("cgroup")
}

fn with_absolute_source(mount: &Mount, bundle: &Path) -> Mount {
    let mut mount = mount.clone();
    let options = mount.options().as_deref().unwrap_or_default();
    let bind = mount.typ().as_deref() == Some("bind") || options.iter().any(|o| o == "bind" || o == "rbind");
    if let Some(source) = mount.source().as_ref().filter(|source| bind && source.is_relative()) {
        let source = bundle.join(source);
        mount.set_source(Some(source));
    }
    mount
}

fn of_hierarchies(mount: &Mount, hierarchies: &[(PathBuf, PathBuf)]) -> Vec<Mount> {
    let options = mount.options().as_deref().unwrap_or_default();
    let read_only = options.iter().any(|option| option == "ro");
    let new = |typ: &str, source: &Path, destination: PathBuf, options: Vec<String>| {
        let built = MountBuilder::default()
            .typ(typ)
            .source(source)
            .destination(destination)
            .options(options)
            .build();
        // Nothing is missing, so nothing fails.
        built.unwrap_or_default()
    };
    // Holds mount points only, but cannot be read-only before they are made.
    let tmpfs = ["nosuid", "nodev", "noexec", "mode=755", "size=64k"].map(str::to_owned);
    let root = mount.destination();
    let mut mounts = vec![new("tmpfs", Path::new("tmpfs"), root.clone(), tmpfs.into())];
    for (mount_point, directory) in hierarchies {
        let Some(name) = mount_point.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let mut options = CGROUP_OPTIONS.map(str::to_owned).to_vec();
        options.extend(read_only.then(|| "ro".to_owned()));
        // Controllers that share a hierarchy are looked for under the name of each, too.
        let each = name.split(',').filter(|one| *one != name);
        for name in std::iter::once(name).chain(each) {
            mounts.push(new("bind", directory, root.join(name), options.clone()));
        }
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(linux: &str, mounts: &str) -> Bundle {
        let json = format!(
            r#"{{"ociVersion":"1.1.0","root":{{"path":"rootfs"}},"linux":{linux},"mounts":[{mounts}],
            "process":{{"cwd":"/","user":{{"uid":0,"gid":0}},"args":["/a.wasm"]}}}}"#
        );
        Bundle::parse(Path::new("/b"), json.as_bytes()).unwrap()
    }

    #[test]
    fn a_spec_that_libcontainer_understands_is_left_alone() {
        let bundle = bundle(
            r#"{"rootfsPropagation":"private"}"#,
            r#"{"destination":"/p","type":"proc"}"#,
        );
        assert!(adapted(&bundle, None).is_none());
    }

    #[test]
    fn recursive_propagation_is_named_as_libcontainer_names_it() {
        for (given, wanted) in [("rslave", "slave"), ("rshared", "shared"), ("rprivate", "private")] {
            let bundle = bundle(&format!(r#"{{"rootfsPropagation":"{given}"}}"#), "");
            let spec = adapted(&bundle, None).unwrap();
            let propagation = spec.linux().as_ref().unwrap().rootfs_propagation().clone();
            assert_eq!(propagation.as_deref(), Some(wanted));
            assert_eq!(spec.root().as_ref().unwrap().path(), Path::new("/b/rootfs"));
        }
    }

    #[test]
    fn a_cgroup_mount_becomes_one_for_each_hierarchy_and_stays_read_only() {
        let bundle = bundle(
            "{}",
            r#"{"destination":"/data","type":"bind","source":"volume","options":["rbind"]},
            {"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["nosuid","ro"]}"#,
        );
        let hierarchies = [
            (
                "/sys/fs/cgroup/cpu,cpuacct".into(),
                "/sys/fs/cgroup/cpu,cpuacct/pod/c".into(),
            ),
            ("/sys/fs/cgroup/pids".into(), "/sys/fs/cgroup/pids/pod/c".into()),
        ];
        let spec = adapted(&bundle, Some(&hierarchies)).unwrap();
        let mounts = spec.mounts().as_ref().unwrap();
        let text: Vec<_> = mounts
            .iter()
            .map(|mount| {
                let source = mount.source().as_ref().unwrap().display();
                format!(
                    "{} {} {source}",
                    mount.destination().display(),
                    mount.typ().as_ref().unwrap()
                )
            })
            .collect();
        assert_eq!(
            text,
            [
                "/data bind /b/volume",
                "/sys/fs/cgroup tmpfs tmpfs",
                "/sys/fs/cgroup/cpu,cpuacct bind /sys/fs/cgroup/cpu,cpuacct/pod/c",
                "/sys/fs/cgroup/cpu bind /sys/fs/cgroup/cpu,cpuacct/pod/c",
                "/sys/fs/cgroup/cpuacct bind /sys/fs/cgroup/cpu,cpuacct/pod/c",
                "/sys/fs/cgroup/pids bind /sys/fs/cgroup/pids/pod/c",
            ]
        );
        let read_only = |mount: &Mount| mount.options().as_ref().unwrap().contains(&"ro".to_owned());
        assert!(mounts[2..].iter().all(read_only));
    }
}
