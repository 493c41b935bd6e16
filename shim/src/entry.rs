//! Finding what a process is to run, before anything of it runs: the file that `process.args[0]` names, and whether it is
//! WebAssembly.
//!
//! The confined process looks for it itself: in the tree that it will run in, mounts and links included, as its user, from
//! its working directory. So what it finds is what an execve would find, and what its user may not read it does not run.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use oci_spec::runtime::Process;
use tandem_confine::{Class, Error, Result};

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

/// Looks `process.args[0]` up as `execvp` would, in this process's own tree.
pub fn find(process: &Process, env: &[String]) -> Result<Entry> {
    let args = process.args().as_deref().unwrap_or_default();
    let Some(arg) = args.first().filter(|arg| !arg.is_empty()) else {
        return Err(Error::invalid("process.args", "it is empty"));
    };
    if let Some(found) = lookup(arg, env)? {
        return found.classify(None);
    }
    // An export may hold a `#` as well (`path#package:name/interface#function`), so the file decides which one
    // splits.
    for (name, export) in splits(arg) {
        if let Some(found) = lookup(name, env)? {
            return found.classify(Some(export));
        }
    }
    let (name, export) = split(arg);
    Ok(Entry::Missing {
        name: name.to_owned(),
        export: export.map(str::to_owned),
    })
}

/// Where programs are looked for.
pub fn path_variable(env: &[String]) -> &str {
    let path = env.iter().find_map(|variable| variable.strip_prefix("PATH="));
    path.unwrap_or(DEFAULT_PATH)
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
    /// For its place only.
    place: OwnedFd,
    path: PathBuf,
}

impl Found {
    fn classify(self, export: Option<&str>) -> Result<Entry> {
        let name = self.path.display().to_string().escape_debug().to_string();
        let extension = self.path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        // By its name a Wasm file stays one even when its content is not: the compiled-code cache then says
        // what is wrong with it, which helps more than "exec format error".
        let named_wasm = matches!(extension, "wasm" | "wat" | "cwasm");
        let file = match self.open() {
            Ok(file) => file,
            // A program may be executed by who may not read it; a module may not.
            Err(Errno::EACCES) if !named_wasm => return Ok(Entry::Linux),
            Err(errno) => return Err(refused(&self.path, errno)),
        };
        let mut magic = [0u8; 4];
        let read = file.read_at(&mut magic, 0).map_err(|error| {
            Error::new(
                Class::Internal,
                format!("entrypoint {name} cannot be read"),
                error.to_string(),
            )
        })?;
        if magic[..read] != *WASM_MAGIC && !named_wasm {
            return Ok(Entry::Linux);
        }
        // Source: mount(8), noexec: a module is a program, too. KEP-5855.
        if fstatvfs(&file).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOEXEC)) {
            return Err(Error::invalid(
                format!("entrypoint {name}"),
                "permission denied: it is on a mount with the option noexec",
            ));
        }
        let export = export.map(str::to_owned);
        Ok(Entry::Wasm { file, name, export })
    }

    /// The very file that was found, now that it is known to be a regular one. A name below /proc cannot be relied on here,
    /// so it is opened by its own again, and must be the same.
    fn open(&self) -> nix::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = open(&self.path, flags, Mode::empty())?;
        let (found, opened) = (fstat(&self.place)?, fstat(&file)?);
        if (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino) {
            return Err(Errno::ESTALE);
        }
        Ok(file.into())
    }
}

/// The file that `name` stands for: a path, absolute or from the working directory, or a plain name to search PATH and then
/// the working directory for.
fn lookup(name: &str, env: &[String]) -> Result<Option<Found>> {
    if name.contains('/') {
        return match place_of(Path::new(name)) {
            Err(Errno::ENOENT) => Ok(None),
            Err(errno @ Errno::ENOTDIR) => Err(Error::new(Class::NotFound, exec_of(name), errno.desc())),
            Err(errno) => Err(refused(Path::new(name), errno)),
            Ok(place) => regular(place, Path::new(name)),
        };
    }
    let dirs = path_variable(env).split(':').filter(|dir| dir.starts_with('/'));
    for path in dirs.chain(["./"]).map(|dir| Path::new(dir).join(name)) {
        let place = match place_of(&path) {
            // Somewhere on PATH where the user may not look is not where it is.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ENAMETOOLONG) => continue,
            place => place.map_err(|errno| refused(&path, errno))?,
        };
        if let Some(found) = regular(place, &path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn place_of(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

/// What was found, if it is a file. A directory of that name on PATH is not what was meant.
fn regular(place: OwnedFd, path: &Path) -> Result<Option<Found>> {
    let mode = fstat(&place).map_err(|errno| refused(path, errno))?.st_mode;
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Ok(Some(Found {
            place,
            path: path.to_owned(),
        })),
        SFlag::S_IFDIR => Ok(None),
        _ => Err(Error::invalid(
            format!("entrypoint {}", path.display().to_string().escape_debug()),
            "it is not a regular file",
        )),
    }
}

fn exec_of(name: &str) -> String {
    format!("exec: \"{}\"", name.escape_debug())
}

fn refused(path: &Path, errno: Errno) -> Error {
    let name = path.display().to_string();
    Error::kernel(
        Class::Invalid,
        format!("entrypoint {} cannot be opened", name.escape_debug()),
        errno,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn found(dir: &Path, arg: &str, path: &str) -> Result<Entry> {
        let arg = arg.replace("DIR", dir.to_str().unwrap());
        let json = serde_json::json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": [arg]});
        let process: Process = serde_json::from_value(json).unwrap();
        find(
            &process,
            &[format!("PATH={}", path.replace("DIR", dir.to_str().unwrap()))],
        )
    }

    struct Image(tempfile::TempDir);

    impl Image {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("bin")).unwrap();
            Self(dir)
        }

        fn file(self, path: &str, content: &[u8]) -> Self {
            std::fs::write(self.0.path().join(path), content).unwrap();
            self
        }

        fn find(&self, arg: &str) -> Result<Entry> {
            found(self.0.path(), arg, "DIR/bin")
        }
    }

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_wasm_file_is_known_by_its_content_and_an_elf_by_its() {
        let image = Image::new().file("app", WASM).file("bin/sh", b"\x7fELF...");
        assert!(matches!(image.find("DIR/app"), Ok(Entry::Wasm { export: None, .. })));
        assert!(matches!(image.find("DIR/bin/sh"), Ok(Entry::Linux)));
    }

    #[test]
    fn names_are_searched_on_path() {
        let image = Image::new().file("bin/tool", WASM);
        assert!(matches!(image.find("tool"), Ok(Entry::Wasm { .. })));
        assert!(matches!(image.find("tools"), Ok(Entry::Missing { .. })));
    }

    #[test]
    fn an_export_is_split_off_unless_a_file_has_the_whole_name() {
        let image = Image::new().file("a.wasm", WASM);
        let Ok(Entry::Wasm { export, name, .. }) = image.find("DIR/a.wasm#greet") else {
            panic!()
        };
        assert!(name.ends_with("/a.wasm"));
        assert_eq!(export.as_deref(), Some("greet"));
        let Ok(Entry::Wasm { export, .. }) = image.find("DIR/a.wasm#ns:pkg/iface#run") else {
            panic!()
        };
        assert_eq!(export.as_deref(), Some("ns:pkg/iface#run"));
        let Ok(Entry::Missing { name, export }) = image.find("layer#run") else {
            panic!()
        };
        assert_eq!((name.as_str(), export.as_deref()), ("layer", Some("run")));
        let image = image.file("a.wasm#greet", WASM);
        assert!(matches!(
            image.find("DIR/a.wasm#greet"),
            Ok(Entry::Wasm { export: None, .. })
        ));
    }

    #[test]
    fn a_link_leads_where_the_kernel_says() {
        let image = Image::new().file("app", WASM);
        symlink(image.0.path().join("app"), image.0.path().join("bin/link")).unwrap();
        assert!(matches!(image.find("link"), Ok(Entry::Wasm { .. })));
    }

    #[test]
    fn a_device_or_fifo_as_entrypoint_is_refused_without_opening_it() {
        let image = Image::new();
        nix::unistd::mkfifo(&image.0.path().join("f.wasm"), Mode::S_IRWXU).unwrap();
        let error = image.find("DIR/f.wasm").unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
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
    }

    #[test]
    fn a_wasm_name_with_other_content_is_left_to_the_compiler_to_explain() {
        let image = Image::new().file("a.wasm", b"garbage").file("e.wasm", b"");
        assert!(matches!(image.find("DIR/a.wasm"), Ok(Entry::Wasm { .. })));
        assert!(matches!(image.find("DIR/e.wasm"), Ok(Entry::Wasm { .. })));
    }
}
