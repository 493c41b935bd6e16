//! Hosts as fake roots, judged by the real containerd of their generation.
//!
//! A root is one text file: remarks, `key: value` lines, and after `-- PATH --` a file's content (a directory where the
//! path ends in `/`, a link where it says `PATH -> TARGET`). What follows `== after ==` are the files that an
//! installation makes or changes; `TANDEM_BLESS=1` writes that part anew, to be read before it is committed.
//!
//! Where what is written depends on the version of containerd, `exact: 1.6.` says whose it is, so that it is compared with
//! that one only; `since: 2.3.` and `before that: WORDS` that older ones are refused, with these words.
//!
//! containerd 1.x is `$TANDEM_CONTAINERD_V1` or Debian's, 2.x the one in `$TANDEM_CONTAINERD_V2` or in the cache of
//! `make test`: any version of 1.6, 1.7 and 2.x may stand there.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tandem_node_installer::{Host, Options, containerd::Version, ops::Context, txn::digest};

const AFTER: &str = "== after ==\n";
const NO_NEWLINE: &str = "<no newline>\n";

/// A host, unpacked.
pub struct Root {
    file: PathBuf,
    text: String,
    pub keys: BTreeMap<String, String>,
    dir: tempfile::TempDir,
}

impl Root {
    /// Unpacks a root.
    pub fn unpack(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let given = text.split(AFTER).next().unwrap();
        let (head, files) = given.split_once("-- ").unwrap();
        let pairs = head
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(": "));
        let keys: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let dir = tempfile::tempdir().unwrap();
        for section in format!("\n-- {files}").split("\n-- ").skip(1) {
            let (path, content) = section.split_once(" --").unwrap();
            let content = content.strip_prefix('\n').unwrap_or(content);
            write(dir.path(), path, content);
        }
        if let Some(program) = keys.get("program") {
            let real = containerd(&keys["containerd"]);
            let script = format!("#!/bin/sh\nexec {} \"$@\"\n", real.display());
            write(dir.path(), program.trim_start_matches('/'), &script);
            executable(&dir.path().join(program.trim_start_matches('/')));
        }
        let root = Self {
            file: file.into(),
            text,
            keys,
            dir,
        };
        root.put_shim("0.0.0");
        root
    }

    /// Makes the shim that is to be installed one of this version.
    pub fn put_shim(&self, version: &str) {
        let shim = self.dir.path().join("shim");
        fs::write(&shim, format!("#!/bin/sh\necho Version: {version}\n")).unwrap();
        executable(&shim);
    }

    /// What the installer needs to work on it.
    pub fn context(&self) -> Context {
        let host = Host::tree(self.dir.path());
        let options = Options {
            shim: self.dir.path().join("shim"),
            offline: true,
            ..Options::default()
        };
        Context::on(host, options)
    }

    /// The directory that looks like a host.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// All files, each with its mode, owner and content.
    pub fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = BTreeMap::new();
        collect(self.dir.path(), &mut tree);
        tree
    }

    /// The files that are new or changed, as the root's second part has them.
    pub fn changed(&self, before: &BTreeMap<PathBuf, String>) -> String {
        let mut text = String::new();
        for (path, state) in self.tree() {
            let name = path
                .strip_prefix(self.dir.path())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            // What is the same on every host is not repeated in each root.
            let common = ["var/lib/tandem", "opt/tandem/bin", "opt/tandem/versions"];
            if before.get(&path) == Some(&state) || common.iter().any(|dir| name.starts_with(dir)) {
                continue;
            }
            if path.is_symlink() {
                text += &format!("-- {name} -> {} --\n", fs::read_link(&path).unwrap().display());
            } else if path.is_dir() {
                text += &format!("-- {name}/ --\n");
            } else {
                text += &format!("-- {name} --\n{}", fs::read_to_string(&path).unwrap());
            }
        }
        text
    }

    /// Whether the containerd of this root is `version` (such as `1.6.`) or one of a later minor version.
    fn has(&self, version: &str, or_later: bool) -> bool {
        let output = Command::new(containerd(&self.keys["containerd"]))
            .arg("--version")
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let number = |text: &str| Version::parse(text).map(|version| (version.major, version.minor));
        let (has, wanted) = (number(&text), number(version));
        has == wanted || or_later && has > wanted
    }

    /// The words by which an installation is refused with the containerd that is there.
    pub fn refusal(&self) -> Option<&str> {
        let outdated = |since: &String| !self.has(since, true);
        let key = if self.keys.get("since").is_some_and(outdated) {
            "before that"
        } else {
            "refused"
        };
        self.keys.get(key).map(String::as_str)
    }

    /// Requires that what an installation left is what is written down.
    pub fn expect(&self, after: &str) {
        if self.keys.get("exact").is_some_and(|version| !self.has(version, false)) {
            return;
        }
        if env::var_os("TANDEM_BLESS").is_some() {
            let given = self.text.split(AFTER).next().unwrap();
            fs::write(&self.file, format!("{given}{AFTER}{after}")).unwrap();
            return;
        }
        let expected = self.text.split(AFTER).nth(1).unwrap_or_default();
        assert_eq!(after, expected, "{}", self.file.display());
    }
}

/// The real containerd of a generation.
fn containerd(generation: &str) -> PathBuf {
    let named = |name| env::var_os(name).map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    let cache = || named("TANDEM_CACHE").unwrap_or_else(|| home().join(".cache/tandem"));
    let path = match generation {
        "1" => named("TANDEM_CONTAINERD_V1").unwrap_or_else(|| "/usr/bin/containerd".into()),
        _ => named("TANDEM_CONTAINERD_V2")
            .unwrap_or_else(|| cache().join("containerd-2/bin"))
            .join("containerd"),
    };
    assert!(path.is_file(), "{} is missing: `make test` provides it", path.display());
    path
}

/// Collects a tree, links as what they hold.
fn collect(path: &Path, tree: &mut BTreeMap<PathBuf, String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = if meta.is_dir() {
        "directory".into()
    } else if meta.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else {
        digest(&fs::read(path).unwrap())
    };
    let mode = meta.permissions().mode() & 0o7777;
    tree.insert(path.into(), format!("{mode:o} {}:{} {content}", meta.uid(), meta.gid()));
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), tree);
        }
    }
}

fn write(root: &Path, path: &str, content: &str) {
    if let Some((path, target)) = path.split_once(" -> ") {
        symlink(target, root.join(path)).unwrap();
        return;
    }
    let here = root.join(path);
    if path.ends_with('/') {
        fs::create_dir_all(here).unwrap();
        return;
    }
    fs::create_dir_all(here.parent().unwrap()).unwrap();
    // The end of a section is a line end, which belongs to the file.
    let content = if content.is_empty() || content.ends_with('\n') {
        content.to_owned()
    } else {
        format!("{content}\n")
    };
    fs::write(here, content.strip_suffix(NO_NEWLINE).unwrap_or(&content)).unwrap();
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The roots, in order of their names.
pub fn roots() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut roots: Vec<PathBuf> = entries.collect();
    roots.sort();
    roots
}
