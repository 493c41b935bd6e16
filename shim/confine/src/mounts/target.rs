//! Where a mount goes: found in the container's tree with its root as root, and made where there is nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::{Error, Named, Result, shown};
use crate::root::tree::{self, Tree};

const DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
const FILE: Mode = Mode::from_bits_truncate(0o644);

/// The place of `destination`. `plain` wants an ordinary directory, which no link stands for.
pub fn find(tree: &Tree, destination: &Path, is_file: bool, plain: bool) -> Result<OwnedFd> {
    let name = || format!("mount {}: make its target in the image", shown(destination));
    if plain {
        return find_plain(tree, destination);
    }
    let made = match is_file {
        true => tree.make_file(destination, FILE),
        false => tree.make_directories(destination, DIRECTORY),
    };
    let place = made.asked(name)?;
    if tree::is_directory(&place).host(name)? == is_file {
        let why = match is_file {
            true => "its source is a file, and the target is a directory",
            false => "its source is a directory, and the target is none",
        };
        return Err(Error::invalid(format!("mount {}", shown(destination)), why));
    }
    if is_root(tree, &place) {
        return Err(Error::invalid(
            format!("mount {}", shown(destination)),
            "nothing may be mounted on the root of the container",
        ));
    }
    Ok(place)
}

/// For what tells a process about itself: whoever can choose where it really is could tell it anything.
fn find_plain(tree: &Tree, destination: &Path) -> Result<OwnedFd> {
    let name = || format!("mount {}: make its target in the image", shown(destination));
    let (parent, last) = tree.make_parent(destination, DIRECTORY).asked(name)?;
    match nix::sys::stat::mkdirat(&parent, last, DIRECTORY) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno).asked(name),
    }
    let place = tree::open_here(&parent, last, OFlag::O_PATH).asked(name)?;
    let kind = tree::kind_of(&fstat(&place).host(name)?);
    if kind != SFlag::S_IFDIR {
        return Err(Error::invalid(
            format!("mount {}", shown(destination)),
            "it must be mounted on an ordinary directory, and the image has something else there",
        ));
    }
    Ok(place)
}

fn is_root(tree: &Tree, place: &OwnedFd) -> bool {
    match (fstat(tree.root()), fstat(place.as_fd())) {
        (Ok(root), Ok(place)) => (root.st_dev, root.st_ino) == (place.st_dev, place.st_ino),
        _ => false,
    }
}
