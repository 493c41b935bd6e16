//! From the host's tree to the container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount as mount2, umount2};
use nix::unistd::{chdir, fchdir, pivot_root};
use oci_spec::runtime::Spec;

use crate::error::{Error, Named, Result, shown};
use crate::root::tree::Tree;
use crate::sys::mount::{self, Change};

/// A copy of the root file system with all that is mounted in it, attached nowhere, with the propagation that the spec
/// gives to the container's root.
pub fn prepare(rootfs: &Path, propagation: (u64, bool)) -> Result<OwnedFd> {
    let name = || format!("root file system {}", shown(rootfs));
    let copy = mount::copy(rootfs, true).asked(name)?;
    // The root itself cannot be shared while it becomes the root. What is mounted in it may stay in the host's peer groups.
    let change = Change {
        propagation: libc::MS_SLAVE,
        recursive: propagation.0 != libc::MS_SHARED,
        ..Change::default()
    };
    mount::change(copy.as_fd(), &change).host(name)?;
    Ok(copy)
}

/// What the spec says of the root's propagation (`MS_*`), and whether it holds for the mounts below. Without a word, what
/// the host mounts below arrives, and nothing goes back.
pub fn propagation(spec: &Spec) -> Result<(u64, bool)> {
    let linux = spec.linux().as_ref();
    let said = linux
        .and_then(|linux| linux.rootfs_propagation().as_deref())
        .unwrap_or_default();
    let plain = said.strip_prefix('r').unwrap_or(said);
    let kind = match plain {
        "" => return Ok((0, false)),
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "private" => libc::MS_PRIVATE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => {
            return Err(Error::invalid(
                format!("rootfsPropagation \"{}\"", said.escape_debug()),
                "it is none of shared, slave, private and unbindable, with or without an r",
            ));
        }
    };
    Ok((kind, plain != said))
}

/// Cuts the mounts of this mount namespace, which is the container's, off from the host's: nothing that is mounted from
/// here on reaches the host.
pub fn cut_off() -> Result<()> {
    let none: Option<&str> = None;
    mount2(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .host(|| "cut the mounts off from the host's".into())
}

/// Attaches the copy where the root file system is mounted on the host: in the working directory.
pub fn attach(root: OwnedFd) -> Result<Tree> {
    mount::attach_here(root.as_fd()).host(|| "attach the root file system".into())?;
    Ok(Tree::new(root))
}

/// Makes the tree the root of this process; the host's tree is gone after.
pub fn enter(tree: &Tree, propagation: (u64, bool)) -> Result<()> {
    let none: Option<&str> = None;
    enter_root(tree.root()).host(|| "make the root file system the root".into())?;
    let (kind, below) = propagation;
    if kind != 0 {
        let mut flags = MsFlags::from_bits_retain(kind as libc::c_ulong);
        flags.set(MsFlags::MS_REC, below);
        mount2(none, "/", none, flags, none).host(|| "set rootfsPropagation".into())?;
    }
    Ok(())
}

/// The old root comes to lie on the new one, from where it is taken away. Source: pivot_root(2), "pivot_root(".", ".")".
fn enter_root(root: BorrowedFd<'_>) -> nix::Result<()> {
    fchdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// Makes the root read-only, without what is mounted below.
pub fn make_read_only(tree: &Tree) -> Result<()> {
    let change = Change {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    mount::change(tree.root(), &change).host(|| "make the root read-only".into())
}
