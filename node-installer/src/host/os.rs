//! Facts about the host's operating system.

use std::{fs, path::Path};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::Host;
use crate::error::{Error, Result};

/// What `/etc/os-release` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Os {
    /// `ID`, such as `ubuntu`.
    pub id: String,
    /// `PRETTY_NAME`.
    pub name: String,
    /// `VARIANT_ID`, empty where there is none.
    pub variant: String,
}

impl Os {
    /// Reads `/etc/os-release`, or the file in `/usr/lib` that the former usually links to.
    ///
    /// # Errors
    /// A file that cannot be read. Its absence is no error: an OS without it is none of those that matter here.
    pub fn of(host: &Host) -> Result<Self> {
        let mut os = Self::default();
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            let Some(text) = host.read_text(Path::new(path))? else {
                continue;
            };
            for line in text.lines() {
                let Some((key, value)) = line.split_once('=') else {
                    continue;
                };
                let value = value.trim().trim_matches(['"', '\'']).to_owned();
                match key.trim() {
                    "ID" => os.id = value,
                    "PRETTY_NAME" => os.name = value,
                    "VARIANT_ID" => os.variant = value,
                    _ => {}
                }
            }
            break;
        }
        Ok(os)
    }
}

/// Which cgroup hierarchies the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// The unified hierarchy alone.
    V2,
    /// The controllers' own hierarchies, with or without the unified one beside them.
    V1,
    /// Not to be seen from here.
    Unknown,
}

/// Looks at `/sys/fs/cgroup` as systemd lays it out.
pub fn cgroup_mode(host: &Host) -> CgroupMode {
    if host.exists("/sys/fs/cgroup/cgroup.controllers") {
        return CgroupMode::V2;
    }
    if host.exists("/sys/fs/cgroup/memory") || host.exists("/sys/fs/cgroup/cpu") {
        return CgroupMode::V1;
    }
    CgroupMode::Unknown
}

impl Host {
    /// Whether files can be made in `dir`, or in the directory that it will be made in.
    ///
    /// # Errors
    /// [`Error::Refused`] says what is in the way, where `executable` also a file system that runs no program.
    pub fn require_writable(&self, distribution: &str, dir: &Path, executable: bool) -> Result<()> {
        let mut nearest = dir;
        while !self.exists(nearest) {
            let Some(parent) = nearest.parent() else { break };
            nearest = parent;
        }
        let here = self.path(nearest)?;
        let refused = |why: String, instead: &str| Error::Refused {
            host: distribution.to_owned(),
            why,
            instead: instead.to_owned(),
        };
        let flags = statvfs(&here).map_err(Error::io("inspect", &here))?.flags();
        if flags.contains(FsFlags::ST_RDONLY) {
            return Err(refused(
                format!("{} is on a read-only file system", nearest.display()),
                "build Tandem into the node's image (`tandem-node-installer install --offline` in the image's build), \
                 or mount a writable file system there",
            ));
        }
        if executable && flags.contains(FsFlags::ST_NOEXEC) {
            return Err(refused(
                format!("{} is on a file system mounted noexec", nearest.display()),
                "name a directory that programs may run from with --install-dir (chart: `installDir`)",
            ));
        }
        if !fs::metadata(&here).is_ok_and(|meta| meta.is_dir()) {
            return Err(refused(
                format!("{} is not a directory", nearest.display()),
                "move it out of the way",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_of_os_release_are_no_part_of_the_value() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let text = "ID=\"sles\"\nPRETTY_NAME='SUSE Linux'\nVARIANT_ID=micro\n# note\n";
        fs::write(root.path().join("etc/os-release"), text).unwrap();
        let os = Os::of(&Host::tree(root.path())).unwrap();
        assert_eq!(
            (os.id.as_str(), os.name.as_str(), os.variant.as_str()),
            ("sles", "SUSE Linux", "micro")
        );
    }

    #[test]
    fn a_directory_to_be_made_is_writable_where_its_nearest_parent_is() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::tree(root.path());
        host.require_writable("test", Path::new("/opt/tandem/bin"), true)
            .unwrap();
        let error = host.require_writable("test", Path::new("/../../proc/x"), false);
        assert!(error.is_ok(), "the parent of the root is the root");
        let error = Host::new("/").require_writable("test", Path::new("/proc/sys/x"), true);
        assert!(matches!(error, Err(Error::Refused { .. })) || nix::unistd::geteuid().is_root());
    }
}
