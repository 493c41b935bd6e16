//! Follows symbolic links as a process with another root directory would: an absolute link of the host must not lead
//! out of the host's root into the installer's own container.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Links followed before it counts as a loop; the kernel's own number (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// `path` below `root`. Components that do not exist are taken as they are.
pub(super) fn in_root(root: &Path, path: &Path, follow_last: bool) -> io::Result<PathBuf> {
    let mut pending: VecDeque<OsString> = names(path);
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            inside.pop();
            continue;
        }
        let next = root.join(&inside).join(&name);
        let is_link = next.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
        if !is_link || (pending.is_empty() && !follow_last) {
            inside.push(name);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            inside = PathBuf::new();
        }
        for name in names(&target).into_iter().rev() {
            pending.push_front(name);
        }
    }
    Ok(root.join(inside))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_absolute_link_stays_inside_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("snap/5")).unwrap();
        symlink("/snap/5", root.path().join("current")).unwrap();
        let found = in_root(root.path(), Path::new("/current/args"), true).unwrap();
        assert_eq!(found, root.path().join("snap/5/args"));
    }

    #[test]
    fn a_link_with_too_many_parents_ends_at_the_root() {
        let root = tempfile::tempdir().unwrap();
        symlink("../../../../etc", root.path().join("up")).unwrap();
        let found = in_root(root.path(), Path::new("/up/passwd"), true).unwrap();
        assert_eq!(found, root.path().join("etc/passwd"));
    }

    #[test]
    fn the_last_link_is_not_followed_where_it_is_the_object() {
        let root = tempfile::tempdir().unwrap();
        symlink("versions/1/shim", root.path().join("shim")).unwrap();
        let found = in_root(root.path(), Path::new("/shim"), false).unwrap();
        assert_eq!(found, root.path().join("shim"));
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(in_root(root.path(), Path::new("/a"), true).is_err());
    }
}
