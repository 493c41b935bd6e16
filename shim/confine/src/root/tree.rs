//! The container's file tree while it is made: hostile. Every path is resolved with its root as root, by descriptors, and
//! whatever is made is made in a directory that is open. So no link of the image leads out, also if somebody who shares a
//! volume changes the tree between two steps.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat, mknodat};

/// Links on the way to one path. Source: kernel `include/linux/namei.h`, MAXSYMLINKS.
const MAX_LINKS: u32 = 40;
/// How often a step is tried again that somebody else has been faster in.
const MAX_RACES: u32 = 16;

/// A tree, by its root directory.
#[derive(Debug)]
pub struct Tree(OwnedFd);

impl Tree {
    /// The tree below an open directory (O_PATH is enough).
    pub fn new(root: OwnedFd) -> Self {
        Self(root)
    }

    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// What `path` leads to, opened with `flags`, links followed as if the root was `/`.
    pub fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let mut races = 0;
        loop {
            match openat2(self.root(), path, how) {
                // Something was renamed or mounted at that moment. Source: openat2(2).
                Err(Errno::EAGAIN) if races < MAX_RACES => races += 1,
                other => return other,
            }
        }
    }

    /// What `path` leads to, for its place only.
    pub fn locate(&self, path: &Path) -> nix::Result<OwnedFd> {
        self.open(path, OFlag::O_PATH)
    }

    /// The directory at `path`; it and those above it are made where there are none.
    pub fn make_directories(&self, path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => self.walk(path, mode),
            other => other,
        }
    }

    /// The directory that `path` is in, made where there is none, and the name in it.
    pub fn make_parent<'a>(&self, path: &'a Path, mode: Mode) -> nix::Result<(OwnedFd, &'a OsStr)> {
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) => name,
            _ => return Err(Errno::EISDIR),
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.make_directories(parent, mode)?, name))
    }

    /// The file at `path`; an empty one is made where there is none, with the directories above.
    pub fn make_file(&self, path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.locate(&path) {
                Err(Errno::ENOENT) => {}
                other => return other,
            }
            let (parent, name) = self.make_parent(&path, Mode::from_bits_truncate(0o755))?;
            match mknodat(&parent, name, SFlag::S_IFREG, mode, 0) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
            match open_here(&parent, name, OFlag::O_PATH) {
                Ok(file) if !is_link(&file)? => return Ok(file),
                // A link to nothing: what it names is to be made, in this tree.
                Ok(link) => {
                    let target = readlinkat(&link, c"")?;
                    path = path.parent().unwrap_or(Path::new("/")).join(target);
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::ELOOP)
    }

    /// Component by component, as the kernel would, but making the directories that are missing.
    fn walk(&self, path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
        let mut rest: VecDeque<OsString> = VecDeque::new();
        push_front(&mut rest, path);
        // Where `..` leads is known from the way that was taken: the directory may have been moved since.
        let mut way: Vec<OwnedFd> = Vec::new();
        let (mut links, mut races) = (0, 0);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                way.pop();
                continue;
            }
            let here = way.last().map_or(self.root(), AsFd::as_fd);
            let next = match open_here(here, &name, OFlag::O_PATH) {
                Ok(next) => next,
                Err(Errno::ENOENT) => {
                    match mkdirat(here, name.as_os_str(), mode) {
                        Ok(()) | Err(Errno::EEXIST) if races < MAX_RACES => races += 1,
                        Ok(()) => return Err(Errno::ELOOP),
                        Err(errno) => return Err(errno),
                    }
                    rest.push_front(name);
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            let kind = kind_of(&fstat(&next)?);
            if kind == SFlag::S_IFLNK {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                let target = readlinkat(&next, c"")?;
                if target.as_bytes().starts_with(b"/") {
                    way.clear();
                }
                push_front(&mut rest, Path::new(&target));
            } else if kind == SFlag::S_IFDIR {
                races = 0;
                way.push(next);
            } else {
                return Err(Errno::ENOTDIR);
            }
        }
        match way.pop() {
            Some(directory) => Ok(directory),
            None => openat(self.root(), ".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()),
        }
    }
}

/// Opens `name` in the directory, itself if it is a link.
pub fn open_here(directory: impl AsFd, name: &OsStr, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(
        directory,
        name,
        flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// What is at `name` in the directory, itself if it is a link.
pub fn look_here(directory: impl AsFd, name: &OsStr) -> nix::Result<FileStat> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The kind of file.
pub fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Whether it is a directory.
pub fn is_directory(file: impl AsFd) -> nix::Result<bool> {
    Ok(kind_of(&fstat(file)?) == SFlag::S_IFDIR)
}

fn is_link(file: impl AsFd) -> nix::Result<bool> {
    Ok(kind_of(&fstat(file)?) == SFlag::S_IFLNK)
}

fn push_front(rest: &mut VecDeque<OsString>, path: &Path) {
    let components: Vec<_> = path.components().collect();
    for component in components.into_iter().rev() {
        match component {
            Component::Normal(name) => rest.push_front(name.to_owned()),
            Component::ParentDir => rest.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
