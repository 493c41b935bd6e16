//! Who tries to get at the binary.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use tandem_integration::image::Image;
use tandem_integration::{Container, Containerd, Result, Task};

/// A container of runc's that sees all processes of the node, and lives on when all of Tandem's have ended.
pub struct Attacker {
    container: Container,
    task: Task,
    holds: usize,
}

/// Opens what processes run, at descriptors from 5 on, and then does what it is told.
const PROGRAM: &str = r#"
fd=5
for pid in "$@"; do
    if eval "true $fd</proc/$pid/exe"; then eval "exec $fd</proc/$pid/exe"; echo "holds $fd"; fi
    fd=$((fd + 1))
done
echo ready
while read order pid; do
    case $order in
    write)
        for fd in 5 6 7; do
            if [ -e /proc/self/fd/$fd ] && echo overwritten 1<>/proc/$$/fd/$fd; then echo "wrote $fd"; fi
        done ;;
    mount)
        touch /mnt/target
        mount -o bind /proc/$pid/exe /mnt/target && echo mounted a copy
        mount -o remount,bind,rw /proc/$pid/exe && echo mounted for writing
        mount -o move /proc/$pid/exe /mnt/target && echo mounted it elsewhere ;;
    esac
    echo "done $order"
done
"#;

impl Attacker {
    /// Opens the programs of `pids`.
    pub async fn hold(ctd: &Containerd, image: &Image, capabilities: &[&str], pids: &[u32]) -> Result<Self> {
        let mut args = vec!["sh".to_owned(), "-c".into(), PROGRAM.into(), "sh".into()];
        args.extend(pids.iter().map(u32::to_string));
        let container = ctd
            .container(image)
            .args(args)
            .capabilities(capabilities)
            .without_namespace("pid")
            .stdin("")
            .create()
            .await?;
        let mut task = container.task().await?;
        task.start().await?;
        task.stdout().wait_for("ready\n").await?;
        let holds = task.stdout().text().matches("holds").count();
        Ok(Self { container, task, holds })
    }

    /// How many programs it could open.
    pub fn holds(&self) -> usize {
        self.holds
    }

    /// What it said so far.
    pub fn output(&self) -> String {
        let errors = self.task.stderr().map(tandem_integration::stdio::OutputPipe::text);
        format!("{}{}", self.task.stdout().text(), errors.unwrap_or_default())
    }

    /// Opens for writing what it holds.
    pub async fn write(&mut self) -> Result<()> {
        self.order("write 0").await
    }

    /// Tries to mount the program of `pid` and to change its mount.
    pub async fn mount(&mut self, pid: u32) -> Result<()> {
        self.order(&format!("mount {pid}")).await
    }

    async fn order(&mut self, order: &str) -> Result<()> {
        let name = order.split(' ').next().unwrap_or_default();
        if let Some(stdin) = self.task.stdin() {
            stdin.write(format!("{order}\n").as_bytes()).await?;
        }
        self.task.stdout().wait_for(&format!("done {name}\n")).await
    }

    /// To be removed.
    pub fn into_container(self) -> Container {
        self.container
    }
}

/// What an administrator of the node could try on the mount that a process runs from.
pub fn mount_attempts(exe: &Path) -> [(&'static str, io::Result<()>); 5] {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    std::fs::write(&target, "").unwrap();
    let none: Option<&str> = None;
    let result = |result: nix::Result<()>| result.map_err(io::Error::from);
    let bind = mount(Some(exe), &target, none, MsFlags::MS_BIND, none);
    if bind.is_ok() {
        let _ = nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH);
    }
    let remount = mount(none, exe, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none);
    let moved = mount(Some(exe), &target, none, MsFlags::MS_MOVE, none);
    [
        ("a bind mount of it", result(bind)),
        ("a remount for writing", result(remount)),
        ("moving its mount", result(moved)),
        ("setting its mount's attributes", make_writable(exe)),
        ("a detached copy of its mount", detached_copy(exe)),
    ]
}

fn make_writable(path: &Path) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: libc::MOUNT_ATTR_RDONLY,
        propagation: 0,
        userns_fd: 0,
    };
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a C string and a structure of the size given, which outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            0,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

fn detached_copy(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: a C string that outlives the call.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel has just made this descriptor.
    drop(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) });
    Ok(())
}
