//! Handing a Wasm guest over to an execve, for security modules: AppArmor and SELinux confine a process from its
//! next execve on, and a guest is otherwise only forked. What is executed is this very binary, in its hidden role
//! (`crate::guest`), with the guest's compiled code and a description of what to run as inherited descriptors.
//!
//! The container sees the binary as `/proc/<pid>/exe` and must not get at the file on the host through it
//! (CVE-2019-5736). So it is executed from a mount that nobody but this descriptor refers to and that is read-only:
//! the kernel opens a file behind `/proc/<pid>/exe` on that same mount, so opening it for writing fails with EROFS,
//! whatever capabilities the opener has, and a mount that is in no namespace can be neither remounted nor bound.
//! Unlike a copy in a sealed memfd it costs no memory: the file's pages are the page cache's, as the shim's are.
//!
//! With SELinux a copy is needed after all: the policy lets a container's domain start from container files only,
//! and use no descriptor of another type. Binary and code are then copied to a file system that nobody refers to
//! either, labelled with the container's own mount label.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::execveat;
use oci_spec::runtime::Spec;

use super::wasm::Ready;
use crate::fault::{Fault, Result};
use crate::guest::{self, Job};
use crate::mountfd::{self, Change};

/// The shim's binary, also when its file has been replaced since.
const BINARY: &str = "/proc/self/exe";
/// Descriptors are moved away from the numbers that the new process finds them at.
const ABOVE: RawFd = 64;
/// Bytes of the file system for an SELinux copy besides the two files.
const SLACK: u64 = 1 << 20;

/// Everything that the execve needs, opened while the host's files can still be reached.
#[derive(Debug)]
pub struct Handover {
    binary: OwnedFd,
    code: OwnedFd,
    job: File,
    memory: OwnedFd,
}

impl Handover {
    /// Prepares the hand-over of a guest with its memory limit.
    pub fn prepare(ready: &Ready, memory: BorrowedFd<'_>, spec: &Spec) -> Result<Self> {
        let code = ready.code.as_fd();
        let fault = |error: io::Error| Fault::internal(format!("cannot prepare the execution of the guest: {error}"));
        let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().clone());
        let selinux = spec
            .process()
            .as_ref()
            .is_some_and(|process| process.selinux_label().is_some());
        match label.filter(|_| selinux) {
            Some(label) => Self::labelled(code, memory, &label).map_err(fault),
            None => Self::shared(Path::new(BINARY), code, memory).map_err(fault),
        }
    }

    /// With the files themselves.
    fn shared(binary: &Path, code: BorrowedFd<'_>, memory: BorrowedFd<'_>) -> io::Result<Self> {
        let binary = mountfd::copy(binary, false)?;
        mountfd::change(binary.as_fd(), &read_only())?;
        Ok(Self {
            binary,
            code: code.try_clone_to_owned()?,
            job: memfd_create(c"tandem-job", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?.into(),
            memory: memory.try_clone_to_owned()?,
        })
    }

    /// With copies that the policy takes for the container's own.
    fn labelled(code: BorrowedFd<'_>, memory: BorrowedFd<'_>, label: &str) -> io::Result<Self> {
        let label = CString::new(label)?;
        let code = File::from(code.try_clone_to_owned()?);
        let mut executable = File::open(BINARY)?;
        let bytes = executable.metadata()?.len() + code.metadata()?.len() + SLACK;
        let size = CString::new(bytes.to_string())?;
        let options = [(c"size", size.as_c_str()), (c"mode", c"0755"), (c"context", &label)];
        let mount = mountfd::create(c"tmpfs", &options)?;
        let root = format!("/proc/self/fd/{}", mount.as_raw_fd());
        let root = Path::new(&root);
        let create = |name: &str| {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o555)
                .open(root.join(name))
        };
        io::copy(&mut executable, &mut create("guest")?)?;
        io::copy(
            &mut File::open(format!("/proc/self/fd/{}", code.as_raw_fd()))?,
            &mut create("code")?,
        )?;
        let job = create("job")?;
        // The job is still open for writing, which a read-only mount would not allow: this one is of its own.
        let sealed = mountfd::copy(root, false)?;
        mountfd::change(sealed.as_fd(), &read_only())?;
        let sealed = format!("/proc/self/fd/{}", sealed.as_raw_fd());
        Ok(Self {
            binary: File::open(Path::new(&sealed).join("guest"))?.into(),
            code: File::open(Path::new(&sealed).join("code"))?.into(),
            job,
            memory: memory.try_clone_to_owned()?,
        })
    }

    /// Executes the guest; returns only when that is not possible. Called in the confined process.
    pub fn exec(&self, job: &Job, spec: &Spec) -> io::Result<()> {
        let bytes = serde_json::to_vec(job).map_err(io::Error::other)?;
        (&self.job).write_all(&bytes)?;
        // A labelled file has no seals; nobody but the new process has it.
        let _ = fcntl(
            &self.job,
            FcntlArg::F_ADD_SEALS(
                SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL,
            ),
        );
        let binary = above(&self.binary)?;
        let inherited = [
            (above(&self.code)?, guest::CODE_FD),
            (above(&self.job)?, guest::JOB_FD),
            (above(&self.memory)?, guest::MEMORY_FD),
        ];
        for (fd, number) in inherited {
            // SAFETY: dup2(2) takes plain numbers. What was at that number is of no use any more: this process
            // becomes another program or ends.
            Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
            // SAFETY: the descriptor has just been made and is not closed while it is borrowed.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        // Last, so that nothing but the guest gets the label.
        super::labels::set_for_next_exec(spec)?;
        let argv = [CString::new(guest::NAME)?, CString::new(job.name.as_str())?];
        let result = execveat(&binary, c"", &argv, &[] as &[CString], AtFlags::AT_EMPTY_PATH);
        let errno = match result {
            Ok(never) => match never {},
            // A seccomp profile may know execve only.
            Err(Errno::EPERM | Errno::ENOSYS) => {
                let path = CString::new(format!("/proc/self/fd/{}", binary.as_raw_fd()))?;
                match nix::unistd::execve(&path, &argv, &[] as &[CString]) {
                    Ok(never) => match never {},
                    Err(errno) => errno,
                }
            }
            Err(errno) => errno,
        };
        Err(errno.into())
    }
}

fn read_only() -> Change<'static> {
    Change {
        set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        ..Change::default()
    }
}

fn above(fd: impl AsFd) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(ABOVE))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_cannot_be_opened_for_writing_by_whoever_has_it_running() {
        // One that does not run: the kernel refuses to open one that does before it looks at the mount.
        let binary = tempfile::NamedTempFile::new().unwrap();
        let code = File::open(BINARY).unwrap();
        let handover = Handover::shared(binary.path(), code.as_fd(), code.as_fd()).unwrap();
        let through = format!("/proc/self/fd/{}", handover.binary.as_raw_fd());
        let refused = OpenOptions::new().write(true).open(through).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    }

    #[test]
    fn a_node_without_selinux_cannot_make_labelled_copies() {
        if super::super::labels::Modules::of_node().selinux {
            return;
        }
        let code = File::open(BINARY).unwrap();
        assert!(Handover::labelled(code.as_fd(), code.as_fd(), "system_u:object_r:container_file_t:s0").is_err());
    }

    /// Runs twice: as a test, which executes this very program as the guest's, and there, as the guest.
    #[test]
    fn the_executed_program_inherits_code_and_job_and_nothing_else() {
        let job = Job {
            name: "the_executed_program_inherits_code_and_job".into(),
            export: Some("f".into()),
            component: true,
            digest: "sha256:0".into(),
            http_port: 8080,
            http_limits: tandem_engine::http::HttpLimits::default(),
            args: vec!["a".into()],
            env: vec![("K".into(), "v".into())],
            cwd: "/".into(),
        };
        if std::env::args().next().as_deref() == Some(guest::NAME) {
            let (code, inherited, _) = guest::inherited().unwrap();
            assert_eq!(inherited, job);
            assert_eq!(std::io::read_to_string(code).unwrap(), "native code");
            return;
        }
        let mut code = tempfile::tempfile().unwrap();
        code.write_all(b"native code").unwrap();
        io::Seek::rewind(&mut code).unwrap();
        let handover = Handover::shared(Path::new(BINARY), code.as_fd(), code.as_fd()).unwrap();
        let mut output = tempfile::tempfile().unwrap();
        // SAFETY: the child executes another program at once, or ends.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                nix::unistd::dup2_stdout(&output).unwrap();
                let _ = handover.exec(&job, &Spec::default());
                // SAFETY: ends the process without running anything of the parent's.
                unsafe { libc::_exit(99) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).unwrap();
                io::Seek::rewind(&mut output).unwrap();
                let said = std::io::read_to_string(output).unwrap();
                assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0), "{said}");
                assert!(said.contains("1 passed"), "{said}");
            }
        }
    }
}
