//! File systems that are made for the container: proc, sysfs, tmpfs, devpts, mqueue and whatever else the kernel has.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::fstat;

use super::copy_up;
use super::options::Options;
use crate::error::{Class, Error, Result, shown};
use crate::root::tree::Tree;
use crate::sys::mount::{self, FileSystemOption, Refused};

/// Permissions, with set-id and sticky bits.
const PERMISSIONS: u32 = 0o7777;

/// A new file system.
pub struct Fresh {
    /// Its mount, attached nowhere.
    pub mount: OwnedFd,
    /// Whether it is to be read-only when the container's tree is complete.
    pub read_only_later: bool,
}

/// Makes the file system. `covered` is what was there before, if anything.
pub fn make(
    kind: &str,
    source: &str,
    options: &Options,
    covered: Option<&OwnedFd>,
    label: Option<&str>,
    destination: &Path,
) -> Result<Fresh> {
    let name = || format!("mount {} ({})", shown(destination), kind.escape_debug());
    let c = |text: &str| CString::new(text).map_err(|_| Error::invalid(name(), "it holds a zero byte"));
    let mut own: Vec<FileSystemOption> = Vec::new();
    if !source.is_empty() {
        own.push((c"source".into(), Some(c(source)?)));
    }
    own.extend(options.file_system.iter().cloned());
    if kind == "tmpfs" && !has(options, "mode") {
        // It looks as what it covers. Source: runc.
        if let Some(Ok(stat)) = covered.map(fstat) {
            own.push((c"mode".into(), Some(c(&format!("{:o}", stat.st_mode & PERMISSIONS))?)));
        }
    }
    if let Some(label) = label.filter(|_| takes_label(kind)) {
        own.push((c"context".into(), Some(c(label)?)));
    }
    let mut set = options.attributes.set | options.recursive.set;
    // Something is made in it first: mount points, devices, copies. Source: runc `finalizeRootfs`.
    let read_only_later = kind == "tmpfs" && set & libc::MOUNT_ATTR_RDONLY != 0;
    if read_only_later {
        set &= !libc::MOUNT_ATTR_RDONLY;
    }
    let mount = mount::create(&c(kind)?, &own, set).map_err(|refused| explain(name(), &refused))?;
    if let (true, Some(covered)) = (options.copy_up, covered) {
        copy_up::fill(covered, &mount)
            .map_err(|errno| Error::host(format!("{}: copy what it covers", name()), errno))?;
    }
    Ok(Fresh { mount, read_only_later })
}

/// File systems that have no label as a whole. Source: runc `mountToRootfs`.
fn takes_label(kind: &str) -> bool {
    !matches!(kind, "proc" | "sysfs" | "mqueue")
}

/// A message queue's label is its root directory's. Source: runc `mountToRootfs`.
pub fn label_after(kind: &str, tree: &Tree, destination: &Path, label: Option<&str>) -> Result<()> {
    let (Some(label), "mqueue") = (label, kind) else {
        return Ok(());
    };
    let name = || {
        format!(
            "label mount {} (mqueue) \"{}\"",
            shown(destination),
            label.escape_debug()
        )
    };
    let place = tree.locate(destination).map_err(|errno| Error::host(name(), errno))?;
    // /proc is the host's still.
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    crate::process::labels::set_file_label(Path::new(&path), label).map_err(|errno| Error::host(name(), errno))
}

fn has(options: &Options, key: &str) -> bool {
    options
        .file_system
        .iter()
        .any(|(name, _)| name.to_bytes() == key.as_bytes())
}

fn explain(name: String, refused: &Refused) -> Error {
    let mut error = Error::kernel(Class::Invalid, name, refused.errno);
    if refused.errno == nix::errno::Errno::ENODEV {
        error.why = "this kernel has no file system of that type".into();
    }
    if !refused.says.is_empty() {
        error.why = format!("{} ({})", error.why, refused.says.escape_debug());
    }
    error
}
