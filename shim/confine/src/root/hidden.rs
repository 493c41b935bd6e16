//! Paths that the spec hides (`maskedPaths`) or makes read-only (`readonlyPaths`). Those that are not there are nobody's.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat, makedev};
use oci_spec::runtime::Linux;

use crate::error::{Class, Error, Named, Result};
use crate::root::tree::{Tree, is_directory, kind_of};
use crate::sys::mount::{self, Change};

/// Covers a file that is hidden.
const NULL: &str = "/dev/null";

/// Makes the paths read-only, then hides the others.
pub fn cover(linux: &Linux, tree: &Tree, label: Option<&str>) -> Result<()> {
    for path in linux.readonly_paths().as_deref().unwrap_or_default() {
        make_read_only(tree, path)?;
    }
    let mut masked = HashSet::new();
    for path in linux.masked_paths().as_deref().unwrap_or_default() {
        if masked.insert(path) {
            mask(tree, path, label)?;
        }
    }
    Ok(())
}

/// A copy of what is there, of which only one attribute changes: a `nosuid` or `noexec` of before stays.
fn make_read_only(tree: &Tree, path: &str) -> Result<()> {
    let name = || format!("make {} read-only", path.escape_debug());
    let place = match tree.locate(Path::new(path)) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other.asked(name)?,
    };
    let copy = mount::copy_at(place.as_fd(), true).host(name)?;
    let read_only = Change {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    mount::change(copy.as_fd(), &read_only).host(name)?;
    mount::attach_at(copy.as_fd(), place.as_fd()).host(name)
}

/// A copy of the container's own null device. Where it has none it is the node's, read-only: whoever may change the owner or
/// mode of a file in the container must not change that one's.
fn null_device(tree: &Tree) -> nix::Result<OwnedFd> {
    let own = tree.locate(Path::new(NULL));
    if let Ok(own) = own.as_ref()
        && let Ok(stat) = fstat(own)
        && kind_of(&stat) == SFlag::S_IFCHR
        && stat.st_rdev == makedev(1, 3)
    {
        return mount::copy_at(own.as_fd(), false);
    }
    let copy = mount::copy(Path::new(NULL), false)?;
    let read_only = Change {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    mount::change(copy.as_fd(), &read_only)?;
    Ok(copy)
}

fn mask(tree: &Tree, path: &str, label: Option<&str>) -> Result<()> {
    let name = || format!("mask {}", path.escape_debug());
    let place = match tree.locate(Path::new(path)) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other.asked(name)?,
    };
    let cover = match is_directory(&place).host(name)? {
        true => {
            let option = |key: &CStr, value: &CStr| (key.to_owned(), Some(value.to_owned()));
            let mut options = vec![
                option(c"source", c"tmpfs"),
                option(c"size", c"4k"),
                option(c"nr_inodes", c"1"),
                (c"ro".to_owned(), None),
            ];
            if let Some(label) = label.and_then(|label| std::ffi::CString::new(label).ok()) {
                options.push((c"context".into(), Some(label)));
            }
            mount::create(c"tmpfs", &options, libc::MOUNT_ATTR_RDONLY)
                .map_err(|refused| Error::kernel(Class::Internal, name(), refused.errno))?
        }
        false => null_device(tree).host(name)?,
    };
    mount::attach_at(cover.as_fd(), place.as_fd()).host(name)
}
