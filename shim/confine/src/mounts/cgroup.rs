//! The container's view of its own cgroups.
//!
//! With cgroup v2 it is a file system of the container's cgroup namespace, or the container's directory where it shares the
//! host's. With v1 each hierarchy's directory is mounted below a tmpfs, with a link for each controller that shares one.
//! As read-only as the spec says: a container that could write there could raise its own limits.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::options::Options;
use crate::error::{Class, Error, Named, Result, shown};
use crate::sys::mount::{self, Change};

/// Where the container's cgroups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchies {
    /// The mount point of each v1 hierarchy, and the container's directory in it.
    V1(Vec<(PathBuf, PathBuf)>),
    /// The container's directory, and whether it has a cgroup namespace of its own.
    V2 {
        /// The directory on the host.
        directory: PathBuf,
        /// Whether it is the root of the container's cgroup namespace.
        own_namespace: bool,
    },
}

/// The tmpfs holds mount points and links only.
const SIZE: &std::ffi::CStr = c"64k";

/// Mounts them at `place`.
pub fn mount(
    hierarchies: &Hierarchies,
    destination: &Path,
    options: &Options,
    place: &OwnedFd,
    label: Option<&str>,
) -> Result<()> {
    let name = || format!("mount {} (cgroup)", shown(destination));
    if !options.file_system.is_empty() || !options.propagation.is_empty() {
        return Err(Error::invalid(
            name(),
            "options of the file system and of propagation do not go with it",
        ));
    }
    // There is nothing below it that is not mounted here, too.
    let set = options.attributes.set | options.recursive.set;
    match hierarchies {
        Hierarchies::V2 {
            directory,
            own_namespace,
        } => {
            let made = match own_namespace {
                true => mount::create(c"cgroup2", &[(c"source".into(), Some(c"cgroup".into()))], set)
                    .map_err(|refused| Error::kernel(Class::Internal, name(), refused.errno))?,
                false => copy(directory, set).host(name)?,
            };
            mount::attach_at(made.as_fd(), place.as_fd()).host(name)
        }
        Hierarchies::V1(all) => {
            let writable = set & !libc::MOUNT_ATTR_RDONLY;
            let mut own = vec![
                (c"source".into(), Some(c"tmpfs".into())),
                (c"mode".into(), Some(c"755".into())),
                (c"size".into(), Some(SIZE.into())),
            ];
            if let Some(label) = label.and_then(|label| std::ffi::CString::new(label).ok()) {
                own.push((c"context".into(), Some(label)));
            }
            let outer = mount::create(c"tmpfs", &own, writable)
                .map_err(|refused| Error::kernel(Class::Internal, name(), refused.errno))?;
            mount::attach_at(outer.as_fd(), place.as_fd()).host(name)?;
            // The new mount covers `place`; this descriptor is its root.
            for (point, directory) in all {
                one_hierarchy(point, directory, &outer, set).host(|| format!("{}: {}", name(), shown(directory)))?;
            }
            match set & libc::MOUNT_ATTR_RDONLY {
                0 => Ok(()),
                // After everything in it is made.
                _ => read_only(&outer).host(name),
            }
        }
    }
}

fn one_hierarchy(point: &Path, directory: &Path, outer: &OwnedFd, attributes: u64) -> nix::Result<()> {
    let Some(file) = point.file_name() else { return Ok(()) };
    mkdirat(outer, file, Mode::from_bits_truncate(0o755))?;
    let place = crate::root::tree::open_here(outer, file, nix::fcntl::OFlag::O_PATH)?;
    mount::attach_at(copy(directory, attributes)?.as_fd(), place.as_fd())?;
    // Controllers that share a hierarchy are looked for under the name of each, too.
    let text = file.to_string_lossy();
    for controller in text.split(',').filter(|one| *one != text) {
        symlinkat(file, outer, controller)?;
    }
    Ok(())
}

fn copy(directory: &Path, attributes: u64) -> nix::Result<OwnedFd> {
    let copied = mount::copy(directory, false)?;
    let change = Change {
        set: attributes,
        propagation: libc::MS_PRIVATE,
        ..Change::default()
    };
    mount::change(copied.as_fd(), &change)?;
    Ok(copied)
}

fn read_only(mount: &OwnedFd) -> nix::Result<()> {
    let change = Change {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    mount::change(mount.as_fd(), &change)
}
