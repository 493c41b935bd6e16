//! The two system calls that give a cgroup its program. nix and libc do not have them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::program::Instruction;

/// Commands and constants of bpf(2). Source: `include/uapi/linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Beside the programs of parents, all of which must agree.
const ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads the program and attaches it to the cgroup at `dir`.
pub fn attach(dir: &Path, program: &[Instruction]) -> io::Result<()> {
    let cgroup = File::open(dir)?;
    let mut name = [0; 16];
    name[..14].copy_from_slice(b"tandem_devices");
    let load = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(io::Error::other)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        prog_name: name,
        ..Load::default()
    };
    let program = bpf(PROG_LOAD, &load)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let number = |fd: RawFd| u32::try_from(fd).map_err(io::Error::other);
    let attach = Attach {
        target_fd: number(cgroup.as_raw_fd())?,
        attach_bpf_fd: number(program.as_raw_fd())?,
        attach_type: CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attach).map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: `attributes` is laid out as the kernel's union for this command, is as long as is said, and what it
    // points to lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *const T, size_of::<T>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        fd => RawFd::try_from(fd).map_err(io::Error::other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::assemble;
    use super::*;
    use crate::device_rules::tests::rules;

    /// The node's cgroup v2 hierarchy, which a hybrid node has as well.
    fn hierarchy() -> std::path::PathBuf {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        line.split(' ').nth(4).unwrap().into()
    }

    #[test]
    fn the_kernel_takes_the_program_and_keeps_processes_in_the_cgroup_from_denied_devices() {
        let dir = hierarchy().join(format!("tandem-devices-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let rules = rules(r#"[{"allow":false}]"#);
        // /dev/kmsg (1:11) is on no list, /dev/null on that of the harmless ones.
        let attached = attach(&dir, &assemble(&rules));
        let procs = dir.join("cgroup.procs");
        let script = format!("echo 0 > {} && cat /dev/null && ! head -c1 /dev/kmsg", procs.display());
        let output = std::process::Command::new("sh").args(["-c", &script]).output();
        std::fs::remove_dir(&dir).unwrap();
        attached.unwrap();
        let output = output.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("Operation not permitted"), "{stderr}");
    }
}
