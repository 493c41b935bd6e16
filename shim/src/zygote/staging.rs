//! What an adapted spec stands on: a mount namespace of the worker's own, in which the sources of its mounts are
//! ready as they are meant (ids mapped, propagation set, reachable for a mapped root), and in which the adapted spec
//! lies where libcontainer looks for it.
//!
//! The container's mount namespace is a copy of the worker's, libcontainer copies each staged source into the
//! container's tree, and a copy of a mount keeps ids and propagation. The host sees none of it, and it ends with the
//! worker and with the container's pivot_root.

use std::fs::{File, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::adapt::{Adapted, Ids, Staged, What};
use crate::fault::{Fault, Result};
use crate::mountfd::{self, Change};

/// Name of the adapted spec below the staging directory.
const SPEC: &str = "config.json";
/// The staging file system holds one spec and empty files: more is a mistake.
const SIZE: &str = "mode=0711,size=16m";

/// Moves this process, which must be the worker, into a mount namespace in which `adapted` is what the bundle says.
///
/// `directory` is where things are staged, on the host an empty directory.
pub fn enter(adapted: Adapted, bundle: &Path, directory: &Path) -> Result<()> {
    let Adapted {
        mut spec,
        staged,
        namespaces,
    } = adapted;
    // Before the namespace changes, so that a mount that is shared with the host stays so.
    let copies: Vec<Option<OwnedFd>> = staged.iter().map(copy).collect::<Result<_>>()?;
    let joined = copy_namespaces(&spec, &namespaces)?;
    prepare(directory)?;
    let fault =
        |what: &str, errno: Errno| Fault::internal(format!("cannot {what} for the container's mounts: {errno}"));
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| fault("make a namespace", errno))?;
    for path in [directory, bundle] {
        detach_from_host(path).map_err(|errno| fault(&format!("cut off {}", path.display()), errno))?;
    }
    mount(
        Some("tandem"),
        directory,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some(SIZE),
    )
    .map_err(|errno| fault("stage files", errno))?;
    for (index, copy) in joined {
        let place = directory.join(format!("namespace-{index}"));
        attach(copy.as_fd(), &place).map_err(|errno| fault("attach a namespace", errno))?;
        let all = spec
            .linux_mut()
            .as_mut()
            .and_then(|linux| linux.namespaces_mut().as_mut());
        if let Some(namespace) = all.and_then(|all| all.get_mut(index)) {
            namespace.set_path(Some(place));
        }
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for (staged, copy) in staged.iter().zip(&copies) {
        let place = directory.join(staged.mount.to_string());
        match (&staged.what, copy) {
            (What::Device(device), _) => make_device(device, &place, &spec)?,
            (_, Some(copy)) => attach(copy.as_fd(), &place)
                .map_err(|errno| fault(&format!("attach the source of mount {}", staged.mount), errno))?,
            (_, None) => {}
        }
        if let Some(mount) = mounts.get_mut(staged.mount) {
            mount.set_source(Some(place));
        }
    }
    if !staged.is_empty() {
        spec.set_mounts(Some(mounts));
    }
    replace_spec(&spec, bundle, directory)
}

/// A directory that a mapped root, who is nobody on the host, can look below of.
fn prepare(directory: &Path) -> Result<()> {
    let fault =
        |path: &Path, error: std::io::Error| Fault::internal(format!("cannot prepare {}: {error}", path.display()));
    std::fs::create_dir_all(directory).map_err(|error| fault(directory, error))?;
    for path in [Some(directory), directory.parent()].into_iter().flatten() {
        let mode = std::fs::metadata(path)
            .map_err(|error| fault(path, error))?
            .permissions()
            .mode();
        if mode & 0o011 != 0o011 {
            let open = Permissions::from_mode(mode & 0o7777 | 0o011);
            std::fs::set_permissions(path, open).map_err(|error| fault(path, error))?;
        }
    }
    Ok(())
}

/// Mounts made below `path` in this namespace are not made on the host, those of the host still arrive here.
fn detach_from_host(path: &Path) -> nix::Result<()> {
    let point = mountfd::mount_point_of(path)?;
    mount(None::<&str>, point, None::<&str>, MsFlags::MS_SLAVE, None::<&str>)
}

/// A mount of each of these namespaces' files.
fn copy_namespaces(spec: &Spec, wanted: &[usize]) -> Result<Vec<(usize, OwnedFd)>> {
    let all = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let paths = wanted
        .iter()
        .filter_map(|index| Some((*index, all?.get(*index)?.path().as_ref()?)));
    paths
        .map(|(index, path)| {
            let copy = mountfd::copy(path, false).map_err(|errno| {
                Fault::invalid(format!(
                    "the container cannot join namespace {}: {errno}",
                    path.display()
                ))
            })?;
            Ok((index, copy))
        })
        .collect()
}

fn copy(staged: &Staged) -> Result<Option<OwnedFd>> {
    let What::Copy {
        source,
        recursive,
        private,
        slave,
        ids,
    } = &staged.what
    else {
        return Ok(None);
    };
    let fault = |what: &str, errno: Errno| Fault::internal(format!("cannot {what} {}: {errno}", source.display()));
    let copy = mountfd::copy(source, *recursive).map_err(|errno| match errno {
        Errno::ENOENT => Fault::not_found(format!("the source {} of a mount does not exist", source.display())),
        errno => fault("copy the mount at", errno),
    })?;
    if let Some((ids, below)) = ids {
        let namespace = match ids {
            Ids::Mappings(mappings) => mappings.user_namespace()?,
            Ids::Namespace(path) => File::open(path)
                .map_err(|error| Fault::invalid(format!("user namespace {}: {error}", path.display())))?
                .into(),
        };
        let change = Change {
            ids: Some(namespace.as_fd()),
            recursive: *below,
            ..Change::default()
        };
        mountfd::change(copy.as_fd(), &change).map_err(|errno| match errno {
            Errno::EINVAL => Fault::precondition(format!(
                "the file system at {} cannot be mounted with ids mapped: use one that can (ext4, xfs, btrfs, tmpfs since Linux 6.3) or hostUsers: true",
                source.display()
            )),
            errno => fault("map the ids of", errno),
        })?;
    }
    let propagation = if *private {
        libc::MS_PRIVATE
    } else if *slave {
        libc::MS_SLAVE
    } else {
        0
    };
    if propagation != 0 {
        let change = Change {
            propagation,
            recursive: true,
            ..Change::default()
        };
        mountfd::change(copy.as_fd(), &change).map_err(|errno| fault("set the propagation of", errno))?;
    }
    Ok(Some(copy))
}

/// Attaches a copy at `place`, which is made of the same kind.
fn attach(copy: BorrowedFd<'_>, place: &Path) -> nix::Result<()> {
    let kind = nix::sys::stat::fstat(copy)?.st_mode & SFlag::S_IFMT.bits();
    if kind == SFlag::S_IFDIR.bits() {
        nix::unistd::mkdir(place, Mode::from_bits_truncate(0o755))?;
    } else {
        mknod(place, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)?;
    }
    mountfd::attach(copy, place)
}

fn make_device(device: &LinuxDevice, place: &Path, spec: &Spec) -> Result<()> {
    let fault = |why: String| Fault::invalid(format!("device {} cannot be made: {why}", device.path().display()));
    let kind = match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => return Err(fault("its type is \"a\"".into())),
    };
    let number = |number: i64| u64::try_from(number).map_err(|_| fault(format!("its number is {number}")));
    let node = makedev(number(device.major())?, number(device.minor())?);
    let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
    let (users, groups) = spec.linux().as_ref().map_or((None, None), |linux| {
        (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref())
    });
    let owner = on_host(device.uid().unwrap_or(0), users);
    let group = on_host(device.gid().unwrap_or(0), groups);
    mknod(place, kind, Mode::from_bits_truncate(mode), node)
        .and_then(|()| nix::unistd::chown(place, Some(owner.into()), Some(group.into())))
        .map_err(|errno| fault(errno.to_string()))?;
    // Whatever the umask says.
    std::fs::set_permissions(place, Permissions::from_mode(mode)).map_err(|error| fault(error.to_string()))
}

/// The id on the host of one in the container.
fn on_host(id: u32, mappings: Option<&[oci_spec::runtime::LinuxIdMapping]>) -> u32 {
    let mut mappings = mappings.unwrap_or_default().iter();
    let found = mappings.find_map(|mapping| {
        let offset = id.checked_sub(mapping.container_id())?;
        (offset < mapping.size()).then(|| mapping.host_id().checked_add(offset))?
    });
    found.unwrap_or(id)
}

/// Puts the adapted spec where libcontainer reads the bundle's.
fn replace_spec(spec: &Spec, bundle: &Path, directory: &Path) -> Result<()> {
    let adapted: PathBuf = directory.join(SPEC);
    let fault = |why: String| Fault::internal(format!("cannot write the adapted spec: {why}"));
    let bytes = serde_json::to_vec(spec).map_err(|error| fault(error.to_string()))?;
    std::fs::write(&adapted, bytes).map_err(|error| fault(error.to_string()))?;
    mount(
        Some(&adapted),
        &bundle.join(SPEC),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|errno| fault(errno.to_string()))
}
