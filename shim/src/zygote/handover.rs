//! Handing a Wasm guest over to an execve, for security modules: AppArmor and SELinux confine a process from its
//! next execve on, and a guest is otherwise only forked. What is executed is this very binary, in its hidden role
//! (`crate::guest`), with the guest's compiled code and a description of what to run as inherited descriptors.
//!
//! The container sees the binary as `/proc/<pid>/exe` and cannot get at the file on the host through it: it is executed
//! from the mount that the shim itself runs from (see [`crate::binary`]).
//!
//! With SELinux a copy is needed after all: the policy lets a container's domain start from container files only,
//! and use no descriptor of another type. Binary and code are then copied to a file system that nobody refers to
//! either, labelled with the container's own mount label.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::Spec;

use super::wasm::Ready;
use crate::binary;
use crate::fault::{Fault, Result};
use crate::guest::{self, Job};
use crate::mountfd;

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
            Some(label) => CString::new(label)
                .map_err(Into::into)
                .and_then(|label| Self::copied(code, memory, &[(c"context", &label)]))
                .map_err(fault),
            None => Self::shared(code, memory).map_err(fault),
        }
    }

    /// With the files themselves.
    fn shared(code: BorrowedFd<'_>, memory: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            binary: binary::protected()?,
            code: code.try_clone_to_owned()?,
            job: memfd_create(c"tandem-job", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?.into(),
            memory: memory.try_clone_to_owned()?,
        })
    }

    /// With copies in file systems in memory, whose `options` say what the policy takes them for.
    fn copied(code: BorrowedFd<'_>, memory: BorrowedFd<'_>, options: &[(&CStr, &CStr)]) -> io::Result<Self> {
        let mut binary = File::open(binary::RUNNING)?;
        // Opened anew, so that it is read from its beginning.
        let mut code = File::open(link(&code))?;
        let bytes = binary.metadata()?.len() + code.metadata()?.len() + SLACK;
        let files = in_memory(bytes, options)?;
        io::copy(&mut binary, &mut create(&files, "guest")?)?;
        io::copy(&mut code, &mut create(&files, "code")?)?;
        mountfd::change(files.as_fd(), &binary::read_only())?;
        // Of its own, because the other one cannot become read-only while the job is open for writing, and because only
        // Linux 6.15 and later copy a mount that is attached nowhere.
        let jobs = in_memory(guest::MAX_JOB + SLACK, options)?;
        let read = |name| File::open(PathBuf::from(link(&files)).join(name));
        Ok(Self {
            binary: read("guest")?.into(),
            code: read("code")?.into(),
            job: create(&jobs, "job")?,
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
        match binary::execute(&binary, &argv, &[])? {}
    }
}

/// A new file system in memory, attached nowhere.
fn in_memory(bytes: u64, options: &[(&CStr, &CStr)]) -> io::Result<OwnedFd> {
    let size = CString::new(bytes.to_string())?;
    let mut all = vec![(c"size", size.as_c_str()), (c"mode", c"0755")];
    all.extend(options);
    Ok(mountfd::create(c"tmpfs", &all)?)
}

/// A new file in the directory `dir`.
fn create(dir: &OwnedFd, name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o555)
        .open(PathBuf::from(link(dir)).join(name))
}

fn link(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
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
    fn copies_are_complete_and_cannot_be_written() {
        let code = File::open("/bin/sh").unwrap();
        let handover = Handover::copied(code.as_fd(), code.as_fd(), &[]).unwrap();
        for (copy, of) in [(handover.binary, binary::RUNNING), (handover.code, "/bin/sh")] {
            assert_eq!(std::fs::read(link(&copy)).unwrap(), std::fs::read(of).unwrap());
            let refused = OpenOptions::new().write(true).open(link(&copy)).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
        }
        (&handover.job).write_all(b"job").unwrap();
    }

    #[test]
    fn a_node_without_selinux_cannot_make_labelled_copies() {
        if super::super::labels::Modules::of_node().selinux {
            return;
        }
        let code = File::open(binary::RUNNING).unwrap();
        let label = [(c"context", c"system_u:object_r:container_file_t:s0")];
        assert!(Handover::copied(code.as_fd(), code.as_fd(), &label).is_err());
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
        let handovers = [
            Handover::shared(code.as_fd(), code.as_fd()).unwrap(),
            Handover::copied(code.as_fd(), code.as_fd(), &[]).unwrap(),
        ];
        for handover in handovers {
            executed(&handover, &job);
        }
    }

    fn executed(handover: &Handover, job: &Job) {
        let mut output = tempfile::tempfile().unwrap();
        // SAFETY: the child executes another program at once, or ends.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                nix::unistd::dup2_stdout(&output).unwrap();
                let _ = handover.exec(job, &Spec::default());
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
