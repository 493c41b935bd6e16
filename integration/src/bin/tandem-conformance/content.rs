//! What the images are made of: a busybox whose shell finds commands by PATH, and the programs of
//! `integration/conformance`.

use std::{fs, path::Path, process::Command};

use tandem_integration::{
    Error, Result,
    image::{Compression, ImageBuilder, Layout, Rootfs},
};

const PASSWD: &[u8] = b"root:x:0:0:root:/:/bin/sh\n\
    www-data:x:33:33:www-data:/:/bin/sh\n\
    default-user:x:1000:1000:user:/:/bin/sh\n\
    nobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\n\
    www-data:x:33:\n\
    default-user:x:1000:\n\
    group-defined-in-image:x:50000:default-user\n\
    nogroup:x:65534:\n";

/// Content for images.
#[derive(Clone, Debug)]
pub struct Content {
    /// A shell and all that specs run in it.
    base: Rootfs,
    programs: Vec<u8>,
}

impl Content {
    /// Reads what `integration/setup conformance` has put into `dir`: the binary `programs`, and `busybox`, a directory
    /// with the binary and the libraries it needs.
    ///
    /// # Errors
    /// Where something is missing.
    pub fn read(dir: &Path) -> Result<Self> {
        let programs = dir.join("programs");
        let programs = fs::read(&programs).map_err(|cause| unreadable(&programs, &cause))?;
        let busybox = dir.join("busybox");
        let mut base = tree(Rootfs::new(), &busybox, "")?;
        for command in commands(&busybox.join("bin/busybox"))? {
            // As in the registries' image: a mount over one command is none over the others.
            base = base.hard_link(&format!("bin/{command}"), "bin/busybox");
        }
        base = base
            .file("bin/programs", 0o755, &programs)
            .link("bin/ipcs", "programs")
            .link("bin/pgrep", "programs")
            .dir("usr", 0o755)
            .dir("usr/sbin", 0o755)
            .link("usr/sbin/nginx", "/bin/programs")
            .link("usr/sbin/httpd", "/bin/programs")
            .dir("var", 0o755)
            .dir("var/run", 0o755)
            .dir("etc", 0o755)
            .file("etc/passwd", 0o644, PASSWD)
            .file("etc/group", 0o644, GROUP)
            .dir("proc", 0o755)
            .dir("tmp", 0o1777);
        Ok(Self { base, programs })
    }

    /// An image with a shell.
    ///
    /// # Errors
    /// Where the layer cannot be archived.
    pub fn image(&self, name: &str) -> Result<ImageBuilder> {
        ImageBuilder::new(name).files(&self.base, Compression::Gzip)
    }

    /// A pause image; those of other `purpose` are other images.
    ///
    /// # Errors
    /// Where the layer cannot be archived.
    pub fn pause(&self, name: &str, purpose: &str) -> Result<Layout> {
        let files = Rootfs::new().file("pause", 0o755, &self.programs);
        let image = ImageBuilder::new(name).files(&files, Compression::Gzip)?;
        Ok(image.env([format!("PURPOSE={purpose}")]).entrypoint(["/pause"]).build())
    }

    /// A program whose file gives it its owner's identity.
    ///
    /// # Errors
    /// Where the layer cannot be archived.
    pub fn escalating(&self, name: &str) -> Result<Layout> {
        let files = Rootfs::new().file("nonewprivs", 0o4755, &self.programs);
        let image = ImageBuilder::new(name).files(&files, Compression::Gzip)?;
        Ok(image.entrypoint(["/nonewprivs"]).build())
    }
}

/// The commands of a busybox that the programs have no better one for.
fn commands(busybox: &Path) -> Result<Vec<String>> {
    let list = Command::new(busybox).arg("--list").output();
    let list = list.map_err(|cause| unreadable(busybox, &cause))?.stdout;
    let list = String::from_utf8_lossy(&list).into_owned();
    let others = |command: &&str| !["busybox", "ipcs", "pgrep"].contains(command);
    Ok(list.lines().filter(others).map(str::to_owned).collect())
}

/// Adds the executable files below `dir` to `files`, at `path`, sorted by name.
fn tree(mut files: Rootfs, dir: &Path, path: &str) -> Result<Rootfs> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.map_err(|cause| unreadable(dir, &cause))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let from = entry.path();
        let to = format!("{path}{}", entry.file_name().to_string_lossy());
        files = if from.is_dir() {
            tree(files.dir(&to, 0o755), &from, &format!("{to}/"))?
        } else {
            let content = fs::read(&from).map_err(|cause| unreadable(&from, &cause))?;
            files.file(&to, 0o755, &content)
        };
    }
    Ok(files)
}

fn unreadable(path: &Path, cause: &std::io::Error) -> Error {
    Error::Setup(format!(
        "cannot use {}: {cause}; `make conformance` makes it",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_files_becomes_the_same_layer_each_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lib/deep")).unwrap();
        for file in ["lib/deep/b", "lib/a", "c"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let expected = Rootfs::new()
            .file("c", 0o755, b"c")
            .dir("lib", 0o755)
            .file("lib/a", 0o755, b"lib/a")
            .dir("lib/deep", 0o755)
            .file("lib/deep/b", 0o755, b"lib/deep/b");
        let made = tree(Rootfs::new(), dir.path(), "").unwrap();
        assert_eq!(made.tar().unwrap(), expected.tar().unwrap());
    }
}
