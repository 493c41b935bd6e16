//! Handing a Wasm guest over to an execve, for security modules: AppArmor and SELinux confine a process from its
//! next execve on, and a guest is otherwise only forked. What is executed is this very binary, in its hidden role
//! (`crate::guest`), with the guest's compiled code and a description of what to run as inherited descriptors. It goes on
//! where the forked process has stopped: it links the guest, says that it is ready, and waits for Start.
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
use oci_spec::runtime::{PosixRlimit, Process};
use tandem_confine::process::labels;
use tandem_confine::sys::mount as mountfd;
use tandem_confine::{Class, Confined, Error, Result};

use super::linux::label_failed;
use crate::binary;
use crate::guest::{self, Inherited, Job};

/// Descriptors are moved away from the numbers that the new process finds them at.
const ABOVE: RawFd = 64;
/// Bytes of the file system for an SELinux copy besides the two files.
const SLACK: u64 = 1 << 20;

/// What the execve needs, opened by the runtime.
#[derive(Debug)]
pub struct Handover {
    /// The guest's compiled code.
    pub code: OwnedFd,
    /// The binary, which can only be executed.
    pub binary: OwnedFd,
    /// An empty file for the description.
    pub job: OwnedFd,
}

impl Handover {
    /// Makes it ready; `label` is SELinux' label of the container's files.
    pub fn prepare(code: BorrowedFd<'_>, label: Option<&str>) -> io::Result<Self> {
        match label {
            Some(label) => Self::copied(code, &[(c"context", CString::new(label)?.as_c_str())]),
            None => Ok(Self {
                code: code.try_clone_to_owned()?,
                binary: binary::protected()?,
                job: memfd_create(c"tandem-job", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?,
            }),
        }
    }

    /// With copies in file systems in memory, whose `options` say what the policy takes them for.
    fn copied(code: BorrowedFd<'_>, options: &[(&CStr, &CStr)]) -> io::Result<Self> {
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
            job: create(&jobs, "job")?.into(),
        })
    }
}

/// Executes the guest; returns only when that is not possible. Called in the confined process.
pub fn execute(handover: Handover, memory: OwnedFd, job: Job, confined: &mut Confined) -> Error {
    let process = confined.process.clone();
    match try_execute(handover, memory, job, confined, &process) {
        Ok(never) => never,
        Err(error) => error,
    }
}

fn try_execute(
    handover: Handover,
    memory: OwnedFd,
    job: Job,
    confined: &mut Confined,
    process: &Process,
) -> Result<Error> {
    let name = format!("hand {} over to its security label", job.name);
    let failed = |error: io::Error| Error::new(Class::Internal, name.clone(), error.to_string());
    let (line, start) = confined.gate.parts()?;
    let (start, waiting) = match start {
        Some((start, waiting)) => (Some(start.try_clone_to_owned().map_err(failed)?), Some(waiting)),
        None => (None, None),
    };
    let line = line.as_fd().try_clone_to_owned().map_err(failed)?;
    let limits: Vec<PosixRlimit> = process.rlimits().clone().unwrap_or_default();
    let inherited = Inherited { job, waiting, limits };
    let file = File::from(handover.job.try_clone().map_err(failed)?);
    describe(&inherited, file).map_err(failed)?;
    let binary = above(&handover.binary).map_err(failed)?;
    let fds = [
        (Some(handover.code), guest::CODE_FD),
        (Some(handover.job), guest::JOB_FD),
        (Some(memory), guest::MEMORY_FD),
        (Some(line), guest::LINE_FD),
        (start, guest::START_FD),
    ];
    pass_on(fds).map_err(failed)?;
    // Last, so that nothing but the guest gets the label.
    labels::set_for_next_exec(process).map_err(|error| label_failed(process, &error))?;
    let argv = [guest::NAME.to_owned(), inherited.job.name.replace('\0', "")];
    let argv: Vec<CString> = argv.into_iter().filter_map(|arg| CString::new(arg).ok()).collect();
    match binary::execute(&binary, &argv, &[]).map_err(failed)? {}
}

fn describe(inherited: &Inherited, mut file: File) -> io::Result<()> {
    let bytes = serde_json::to_vec(inherited).map_err(io::Error::other)?;
    file.write_all(&bytes)?;
    // A labelled file has no seals; nobody but the new process has it.
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    let _ = fcntl(&file, FcntlArg::F_ADD_SEALS(seals));
    Ok(())
}

/// Gives each descriptor the number at which the new process looks for it.
fn pass_on(fds: [(Option<OwnedFd>, RawFd); 5]) -> io::Result<()> {
    // All away first: a number may be taken by a descriptor that is still to be moved.
    let mut moved = Vec::new();
    for (fd, number) in fds {
        moved.push((fd.map(above).transpose()?, number));
    }
    for (fd, number) in &moved {
        let Some(fd) = fd else { continue };
        // SAFETY: dup2(2) takes plain numbers. What was at that number is of no use any more: this process
        // becomes another program or ends.
        Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), *number) })?;
        // SAFETY: the descriptor has just been made and is not closed while it is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(*number) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

/// A new file system in memory, attached nowhere.
fn in_memory(bytes: u64, options: &[(&CStr, &CStr)]) -> io::Result<OwnedFd> {
    let size = CString::new(bytes.to_string())?;
    let all = [(c"size", size.as_c_str()), (c"mode", c"0755")];
    let all = all
        .iter()
        .chain(options)
        .map(|(key, value)| ((*key).into(), Some((*value).into())));
    mountfd::create(c"tmpfs", &all.collect::<Vec<_>>(), 0).map_err(|refused| refused.errno.into())
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
        let handover = Handover::copied(code.as_fd(), &[]).unwrap();
        for (copy, of) in [(handover.binary, binary::RUNNING), (handover.code, "/bin/sh")] {
            assert_eq!(std::fs::read(link(&copy)).unwrap(), std::fs::read(of).unwrap());
            let refused = OpenOptions::new().write(true).open(link(&copy)).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
        }
        File::from(handover.job).write_all(b"job").unwrap();
    }

    #[test]
    fn a_node_without_selinux_cannot_make_labelled_copies() {
        if labels::Modules::of_node().selinux {
            return;
        }
        let code = File::open(binary::RUNNING).unwrap();
        assert!(Handover::prepare(code.as_fd(), Some("system_u:object_r:container_file_t:s0")).is_err());
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
            let (code, inherited, _, _) = guest::inherited().unwrap();
            assert_eq!(inherited.job, job);
            assert_eq!(std::io::read_to_string(code).unwrap(), "native code");
            return;
        }
        let mut code = tempfile::tempfile().unwrap();
        code.write_all(b"native code").unwrap();
        io::Seek::rewind(&mut code).unwrap();
        let handovers = [
            Handover::prepare(code.as_fd(), None).unwrap(),
            Handover::copied(code.as_fd(), &[]).unwrap(),
        ];
        for handover in handovers {
            executed(handover, &job);
        }
    }

    fn executed(handover: Handover, job: &Job) {
        let mut output = tempfile::tempfile().unwrap();
        // SAFETY: the child executes another program at once, or ends.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                nix::unistd::dup2_stdout(&output).unwrap();
                let (line, _other) = tandem_confine::line::Line::pair().unwrap();
                let mut process = Process::default();
                process.set_apparmor_profile(None).set_selinux_label(None);
                let mut confined = Confined {
                    process,
                    env: Vec::new(),
                    gate: tandem_confine::Gate::of_executed(line),
                };
                let memory = memfd_create(c"memory", MFdFlags::MFD_CLOEXEC).unwrap();
                execute(handover, memory, job.clone(), &mut confined);
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
