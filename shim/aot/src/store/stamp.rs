//! Remembering which files have been verified since the node booted.
//!
//! Hashing an entry costs a millisecond per megabyte or two; a start must not pay it each time. A stamp records the
//! identity of the file whose hash was right. Whatever changes a file afterwards changes its ctime, which nobody
//! can set, so a file with the recorded identity still has the verified content.
//!
//! A stamp is a symbolic link whose *target* is the record: one system call reads it, and one rename replaces it
//! whole. Stamps live on a tmpfs: after a boot everything is verified anew. Their modification time is when the
//! entry was last used, which the collection asks for.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use tandem_digest::ModuleKind;

/// Changes with the meaning of the record, so that an older stamp is merely one that does not match.
const VERSION: u32 = 1;

/// The stamps of one cache.
#[derive(Debug, Clone)]
pub(crate) struct Stamps {
    dir: PathBuf,
}

impl Stamps {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The kind of the module in the file `name`, if exactly this file has been verified.
    pub(crate) fn verified(&self, name: &str, file: &Metadata) -> Option<ModuleKind> {
        let found = fs::read_link(self.dir.join(name)).ok()?;
        ModuleKind::ALL
            .into_iter()
            .find(|kind| found.as_os_str() == &*record(*kind, file))
    }

    /// Records that `file` under `name` has been verified to hold a module of this kind.
    pub(crate) fn write(&self, name: &str, kind: ModuleKind, file: &Metadata) -> io::Result<()> {
        let temporary = self.dir.join(format!("{name}.{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        symlink(record(kind, file), &temporary)?;
        fs::rename(&temporary, self.dir.join(name)).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }

    /// Notes that `name` is in use now. A failure only makes the entry look older than it is.
    pub(crate) fn touch(&self, name: &str) {
        let now = TimeSpec::UTIME_NOW;
        let _ = utimensat(
            AT_FDCWD,
            &self.dir.join(name),
            &now,
            &now,
            UtimensatFlags::NoFollowSymlink,
        );
    }

    /// When `name` was last used since the boot.
    pub(crate) fn last_used(&self, name: &str) -> Option<SystemTime> {
        fs::symlink_metadata(self.dir.join(name)).ok()?.modified().ok()
    }

    /// The directory, which is not kept over a boot.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Forgets `name`.
    pub(crate) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.dir.join(name));
    }
}

fn record(kind: ModuleKind, file: &Metadata) -> String {
    format!(
        "{VERSION} {kind} {} {} {} {}.{:09} {}.{:09}",
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_for_one_name_one_kind_and_one_state_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let stamps = Stamps::new(dir.path());
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let first = fs::metadata(&path).unwrap();
        assert_eq!(stamps.verified("a", &first), None);
        stamps.write("a", ModuleKind::Component, &first).unwrap();
        assert_eq!(stamps.verified("a", &first), Some(ModuleKind::Component));
        assert_eq!(stamps.verified("b", &first), None);

        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "two").unwrap();
        let second = fs::metadata(&path).unwrap();
        assert_eq!(stamps.verified("a", &second), None);
        stamps.write("a", ModuleKind::Core, &second).unwrap();
        assert_eq!(stamps.verified("a", &second), Some(ModuleKind::Core));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            2,
            "only the file and its stamp"
        );
    }

    #[test]
    fn touching_moves_the_last_use_to_now() {
        let dir = tempfile::tempdir().unwrap();
        let stamps = Stamps::new(dir.path());
        assert_eq!(stamps.last_used("a"), None);
        stamps
            .write("a", ModuleKind::Core, &fs::metadata(dir.path()).unwrap())
            .unwrap();
        let before = stamps.last_used("a").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        stamps.touch("a");
        assert!(stamps.last_used("a").unwrap() > before);
    }
}
