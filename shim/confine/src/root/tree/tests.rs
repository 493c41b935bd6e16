use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

/// A directory with an image's tree in `root`, and something beside it that must stay as it is.
struct Image(tempfile::TempDir);

impl Image {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/d")).unwrap();
        std::fs::create_dir_all(dir.path().join("host/d")).unwrap();
        std::fs::write(dir.path().join("host/f"), "host").unwrap();
        Self(dir)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn tree(&self) -> Tree {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Tree::new(nix::fcntl::open(&self.root(), flags, Mode::empty()).unwrap())
    }

    /// Names and contents of all that is outside of the image.
    fn outside(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut rest = vec![self.0.path().to_owned()];
        while let Some(dir) = rest.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path == self.root() {
                    continue;
                }
                if path.is_dir() && !path.is_symlink() {
                    rest.push(path.clone());
                }
                found.insert(path.clone(), std::fs::read(&path).unwrap_or_default());
            }
        }
        found
    }

    /// Whether what was opened lies in the image.
    fn holds(&self, fd: &OwnedFd) -> bool {
        use std::os::fd::AsRawFd;
        let at = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        at.starts_with(self.root())
    }
}

const DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
const FILE: Mode = Mode::from_bits_truncate(0o644);

#[test]
fn missing_directories_are_made_behind_a_link_to_nothing_inside_the_tree() {
    let image = Image::new();
    symlink("/run", image.root().join("var")).unwrap();
    let made = image
        .tree()
        .make_directories(Path::new("/var/secrets/a"), DIRECTORY)
        .unwrap();
    assert!(is_directory(&made).unwrap());
    assert!(image.root().join("run/secrets/a").is_dir());
}

#[test]
fn a_file_is_made_where_a_link_to_nothing_points() {
    let image = Image::new();
    symlink("../../new/file", image.root().join("d/link")).unwrap();
    image.tree().make_file(Path::new("d/link"), FILE).unwrap();
    assert!(image.root().join("new/file").is_file());
}

#[test]
fn what_is_there_is_taken_as_it_is() {
    let image = Image::new();
    std::fs::write(image.root().join("d/f"), "x").unwrap();
    let file = image.tree().make_file(Path::new("/d/f"), FILE).unwrap();
    let inode = std::fs::metadata(image.root().join("d/f")).unwrap().ino();
    assert_eq!(fstat(file).unwrap().st_ino, inode);
    let refused = image
        .tree()
        .make_directories(Path::new("/d/f/x"), DIRECTORY)
        .unwrap_err();
    assert_eq!(refused, Errno::ENOTDIR);
}

#[test]
fn links_that_lead_in_a_circle_are_refused() {
    let image = Image::new();
    symlink("b", image.root().join("a")).unwrap();
    symlink("/a", image.root().join("b")).unwrap();
    let refused = image.tree().make_directories(Path::new("a/x"), DIRECTORY).unwrap_err();
    assert_eq!(refused, Errno::ELOOP);
    assert_eq!(image.tree().make_file(Path::new("a"), FILE).unwrap_err(), Errno::ELOOP);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_outside_of_a_hostile_tree_is_reached_or_changed(
        links in proptest::collection::vec(("(d/)?[a-c]", "(/|\\.\\./|host/|d/|[a-d]|\\./){1,6}"), 0..6),
        path in "/?((\\.\\.|d|host|[a-f])/){0,4}[a-f]",
    ) {
        let image = Image::new();
        for (name, target) in &links {
            // To the host by its whole name as well.
            let absolute = format!("{}/{target}", image.0.path().display());
            let _ = symlink(target, image.root().join(name));
            let _ = symlink(&absolute, image.root().join(format!("{name}x")));
        }
        let before = image.outside();
        let tree = image.tree();
        let path = Path::new(&path);
        for made in [
            tree.make_directories(path, DIRECTORY),
            tree.make_file(path, FILE),
            tree.locate(path),
        ].into_iter().flatten() {
            assert!(image.holds(&made), "{links:?} {path:?}");
        }
        if let Ok((parent, name)) = tree.make_parent(path, DIRECTORY) {
            assert!(image.holds(&parent), "{links:?} {path:?}");
            assert!(!name.as_bytes().contains(&b'/'));
        }
        assert_eq!(image.outside(), before, "{links:?} {path:?}");
    }
}

#[test]
fn a_directory_that_becomes_a_link_between_two_steps_leads_nowhere() {
    let image = Image::new();
    let root = image.root();
    let host = image.0.path().join("host");
    let before = image.outside();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (a, link) = (root.join("a"), root.join("link"));
                let _ = std::fs::create_dir(&a);
                let _ = symlink(&host, &link);
                let _ = nix::fcntl::renameat2(
                    nix::fcntl::AT_FDCWD,
                    &a,
                    nix::fcntl::AT_FDCWD,
                    &link,
                    nix::fcntl::RenameFlags::RENAME_EXCHANGE,
                );
                let _ = std::fs::remove_dir_all(&link);
                let _ = std::fs::remove_file(&a);
            }
        });
        let tree = image.tree();
        for round in 0..2000 {
            let path = format!("/a/n{round}/x");
            let _ = tree.make_directories(Path::new(&path), DIRECTORY);
            let _ = tree.make_file(Path::new(&format!("/a/f{round}")), FILE);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(image.outside(), before);
}
