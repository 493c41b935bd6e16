//! Finding what a container is to run, before anything of it runs: the file that `process.args[0]` names
//! inside the image, and whether it is WebAssembly.
//!
//! The image is hostile. Paths are resolved by the kernel with the root file system as root
//! (`openat2(RESOLVE_IN_ROOT)`), so no symlink leads out, and only regular files are opened.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use oci_spec::runtime::{Mount, Process};

use crate::bundle::Bundle;
use crate::fault::{Fault, Result};

/// First bytes of a WebAssembly binary, module or component.
const WASM_MAGIC: &[u8] = b"\0asm";
/// What a shell and `execvp` search when PATH is not set. Source: execvp(3).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `process.args[0]` turned out to be.
#[derive(Debug)]
pub enum Entry {
    /// A WebAssembly file of the root file system or of a mount.
    Wasm {
        /// The opened file.
        file: File,
        /// Its name, for messages.
        name: String,
        /// The export to call (`path#function`).
        export: Option<String>,
    },
    /// An ELF binary or a script.
    Linux,
    /// No such file: the module may be a layer of the image.
    Missing {
        /// The name looked for.
        name: String,
        /// The export to call (`name#function`).
        export: Option<String>,
    },
}

/// Looks `process.args[0]` up as the kernel and `execvp` would, inside `rootfs` and the spec's bind mounts.
pub fn find(bundle: &Bundle, rootfs: &Path) -> Result<Entry> {
    let Some(arg) = bundle.args().first() else {
        return Err(Fault::invalid("process.args is empty"));
    };
    let tree = Tree {
        bundle: bundle.path(),
        mounts: bundle.spec().mounts().as_deref().unwrap_or_default(),
        root: rootfs,
        process: bundle.process(),
    };
    tree.find(arg)
}

/// Looks up what a process is to execute in a running container, whose mounts are all there below `root`.
pub fn find_running(process: &Process, root: &Path) -> Result<Entry> {
    let Some(arg) = process.args().as_ref().and_then(|args| args.first()) else {
        return Err(Fault::invalid("process.args is empty"));
    };
    let tree = Tree {
        bundle: Path::new("/"),
        mounts: &[],
        root,
        process: Some(process),
    };
    tree.find(arg)
}

/// `name#export`, where there is no file to decide which `#` is meant.
pub fn split(arg: &str) -> (&str, Option<&str>) {
    match splits(arg).next() {
        Some((name, export)) => (name, Some(export)),
        None => (arg, None),
    }
}

/// The ways to read `name#export`, shortest name first. A file whose whole name holds a `#` is found before these.
fn splits(arg: &str) -> impl Iterator<Item = (&str, &str)> {
    arg.match_indices('#')
        .map(|(at, _)| (&arg[..at], &arg[at + 1..]))
        .filter(|(name, export)| !name.is_empty() && !export.is_empty())
}

struct Found {
    file: File,
    path: PathBuf,
}

impl Found {
    fn classify(self, export: Option<&str>) -> Result<Entry> {
        let name = self.path.display().to_string();
        let mut magic = [0u8; 4];
        let read = self
            .file
            .read_at(&mut magic, 0)
            .map_err(|error| Fault::internal(format!("entrypoint {name} cannot be read: {error}")))?;
        let extension = self.path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        // By its name a Wasm file stays one even when its content is not: the compiled-code cache then says
        // what is wrong with it, which helps more than "exec format error".
        let named_wasm = matches!(extension, "wasm" | "wat" | "cwasm");
        if magic[..read] == *WASM_MAGIC || named_wasm {
            let export = export.map(str::to_owned);
            return Ok(Entry::Wasm {
                file: self.file,
                name,
                export,
            });
        }
        Ok(Entry::Linux)
    }
}

struct Tree<'a> {
    /// What relative mount sources are relative to.
    bundle: &'a Path,
    /// Mounts that are not there yet.
    mounts: &'a [Mount],
    root: &'a Path,
    process: Option<&'a Process>,
}

impl Tree<'_> {
    fn find(&self, arg: &str) -> Result<Entry> {
        if let Some(found) = self.lookup(arg)? {
            return found.classify(None);
        }
        // An export may hold a `#` as well (`path#package:name/interface#function`), so the file decides which one
        // splits.
        for (name, export) in splits(arg) {
            if let Some(found) = self.lookup(name)? {
                return found.classify(Some(export));
            }
        }
        let (name, export) = split(arg);
        Ok(Entry::Missing {
            name: name.to_owned(),
            export: export.map(str::to_owned),
        })
    }

    /// The file that `name` stands for: an absolute path, a path relative to the working directory, or a
    /// plain name to search PATH and then the working directory for.
    fn lookup(&self, name: &str) -> Result<Option<Found>> {
        let cwd = self
            .process
            .map_or_else(|| PathBuf::from("/"), |process| process.cwd().clone());
        if name.contains('/') {
            return self.open(&cwd.join(name));
        }
        for dir in self.path_variable().split(':').filter(|dir| dir.starts_with('/')) {
            if let Some(found) = self.open(&Path::new(dir).join(name))? {
                return Ok(Some(found));
            }
        }
        self.open(&cwd.join(name))
    }

    fn path_variable(&self) -> &str {
        self.process
            .and_then(|process| process.env().as_ref())
            .and_then(|env| env.iter().find_map(|var| var.strip_prefix("PATH=")))
            .unwrap_or(DEFAULT_PATH)
    }

    /// Opens `path` of the container, in the bind mount that covers it or in the root file system.
    fn open(&self, path: &Path) -> Result<Option<Found>> {
        let (root, below) = self.covering_mount(path);
        let fault = |errno: Errno| Fault::invalid(format!("entrypoint {} cannot be opened: {errno}", path.display()));
        let located = match &below {
            Some(below) => open_in_root(&root, below),
            None => open_path(&root),
        };
        let located = match located {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return Err(fault(errno)),
        };
        let mode = fstat(located.as_fd()).map_err(fault)?.st_mode;
        match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => {}
            // A directory of that name on PATH is not what was meant.
            SFlag::S_IFDIR => return Ok(None),
            _ => {
                return Err(Fault::invalid(format!(
                    "entrypoint {} is not a regular file",
                    path.display()
                )));
            }
        }
        // Through /proc, so that it is this very file that is opened, now that it is known to be regular.
        let file = File::open(format!("/proc/self/fd/{}", located.as_raw_fd()))
            .map_err(|error| Fault::invalid(format!("entrypoint {} cannot be opened: {error}", path.display())))?;
        Ok(Some(Found {
            file,
            path: path.to_owned(),
        }))
    }

    /// The host directory (or file) under which `path` is found, and the rest of the path below it.
    fn covering_mount(&self, path: &Path) -> (PathBuf, Option<PathBuf>) {
        let covering = self
            .mounts
            .iter()
            .rev()
            .filter(|mount| mount.typ().as_deref() == Some("bind") || is_bind(mount.options()))
            .filter(|mount| path.starts_with(mount.destination()))
            .max_by_key(|mount| mount.destination().components().count());
        let Some((mount, source)) = covering.and_then(|m| Some((m, m.source().as_ref()?))) else {
            return (self.root.to_owned(), Some(path.to_owned()));
        };
        let below = path.strip_prefix(mount.destination()).unwrap_or(path);
        let below = (!below.as_os_str().is_empty()).then(|| below.to_owned());
        (self.bundle.join(source), below)
    }
}

fn is_bind(options: &Option<Vec<String>>) -> bool {
    options
        .as_ref()
        .is_some_and(|options| options.iter().any(|option| option == "bind" || option == "rbind"))
}

fn open_path(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

fn open_in_root(root: &Path, path: &Path) -> nix::Result<OwnedFd> {
    let root = open_path(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root.as_fd(), path, how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Image {
        dir: tempfile::TempDir,
    }

    impl Image {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("rootfs/bin")).unwrap();
            Self { dir }
        }

        fn file(self, path: &str, content: &[u8]) -> Self {
            std::fs::write(self.dir.path().join("rootfs").join(path), content).unwrap();
            self
        }

        fn find(&self, arg: &str, mounts: &str) -> Result<Entry> {
            let json = format!(
                r#"{{"ociVersion":"1.1.0","root":{{"path":"rootfs"}},"mounts":[{mounts}],"linux":{{}},
                "process":{{"cwd":"/bin","env":["PATH=/bin"],"user":{{"uid":0,"gid":0}},"args":["{arg}"]}}}}"#
            );
            let bundle = Bundle::parse(self.dir.path(), json.as_bytes()).unwrap();
            find(&bundle, &bundle.rootfs())
        }
    }

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_wasm_file_is_known_by_its_content_and_an_elf_by_its() {
        let image = Image::new().file("app", WASM).file("bin/sh", b"\x7fELF...");
        assert!(matches!(image.find("/app", ""), Ok(Entry::Wasm { export: None, .. })));
        assert!(matches!(image.find("/bin/sh", ""), Ok(Entry::Linux)));
    }

    #[test]
    fn names_are_searched_on_path_and_relative_paths_from_the_working_directory() {
        let image = Image::new().file("bin/tool", WASM);
        assert!(matches!(image.find("tool", ""), Ok(Entry::Wasm { .. })));
        assert!(matches!(image.find("./tool", ""), Ok(Entry::Wasm { .. })));
        assert!(matches!(image.find("tools", ""), Ok(Entry::Missing { .. })));
    }

    #[test]
    fn an_export_is_split_off_unless_a_file_has_the_whole_name() {
        let image = Image::new().file("a.wasm", WASM);
        let Ok(Entry::Wasm { export, name, .. }) = image.find("/a.wasm#greet", "") else {
            panic!()
        };
        assert_eq!((name.as_str(), export.as_deref()), ("/a.wasm", Some("greet")));
        let Ok(Entry::Wasm { export, .. }) = image.find("/a.wasm#ns:pkg/iface#run", "") else {
            panic!()
        };
        assert_eq!(export.as_deref(), Some("ns:pkg/iface#run"));
        let Ok(Entry::Missing { name, export }) = image.find("layer#run", "") else {
            panic!()
        };
        assert_eq!((name.as_str(), export.as_deref()), ("layer", Some("run")));
        let image = image.file("a.wasm#greet", WASM);
        assert!(matches!(
            image.find("/a.wasm#greet", ""),
            Ok(Entry::Wasm { export: None, .. })
        ));
    }

    #[test]
    fn a_symlink_cannot_lead_out_of_the_image() {
        let image = Image::new();
        symlink("/etc/hostname", image.dir.path().join("rootfs/x.wasm")).unwrap();
        symlink("../../../../etc/hostname", image.dir.path().join("rootfs/y.wasm")).unwrap();
        assert!(matches!(image.find("/x.wasm", ""), Ok(Entry::Missing { .. })));
        assert!(matches!(image.find("/y.wasm", ""), Ok(Entry::Missing { .. })));
    }

    #[test]
    fn a_device_or_fifo_as_entrypoint_is_refused_without_opening_it() {
        let image = Image::new();
        let fifo = image.dir.path().join("rootfs/f.wasm");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert!(
            image
                .find("/f.wasm", "")
                .unwrap_err()
                .message
                .contains("not a regular file")
        );
    }

    #[test]
    fn a_module_in_a_volume_is_found_through_its_mount() {
        let image = Image::new();
        std::fs::create_dir(image.dir.path().join("volume")).unwrap();
        std::fs::write(image.dir.path().join("volume/m.wasm"), WASM).unwrap();
        let mount = r#"{"destination":"/data","type":"bind","source":"volume","options":["rbind"]}"#;
        assert!(matches!(image.find("/data/m.wasm", mount), Ok(Entry::Wasm { .. })));
        let single = r#"{"destination":"/m.wasm","type":"bind","source":"volume/m.wasm","options":["rbind"]}"#;
        assert!(matches!(image.find("/m.wasm", single), Ok(Entry::Wasm { .. })));
    }

    proptest::proptest! {
        #[test]
        fn every_split_is_a_name_and_an_export_that_make_the_argument(arg in "[a#/.\u{e9}]{0,12}") {
            let mut shortest = 0;
            for (name, export) in splits(&arg) {
                assert_eq!(format!("{name}#{export}"), arg);
                assert!(!name.is_empty() && !export.is_empty() && name.len() > shortest);
                shortest = name.len();
            }
        }

        #[test]
        fn no_argument_leads_out_of_the_image(arg in "(/|\\.\\./|\\./|link/|bin/|a){1,8}") {
            // Its links lead out, in both ways a link can; the only file of that name is outside.
            let image = Image::new();
            std::fs::write(image.dir.path().join("a"), WASM).unwrap();
            symlink(image.dir.path(), image.dir.path().join("rootfs/link")).unwrap();
            symlink("../..", image.dir.path().join("rootfs/bin/link")).unwrap();
            assert!(!matches!(image.find(&arg, ""), Ok(Entry::Wasm { .. })), "{arg}");
        }
    }

    #[test]
    fn a_wasm_name_with_other_content_is_left_to_the_compiler_to_explain() {
        let image = Image::new().file("a.wasm", b"garbage").file("e.wasm", b"");
        assert!(matches!(image.find("/a.wasm", ""), Ok(Entry::Wasm { .. })));
        assert!(matches!(image.find("/e.wasm", ""), Ok(Entry::Wasm { .. })));
    }
}
