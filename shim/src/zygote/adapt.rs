//! What is changed in a spec before libcontainer sees it, so that what the spec says is what happens.
//!
//! libcontainer 0.7 reads some things otherwise than the specification and runc do, and mounts neither with ids
//! mapped nor with a propagation of its own. Each rule below says which. Nothing is done here but to the spec; what
//! has to be mounted for it is listed for [`super::staging`].

mod cgroups;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, Hook, Linux, LinuxCapabilities, LinuxDevice, LinuxNamespaceType, Mount, Process, Spec,
};

use super::labels::Modules;
use crate::fault::{Fault, Result};
use crate::idmap::Mappings;
pub use cgroups::hierarchies;

/// A spec that libcontainer takes as it is meant.
pub struct Adapted {
    /// The spec.
    pub spec: Spec,
    /// What to have ready before libcontainer looks at the mounts.
    pub staged: Vec<Staged>,
    /// Which of the spec's namespaces to have at a place that a mapped root can get to.
    pub namespaces: Vec<usize>,
}

/// Something to be put below the staging directory; the mount's source then is that place.
#[derive(Debug, PartialEq, Eq)]
pub struct Staged {
    /// Which of the spec's mounts it is the source of.
    pub mount: usize,
    /// What it is.
    pub what: What,
}

/// What is staged.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// A copy of a mount.
    Copy {
        /// What is copied.
        source: PathBuf,
        /// With the mounts below.
        recursive: bool,
        /// Cut off from the host: what is mounted there later is not seen here.
        private: bool,
        /// A receiver of what is mounted on the host later.
        slave: bool,
        /// Ids as they are to be seen, and whether below as well.
        ids: Option<(Ids, bool)>,
    },
    /// A device's file.
    Device(Box<LinuxDevice>),
}

/// Where the ids of a mount come from.
#[derive(Debug, PartialEq, Eq)]
pub enum Ids {
    /// Numbers.
    Mappings(Mappings),
    /// A user namespace, by path.
    Namespace(PathBuf),
}

/// What the rules have to know besides the spec.
pub struct Surroundings<'a> {
    /// The bundle's directory, which relative paths start from.
    pub bundle: &'a Path,
    /// Security modules of the node.
    pub modules: Modules,
    /// Whether systemd makes the cgroup.
    pub systemd_cgroup: bool,
    /// Whether a path is a directory.
    pub is_directory: &'a dyn Fn(&Path) -> bool,
    /// Where each v1 hierarchy is mounted and the container's directory in it; none with the unified one.
    pub hierarchies: Vec<(PathBuf, PathBuf)>,
    /// A process in the host's mount namespace, for hooks.
    pub host_process: i32,
}

/// Applies all rules; `None` where the spec can be given to libcontainer as it is.
pub fn adapt(original: &Spec, around: &Surroundings) -> Result<Option<Adapted>> {
    let mut spec = original.clone();
    if let Some(process) = spec.process_mut() {
        adapt_process(process, around)?;
    }
    let user_namespace = UserNamespace::of(&spec);
    let mut staged = Vec::new();
    let mut devices = Vec::new();
    if let Some(linux) = spec.linux_mut() {
        adapt_linux(linux, around, user_namespace.as_ref());
        devices = take_devices(linux, user_namespace.is_some());
    }
    let shares_root = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.rootfs_propagation().as_deref())
        == Some("shared");
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    if !around.hierarchies.is_empty() {
        let expand = |mount: Mount| match cgroups::is_cgroup(&mount) {
            true => cgroups::mount_hierarchies(&mount, &around.hierarchies),
            false => vec![mount],
        };
        mounts = mounts.into_iter().flat_map(expand).collect();
    }
    for (index, mount) in mounts.iter_mut().enumerate() {
        // What would be staged is not there yet.
        if cgroups::is_of_the_container(mount, &around.hierarchies) {
            continue;
        }
        if let Some(what) = adapt_mount(mount, around, user_namespace.as_ref(), shares_root)? {
            staged.push(Staged { mount: index, what });
        }
    }
    for device in devices {
        staged.push(Staged {
            mount: mounts.len(),
            what: What::Device(Box::new(device.clone())),
        });
        mounts.push(device_mount(&device));
    }
    if spec.mounts().is_some() || !mounts.is_empty() {
        spec.set_mounts(Some(mounts));
    }
    let namespaces = match user_namespace {
        Some(_) => joined_namespaces(&spec),
        None => Vec::new(),
    };
    if spec == *original && staged.is_empty() && namespaces.is_empty() {
        return Ok(None);
    }
    return_to_host(&mut spec, around.host_process);
    Ok(Some(Adapted {
        spec,
        staged,
        namespaces,
    }))
}

fn adapt_process(process: &mut Process, around: &Surroundings) -> Result<()> {
    let capabilities = capabilities(process.capabilities().as_ref());
    process.set_capabilities(Some(capabilities));
    // `false` that is said, not left out, makes libcontainer set seccomp when the right to is gone.
    if process.no_new_privileges() == Some(false) {
        process.set_no_new_privileges(None);
    }
    let profile = process.apparmor_profile().clone().filter(|profile| !profile.is_empty());
    let label = process.selinux_label().clone().filter(|label| !label.is_empty());
    // As runc: a confinement that is asked for and not to be had is an error.
    if let Some(profile) = profile.as_ref().filter(|_| !around.modules.apparmor) {
        return Err(Fault::precondition(format!(
            "AppArmor profile \"{profile}\" is asked for, but AppArmor is not enabled on this node: enable it or remove the profile from the pod"
        )));
    }
    if let Some(label) = label.as_ref().filter(|_| !around.modules.selinux) {
        return Err(Fault::precondition(format!(
            "SELinux label \"{label}\" is asked for, but SELinux is not enabled on this node: enable it or set enable_selinux = false in containerd's configuration"
        )));
    }
    process.set_apparmor_profile(profile);
    process.set_selinux_label(label);
    Ok(())
}

/// Capabilities as libcontainer has to be told them. Effective and permitted sets that are left out, as Go leaves out
/// empty ones, it leaves as they are: the shim's, which are full. runc and the specification take them as empty. (The
/// zygote has no inheritable and no ambient ones, so these need no change.)
pub fn capabilities(said: Option<&LinuxCapabilities>) -> LinuxCapabilities {
    let mut capabilities = said.cloned().unwrap_or_else(|| {
        let mut none = LinuxCapabilities::default();
        none.set_bounding(None)
            .set_effective(None)
            .set_permitted(None)
            .set_inheritable(None)
            .set_ambient(None);
        none
    });
    let empty = |set: &Option<Capabilities>| Some(set.clone().unwrap_or_default());
    let (effective, permitted) = (empty(capabilities.effective()), empty(capabilities.permitted()));
    capabilities.set_effective(effective).set_permitted(permitted);
    capabilities
}

fn adapt_linux(linux: &mut Linux, around: &Surroundings, user_namespace: Option<&UserNamespace>) {
    // containerd's CRI says `rshared` and `rslave`, as runc takes them; libcontainer knows the plain words only.
    if let Some(propagation) = linux.rootfs_propagation() {
        let plain = match propagation.as_str() {
            "" => None,
            "rshared" => Some("shared".to_owned()),
            "rslave" => Some("slave".to_owned()),
            "rprivate" => Some("private".to_owned()),
            "runbindable" => Some("unbindable".to_owned()),
            other => Some(other.to_owned()),
        };
        linux.set_rootfs_propagation(plain);
    }
    // Without SELinux a label is an unknown option to the kernel.
    if !around.modules.selinux || linux.mount_label().as_deref() == Some("") {
        linux.set_mount_label(None);
    }
    // libcontainer has systemd make the cgroup of every container with a user namespace, unless its path is absolute.
    if user_namespace.is_some()
        && !around.systemd_cgroup
        && let Some(path) = linux.cgroups_path()
        && !path.is_absolute()
    {
        let absolute = Path::new("/").join(path);
        linux.set_cgroups_path(Some(absolute));
    }
}

/// The container's user namespace.
enum UserNamespace {
    New(Option<Mappings>),
    Joined(PathBuf),
}

impl UserNamespace {
    fn of(spec: &Spec) -> Option<Self> {
        let linux = spec.linux().as_ref()?;
        let namespaces = linux.namespaces().as_deref()?;
        let user = namespaces.iter().find(|ns| ns.typ() == LinuxNamespaceType::User)?;
        Some(match user.path() {
            Some(path) => Self::Joined(path.clone()),
            None => {
                let (users, groups) = (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref());
                Self::New(Mappings::of_spec(users, groups))
            }
        })
    }
}

/// Namespaces that the container joins by a path. libcontainer opens it when it is in the user namespace already, whose
/// root is nobody to the directories on the way.
fn joined_namespaces(spec: &Spec) -> Vec<usize> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let joined = namespaces.unwrap_or_default().iter().enumerate();
    joined
        .filter(|(_, one)| one.typ() != LinuxNamespaceType::User && one.path().is_some())
        .map(|(index, _)| index)
        .collect()
}

/// Devices that libcontainer would not make: it knows `/dev` only, and in a user namespace binds the host's file of
/// the same name, which may be another one.
fn take_devices(linux: &mut Linux, in_user_namespace: bool) -> Vec<LinuxDevice> {
    let devices = linux.devices().clone().unwrap_or_default();
    let (staged, made): (Vec<_>, Vec<_>) = devices
        .into_iter()
        .partition(|device| in_user_namespace || !device.path().starts_with("/dev"));
    if !staged.is_empty() {
        linux.set_devices(Some(made));
    }
    staged
}

fn device_mount(device: &LinuxDevice) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(device.path().clone())
        .set_typ(Some("bind".into()))
        .set_source(None)
        .set_options(Some(vec!["bind".into()]))
        .set_uid_mappings(None)
        .set_gid_mappings(None);
    mount
}

/// A bind mount that libcontainer cannot make as it is said. Its source is set once it is staged.
fn adapt_mount(
    mount: &mut Mount,
    around: &Surroundings,
    user_namespace: Option<&UserNamespace>,
    shares_root: bool,
) -> Result<Option<What>> {
    let options = mount.options().clone().unwrap_or_default();
    let has = |names: &[&str]| options.iter().any(|option| names.contains(&option.as_str()));
    let is_bind = mount.typ().as_deref() == Some("bind") || has(&["bind", "rbind"]);
    if !is_bind {
        return Ok(None);
    }
    let Some(source) = mount.source().as_ref().map(|source| around.bundle.join(source)) else {
        return Ok(None);
    };
    let ids = mount_ids(mount, has(&["idmap", "ridmap"]), user_namespace)?;
    // Nothing can be mounted below a file.
    let private = has(&["private", "rprivate", "unbindable", "runbindable"]) && (around.is_directory)(&source);
    let slave = shares_root && has(&["slave", "rslave"]);
    mount.set_source(Some(source.clone()));
    if ids.is_none() && !private && !slave && user_namespace.is_none() {
        return Ok(None);
    }
    let ridmap = has(&["ridmap"]);
    let recursive = has(&["rbind"]) || !has(&["bind"]) && mount.typ().as_deref() == Some("bind");
    mount.set_uid_mappings(None).set_gid_mappings(None).set_options(Some(
        options
            .iter()
            .filter(|option| !matches!(option.as_str(), "idmap" | "ridmap"))
            .cloned()
            .collect(),
    ));
    Ok(Some(What::Copy {
        source,
        recursive,
        private,
        slave,
        ids: ids.map(|ids| (ids, ridmap)),
    }))
}

fn mount_ids(mount: &Mount, asked: bool, user_namespace: Option<&UserNamespace>) -> Result<Option<Ids>> {
    let (users, groups) = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
    if let Some(mappings) = Mappings::of_spec(users, groups) {
        return Ok(Some(Ids::Mappings(mappings)));
    }
    let fault = |why: &str| Fault::invalid(format!("mount {}: {why}", mount.destination().display()));
    if users.is_some_and(|m| !m.is_empty()) || groups.is_some_and(|m| !m.is_empty()) {
        return Err(fault("uidMappings and gidMappings must be given together"));
    }
    match user_namespace {
        _ if !asked => Ok(None),
        Some(UserNamespace::New(Some(mappings))) => Ok(Some(Ids::Mappings(mappings.clone()))),
        Some(UserNamespace::Joined(path)) => Ok(Some(Ids::Namespace(path.clone()))),
        _ => Err(fault("\"idmap\" needs mappings, of the mount or of the container")),
    }
}

/// An adapted container is created in a mount namespace of its own. Hooks that belong in the runtime's are sent back.
fn return_to_host(spec: &mut Spec, host_process: i32) {
    let Some(hooks) = spec.hooks_mut() else { return };
    let send = |hooks: &mut Option<Vec<Hook>>| {
        for hook in hooks.iter_mut().flatten() {
            super::hook::wrap(hook, host_process);
        }
    };
    #[allow(deprecated)]
    send(hooks.prestart_mut());
    send(hooks.create_runtime_mut());
}

#[cfg(test)]
mod tests;
