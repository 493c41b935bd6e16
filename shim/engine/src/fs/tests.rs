//! The view, on a tree of files made for it.

use super::*;
use rustix::fs::ResolveFlags;
use std::os::unix::fs::symlink;

/// A tree with links of every sort, and the view of it.
fn tree() -> (tempfile::TempDir, View) {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    std::fs::create_dir_all(at("a/b/c")).unwrap();
    std::fs::create_dir(at("d")).unwrap();
    std::fs::write(at("a/file"), "in a").unwrap();
    std::fs::write(at("file"), "in the root").unwrap();
    for (target, path) in [
        ("/a", "d/abs"),
        ("../a/b", "d/rel"),
        ("../../../../../d", "a/b/up"),
        ("/", "a/root"),
        ("loop", "loop"),
        ("/a/b/loop2", "d/loop2"),
        ("/d/loop2", "a/b/loop2"),
        ("nowhere", "a/dangling"),
        ("/file", "a/b/c/file"),
        ("b/", "a/slash"),
    ] {
        symlink(target, at(path)).unwrap();
    }
    let view = View::new(dir.path(), true).unwrap();
    (dir, view)
}

fn open_dir(view: &View, path: &str) -> Arc<Dir> {
    let how = OpenHow {
        directory: true,
        ..OpenHow::default()
    };
    let node = view.open(&view.root(), path.as_bytes(), true, how).unwrap();
    Arc::clone(node.dir().unwrap())
}

fn read(view: &View, dir: &Dir, path: &str) -> Result<String> {
    let Node::File(file) = view.open(dir, path.as_bytes(), true, OpenHow::default())? else {
        return Err(Errno::ISDIR);
    };
    let mut buffer = [0; 64];
    let got = file.read(&mut buffer, At::Position)?;
    Ok(String::from_utf8(buffer[..got].to_vec()).unwrap())
}

/// All paths of up to three names, with the names of the tree.
fn paths() -> Vec<String> {
    let names = [
        "a", "b", "c", "d", "..", ".", "file", "abs", "rel", "up", "root", "loop", "loop2", "dangling", "slash",
    ];
    let mut all = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..3 {
        last = last
            .iter()
            .flat_map(|path| {
                names.map(|name| {
                    if path.is_empty() {
                        name.to_owned()
                    } else {
                        format!("{path}/{name}")
                    }
                })
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// The kernel's own answer: the object, or its error.
fn as_the_kernel(root: &View, path: &str) -> Result<(u64, u64)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let object = loop {
        match rustix::fs::openat2(&root.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            // Something was renamed somewhere while the path went by `..`.
            Err(Errno::AGAIN) => {}
            result => break result?,
        }
    };
    rustix::fs::fstat(&object).map(|stat| (stat.st_dev, stat.st_ino))
}

#[test]
fn every_path_leads_where_the_kernel_says_from_any_directory() {
    let (_tree, view) = tree();
    let root = view.root();
    let starts = ["a", "d", "a/b/c"].map(|start| (start, open_dir(&view, start)));
    for path in paths() {
        let found = |result: Result<Stat>| result.map(|stat| (stat.st_dev, stat.st_ino));
        assert_eq!(
            found(view.stat(&root, path.as_bytes(), true)),
            as_the_kernel(&view, &path),
            "{path}"
        );
        for (start, dir) in &starts {
            let whole = format!("{start}/{path}");
            let expected = as_the_kernel(&view, &whole);
            assert_eq!(
                found(view.stat(dir, path.as_bytes(), true)),
                expected,
                "{path} from {start}"
            );
        }
    }
}

#[test]
fn steps_lead_where_the_kernel_s_own_call_does() {
    let (_tree, view) = tree();
    for path in paths() {
        let steps = view.walk_by_steps(&view.root, path.as_bytes());
        let steps = steps
            .and_then(|dir| rustix::fs::fstat(&dir))
            .map(|stat| (stat.st_dev, stat.st_ino));
        let kernel = as_the_kernel(&view, &format!("{path}/"));
        assert_eq!(steps, kernel, "{path}");
    }
}

#[test]
fn contents_are_those_of_the_file_that_the_links_lead_to() {
    let (_tree, view) = tree();
    let root = view.root();
    assert_eq!(read(&view, &root, "d/abs/file").unwrap(), "in a");
    assert_eq!(read(&view, &root, "d/rel/c/file").unwrap(), "in the root");
    let below = open_dir(&view, "a/b/c");
    assert_eq!(read(&view, &below, "file").unwrap(), "in the root");
    assert_eq!(read(&view, &below, "../../../../../a/file").unwrap(), "in a");
    assert_eq!(read(&view, &root, "/file").unwrap_err(), Errno::PERM);
    assert_eq!(read(&view, &root, "").unwrap_err(), Errno::NOENT);
    assert_eq!(read(&view, &root, "a\0b").unwrap_err(), Errno::INVAL);
    assert_eq!(read(&view, &root, "file/").unwrap_err(), Errno::NOTDIR);
    assert_eq!(read(&view, &root, &"x/".repeat(3000)).unwrap_err(), Errno::NAMETOOLONG);
}

#[test]
fn links_say_what_was_written_to_them_absolute_ones_too() {
    let (_tree, view) = tree();
    let root = view.root();
    view.make_link(b"/a/file", &root, b"new").unwrap();
    assert_eq!(view.read_link(&root, b"new").unwrap(), b"/a/file");
    assert_eq!(read(&view, &root, "new").unwrap(), "in a");
    assert_eq!(view.read_link(&root, b"file").unwrap_err(), Errno::INVAL);
}

#[test]
fn a_file_is_made_where_a_dangling_link_leads() {
    let (tree, view) = tree();
    let how = OpenHow {
        write: true,
        create: true,
        ..OpenHow::default()
    };
    view.open(&view.root(), b"a/dangling", true, how).unwrap();
    assert!(tree.path().join("a/nowhere").is_file());
    let exclusive = OpenHow { exclusive: true, ..how };
    assert_eq!(
        view.open(&view.root(), b"loop", true, exclusive).unwrap_err(),
        Errno::EXIST
    );
}

#[test]
fn changes_concern_a_link_itself() {
    let (tree, view) = tree();
    let root = view.root();
    view.rename((&root, b"d/abs"), (&root, b"d/moved")).unwrap();
    view.unlink(&root, b"d/rel").unwrap();
    assert_eq!(
        std::fs::read_link(tree.path().join("d/moved")).unwrap(),
        Path::new("/a")
    );
    assert!(tree.path().join("a/b/c").exists());
    assert_eq!(view.remove_dir(&root, b"d/moved/").unwrap_err(), Errno::NOTDIR);
    view.make_dir(&root, b"d/new/").unwrap();
    assert_eq!(view.remove_dir(&root, b"a").unwrap_err(), Errno::NOTEMPTY);
    assert_eq!(view.unlink(&root, b"d/new").unwrap_err(), Errno::ISDIR);
    assert_eq!(view.make_dir(&root, b"a/..").unwrap_err(), Errno::EXIST);
}

#[test]
fn a_listing_goes_on_where_it_was_left_and_at_any_entry() {
    let (tree, view) = tree();
    for number in 0..500 {
        std::fs::write(
            tree.path().join("d").join(format!("{number:03}-{}", "x".repeat(100))),
            "",
        )
        .unwrap();
    }
    let dir = open_dir(&view, "d");
    let mut whole = Vec::new();
    dir.list(0, 1 << 20, |entry| {
        whole.push(entry);
        true
    })
    .unwrap();
    // `.`, `..`, three links, and the files.
    assert_eq!(whole.len(), 505);
    let mut cookie = 0;
    for expected in &whole {
        let mut next = None;
        dir.list(cookie, 0, |entry| {
            next = Some(entry);
            false
        })
        .unwrap();
        let next = next.unwrap();
        assert_eq!(next.name, expected.name);
        cookie = next.next;
    }
    let lister = dir.lister().unwrap();
    let mut listed = 0;
    loop {
        match lister.next_few().unwrap().len() {
            0 => break,
            some => listed += some,
        }
    }
    assert_eq!(listed, 503);
}

#[test]
fn an_append_goes_to_the_end_wherever_was_written_before() {
    let (tree, view) = tree();
    let how = OpenHow {
        write: true,
        ..OpenHow::default()
    };
    let Node::File(file) = view.open(&view.root(), b"file", true, how).unwrap() else {
        panic!("it is a file");
    };
    assert_eq!(file.append(b"!").unwrap(), 1);
    assert_eq!(file.write(&[std::io::IoSlice::new(b"I")], At::Offset(0)).unwrap(), 1);
    assert_eq!(file.append(b"!").unwrap(), 1);
    assert_eq!(
        std::fs::read_to_string(tree.path().join("file")).unwrap(),
        "In the root!!"
    );
}

#[test]
fn a_server_does_not_wait_for_the_other_end_of_a_fifo() {
    let (tree, _) = tree();
    let view = View::new(tree.path(), false).unwrap();
    let fifo = tree.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let write = OpenHow {
        write: true,
        ..OpenHow::default()
    };
    assert_eq!(view.open(&view.root(), b"fifo", true, write).unwrap_err(), Errno::NXIO);
    assert_eq!(read(&view, &view.root(), "fifo").unwrap(), "");
    let _writer = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    assert_eq!(read(&view, &view.root(), "fifo").unwrap_err(), Errno::AGAIN);
}

#[test]
fn a_directory_is_no_file_and_a_file_no_directory() {
    let (_tree, view) = tree();
    let root = view.root();
    let write = OpenHow {
        write: true,
        ..OpenHow::default()
    };
    assert_eq!(view.open(&root, b"a", true, write).unwrap_err(), Errno::ISDIR);
    assert_eq!(view.open(&root, b"loop", true, write).unwrap_err(), Errno::LOOP);
    assert_eq!(view.open(&root, b"d/abs", false, write).unwrap_err(), Errno::LOOP);
    let directory = OpenHow {
        directory: true,
        ..OpenHow::default()
    };
    assert_eq!(view.open(&root, b"file", true, directory).unwrap_err(), Errno::NOTDIR);
}
