//! Mounts of cgroup v1, which libcontainer makes otherwise than the spec says.

use std::path::{Path, PathBuf};

use libcgroups::common::{CgroupConfig, cgroup_v1_directories};
use oci_spec::runtime::Mount;

use crate::bundle::Bundle;
use crate::fault::{Fault, Result};
use crate::zygote::wire::Create;

/// Where each v1 hierarchy is mounted and the container's directory in it; empty with cgroup v2.
pub fn hierarchies(bundle: &Bundle, create: &Create) -> Result<Vec<(PathBuf, PathBuf)>> {
    if !bundle.mounts().iter().any(is_cgroup) {
        return Ok(Vec::new());
    }
    let config = CgroupConfig {
        cgroup_path: bundle.cgroup_path(&create.id),
        systemd_cgroup: create.systemd_cgroup,
        container_name: create.id.clone(),
    };
    let found = cgroup_v1_directories(config);
    found
        .map(Option::unwrap_or_default)
        .map_err(|error| Fault::internal(format!("cannot tell the cgroups of container {}: {error}", create.id)))
}

/// Whether it is a mount of cgroups as a whole.
pub fn is_cgroup(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("cgroup")
}

/// Whether it is a mount of the container's own directory in a hierarchy, which is made after all sources are staged.
pub fn is_of_the_container(mount: &Mount, hierarchies: &[(PathBuf, PathBuf)]) -> bool {
    let source = mount.source().as_ref();
    hierarchies.iter().any(|(_, directory)| source == Some(directory))
}

/// libcontainer looks for the container's cgroups by a pid that means nothing in a PID namespace that the container
/// joins, and mounts them writable whatever the spec says: a container could raise its own limits. So each hierarchy is
/// mounted as the bind mount that it is, and as read-only as the spec says.
pub fn mount_hierarchies(mount: &Mount, hierarchies: &[(PathBuf, PathBuf)]) -> Vec<Mount> {
    let options = mount.options().as_deref().unwrap_or_default();
    let read_only = options.iter().any(|option| option == "ro");
    let new = |typ: &str, source: &Path, destination: PathBuf, options: Vec<String>| {
        let mut mount = Mount::default();
        mount
            .set_typ(Some(typ.to_owned()))
            .set_source(Some(source.to_owned()))
            .set_destination(destination)
            .set_options(Some(options))
            .set_uid_mappings(None)
            .set_gid_mappings(None);
        mount
    };
    // Holds mount points only, but cannot be read-only before they are made.
    let tmpfs = ["nosuid", "nodev", "noexec", "mode=755", "size=64k"].map(str::to_owned);
    let root = mount.destination();
    let mut mounts = vec![new("tmpfs", Path::new("tmpfs"), root.clone(), tmpfs.into())];
    for (mount_point, directory) in hierarchies {
        let Some(name) = mount_point.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let mut options = ["rbind", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
        options.extend(read_only.then(|| "ro".to_owned()));
        // Controllers that share a hierarchy are looked for under the name of each, too.
        let each = name.split(',').filter(|one| *one != name);
        for name in std::iter::once(name).chain(each) {
            mounts.push(new("bind", directory, root.join(name), options.clone()));
        }
    }
    mounts
}
