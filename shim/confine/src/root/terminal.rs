//! A terminal of the container's own: its name is valid inside. The master goes to the runtime.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, fchown, setsid};
use oci_spec::runtime::Process;

use crate::error::{Error, Named, Result};
use crate::root::tree::Tree;
use crate::sys::{descriptors, mount};

/// DEVPTS_SUPER_MAGIC. Source: kernel `include/uapi/linux/magic.h`.
const DEVPTS: FsType = FsType(0x1cd1);

/// Both ends.
#[derive(Debug)]
pub struct Terminal {
    /// For the runtime.
    pub master: OwnedFd,
    /// For the process.
    pub peer: OwnedFd,
}

impl Terminal {
    /// Makes one in the devpts of the tree.
    pub fn make(tree: &Tree, process: &Process) -> Result<Self> {
        let name = || "make a terminal from /dev/pts/ptmx of the container".to_owned();
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
        let master = tree.open(Path::new("/dev/pts/ptmx"), flags).asked(name)?;
        if fstatfs(&master).host(name)?.filesystem_type() != DEVPTS {
            return Err(Error::invalid(name(), "/dev/pts is no devpts: mount one"));
        }
        let peer = descriptors::terminal_peer(master.as_fd()).host(name)?;
        if let Some(size) = process.console_size() {
            let number = |size: u64| u16::try_from(size).unwrap_or(u16::MAX);
            // A terminal without a size is one still.
            let _ = descriptors::resize(peer.as_fd(), number(size.height()), number(size.width()));
        }
        // Its user must be able to open it anew, by its own name.
        let _ = fchown(&peer, Some(Uid::from_raw(process.user().uid())), None);
        Ok(Self { master, peer })
    }

    /// Shows it as `/dev/console`.
    pub fn bind_console(&self, tree: &Tree) -> Result<()> {
        let name = || "bind the terminal on /dev/console".to_owned();
        let place = tree
            .make_file(Path::new("/dev/console"), Mode::from_bits_truncate(0o600))
            .asked(name)?;
        let copy = mount::copy_at(self.peer.as_fd(), false).host(name)?;
        mount::attach_at(copy.as_fd(), place.as_fd()).asked(name)
    }
}

/// Makes it the streams and the terminal of this process, which leads a session of its own.
pub fn take(peer: &OwnedFd) -> Result<()> {
    descriptors::control(peer.as_fd()).host(|| "take the terminal for the session".into())?;
    descriptors::set_streams(peer, peer, peer).host(|| "set the standard streams".into())
}

/// Begins a session. A process that leads one already does no more.
pub fn lead_session() {
    let _ = setsid();
}
