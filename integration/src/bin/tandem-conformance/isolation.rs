//! What the suite does to a machine, it does to namespaces of its own: its bridge, its packet filter rules, its ports,
//! the System V segments that it leaves behind and the files below `/run` and `/var/lib` end with the process.

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tandem_integration::{Error, Result, netns};

/// Directories that runc, its shim and the network plugins write to, whatever containerd's configuration says.
pub const SHADOWED: [&str; 2] = ["/run", "/var/lib"];

/// Moves the calling process into network, mount and IPC namespaces of its own. It must have one thread only: the
/// others would stay outside.
///
/// # Errors
/// Where the kernel refuses; this needs root.
pub fn enter() -> Result<()> {
    let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
    unshare(flags).map_err(|cause| Error::Setup(format!("no namespaces of its own: {cause}; run it as root")))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount_at("/", None, private)?;
    for dir in SHADOWED {
        mount_at(dir, Some("tmpfs"), MsFlags::empty())?;
    }
    netns::loopback_up()
}

fn mount_at(dir: &str, kind: Option<&str>, flags: MsFlags) -> Result<()> {
    let source = Some("none");
    mount(source, dir, kind, flags, None::<&str>).map_err(|cause| Error::Setup(format!("mount of {dir}: {cause}")))
}
