//! From a path to a place: the directory that holds the object, and the object's name in it.
//!
//! The kernel resolves what it can in one call (`openat2`): a path from the root with the root as its wall, a path from
//! a directory below as long as it stays there. Where such a path leaves its directory, by an absolute link or `..`, or
//! where a seccomp profile keeps `openat2` from the process, the path is walked step by step, with the same outcome.
//!
//! The last step is always taken here: its link leads on from the root or from the link's own directory, and it may be
//! one of the names of the standard streams.

use super::file::Stream;
use super::{Dir, Result, View, admit};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Links that one path may go through, the kernel's limit.
const MAX_LINKS: usize = 40;

/// Bytes of a path, the kernel's limit without its final NUL.
const MAX_PATH: usize = 4095;

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// What becomes of a link that the path ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastLink {
    /// It is followed.
    Follow,
    /// It is meant itself, unless a slash follows it.
    Keep,
    /// It is meant itself: the object is to be made, moved or removed.
    Change,
}

impl LastLink {
    pub(crate) fn followed_if(follow: bool) -> Self {
        if follow { LastLink::Follow } else { LastLink::Keep }
    }
}

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Located {
    Place(Place),
    Stream(Stream),
}

/// A name in a directory; whether there is an object of that name is not said.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: Arc<OwnedFd>,
    name: Vec<u8>,
    /// Whether only a directory will do, since the path ends with a slash.
    pub(super) must_be_dir: bool,
}

impl Place {
    pub(super) fn name(&self) -> Result<CString> {
        CString::new(self.name.as_slice()).map_err(|_| Errno::INVAL)
    }

    /// The name with the slash that the path ended with, for calls that make or remove it: the kernel knows best which
    /// of them may have one.
    pub(super) fn name_as_written(&self) -> Result<CString> {
        let mut name = self.name.clone();
        if self.must_be_dir {
            name.push(b'/');
        }
        CString::new(name).map_err(|_| Errno::INVAL)
    }

    /// The object itself as a mere place, links not followed; refused where a guest may not have it.
    pub(super) fn look(&self) -> Result<(OwnedFd, rustix::fs::Stat)> {
        let object = rustix::fs::openat(&self.parent, self.name()?, PLACE | OFlags::NOFOLLOW, Mode::empty())?;
        let stat = admit::object(&object)?;
        if self.must_be_dir && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        Ok((object, stat))
    }
}

impl Located {
    pub(super) fn place(self) -> Result<Place> {
        match self {
            Located::Place(place) => Ok(place),
            Located::Stream(_) => Err(Errno::ACCESS),
        }
    }
}

/// Where a path, or what is left of it, starts.
#[derive(Clone)]
enum From {
    Root,
    Dir(Arc<OwnedFd>),
}

impl View {
    /// Where `path` leads, which starts in `dir`. WASI has no absolute paths; of those in links it does not speak.
    pub(super) fn locate(&self, dir: &Dir, path: &[u8], last: LastLink) -> Result<Located> {
        match path {
            [] => return Err(Errno::NOENT),
            [b'/', ..] => return Err(Errno::PERM),
            path if path.contains(&0) => return Err(Errno::INVAL),
            _ => {}
        }
        let mut from = if dir.is_root {
            From::Root
        } else {
            From::Dir(Arc::clone(&dir.fd))
        };
        let mut path = path.to_vec();
        for _ in 0..=MAX_LINKS {
            if path.len() > MAX_PATH {
                return Err(Errno::NAMETOOLONG);
            }
            if last == LastLink::Follow
                && matches!(from, From::Root)
                && let Some(stream) = stream_of_name(&path)
            {
                return Ok(Located::Stream(stream));
            }
            let (before, name, slash) = split_last(&path);
            if matches!(name, b"" | b"." | b"..") {
                return Ok(Located::Place(Place {
                    parent: self.walk(&from, &path)?,
                    name: b".".to_vec(),
                    must_be_dir: slash,
                }));
            }
            let place = Place {
                parent: self.walk(&from, before)?,
                name: name.to_vec(),
                must_be_dir: slash,
            };
            if last == LastLink::Change || (last == LastLink::Keep && !slash) {
                return Ok(Located::Place(place));
            }
            let target = match rustix::fs::readlinkat(&place.parent, place.name()?, Vec::new()) {
                Ok(target) => target.into_bytes(),
                // Not a link, or nothing: the caller finds out which.
                Err(Errno::INVAL | Errno::NOENT) => return Ok(Located::Place(place)),
                Err(error) => return Err(error),
            };
            // What such a link says is the kernel's business too.
            admit::file_system(&place.parent)?;
            from = start_of(&target).unwrap_or(From::Dir(place.parent));
            path = target;
            if slash {
                path.push(b'/');
            }
        }
        Err(Errno::LOOP)
    }

    /// The directory that `path` names, all links followed. It is a mere place: nothing was opened yet.
    fn walk(&self, from: &From, path: &[u8]) -> Result<Arc<OwnedFd>> {
        let start = match from {
            From::Root => &self.root,
            From::Dir(fd) => fd,
        };
        let path = trim_root(path);
        if path.is_empty() || path == b"." {
            return Ok(Arc::clone(start));
        }
        let wall = match from {
            From::Root => ResolveFlags::IN_ROOT,
            From::Dir(_) => ResolveFlags::BENEATH,
        };
        let how = wall | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(start, path, PLACE | OFlags::DIRECTORY, Mode::empty(), how) {
            Ok(fd) => Ok(Arc::new(fd)),
            // It leaves the directory, the tree changed meanwhile, the call is not to be had, or the kernel's own links
            // are on the way, which the steps tell from a loop.
            Err(Errno::XDEV | Errno::AGAIN | Errno::NOSYS | Errno::PERM | Errno::LOOP) => {
                self.walk_by_steps(start, path)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn walk_by_steps(&self, start: &Arc<OwnedFd>, path: &[u8]) -> Result<Arc<OwnedFd>> {
        let mut at = Arc::clone(start);
        let mut links = 0;
        // The steps to take, the next one last.
        let mut steps = Vec::new();
        push_steps(&mut steps, path);
        while let Some(step) = steps.pop() {
            if step == b".." {
                if !self.is_root(&at)? {
                    at = Arc::new(rustix::fs::openat(&at, "..", PLACE | OFlags::DIRECTORY, Mode::empty())?);
                }
                continue;
            }
            let next = rustix::fs::openat(&at, step.as_slice(), PLACE | OFlags::NOFOLLOW, Mode::empty())?;
            match FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) {
                FileType::Directory => at = Arc::new(next),
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    admit::file_system(&next)?;
                    let target = rustix::fs::readlinkat(&next, c"", Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        at = Arc::clone(&self.root);
                    }
                    push_steps(&mut steps, &target);
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }

    /// The kernel has no directory above a process's root. A root of a test is not the process's, so it is compared.
    fn is_root(&self, dir: &OwnedFd) -> Result<bool> {
        let (dir, root) = (rustix::fs::fstat(dir)?, rustix::fs::fstat(&self.root)?);
        Ok((dir.st_dev, dir.st_ino) == (root.st_dev, root.st_ino))
    }
}

fn start_of(target: &[u8]) -> Option<From> {
    target.starts_with(b"/").then_some(From::Root)
}

/// Relative to the root, an absolute path is one without its first slash.
fn trim_root(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|byte| **byte == b'/').count();
    path.get(slashes..).unwrap_or_default()
}

/// What is before the last name, the last name, and whether a slash follows it.
fn split_last(path: &[u8]) -> (&[u8], &[u8], bool) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let (path, slashes) = path.split_at(end);
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (before, name) = path.split_at(start);
    (before, name, !slashes.is_empty())
}

fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

fn push_steps(steps: &mut Vec<Vec<u8>>, path: &[u8]) {
    steps.extend(names(path).rev().map(<[u8]>::to_vec));
}

/// The standard stream that a path from the root names, whether or not anything is mounted there.
fn stream_of_name(path: &[u8]) -> Option<Stream> {
    let mut names = names(path);
    let path: [Option<&[u8]>; 5] = std::array::from_fn(|_| names.next());
    match path {
        [Some(b"dev"), Some(name), None, ..] => match name {
            b"stdin" => Some(Stream::Stdin),
            b"stdout" => Some(Stream::Stdout),
            b"stderr" => Some(Stream::Stderr),
            _ => None,
        },
        [Some(b"dev"), Some(b"fd"), Some(number), None, _]
        | [Some(b"proc"), Some(b"self"), Some(b"fd"), Some(number), None] => match number {
            b"0" => Some(Stream::Stdin),
            b"1" => Some(Stream::Stdout),
            b"2" => Some(Stream::Stderr),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_its_last_name() {
        for (path, expected) in [
            ("a", ("", "a", false)),
            ("a/b", ("a/", "b", false)),
            ("a//b//", ("a//", "b", true)),
            ("/a", ("/", "a", false)),
            ("/", ("", "", true)),
            ("..", ("", "..", false)),
        ] {
            let (before, name, slash) = split_last(path.as_bytes());
            assert_eq!(
                (before, name, slash),
                (expected.0.as_bytes(), expected.1.as_bytes(), expected.2),
                "{path}"
            );
        }
    }

    #[test]
    fn the_standard_streams_have_names() {
        for (path, stream) in [
            ("dev/stdin", Some(Stream::Stdin)),
            ("/dev//./stdout", Some(Stream::Stdout)),
            ("dev/fd/2", Some(Stream::Stderr)),
            ("/proc/self/fd/1", Some(Stream::Stdout)),
            ("dev/fd/3", None),
            ("dev", None),
            ("dev/stdout/x", None),
            ("proc/self/fd/1/x", None),
            ("proc/self/fd", None),
        ] {
            assert_eq!(stream_of_name(path.as_bytes()), stream, "{path}");
        }
    }
}
