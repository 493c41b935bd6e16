//! What a guest may be given: files, and a few devices without side effects.
//!
//! The question is put to a descriptor, never to a path. A descriptor for a mere place (`O_PATH`) is asked first, since
//! opening a device can do something by itself, and what was opened then is asked again.

use super::Result;
use rustix::fd::AsFd;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

/// File systems that are windows into the kernel, by the number in `f_type` (Linux, `include/uapi/linux/magic.h` and the
/// file systems' own sources).
const OF_THE_KERNEL: [u64; 31] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x1980_0202, // mqueue
    0x6165_676c, // pstore
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x5a3c_69f0, // apparmorfs
    0x4249_4e4d, // binfmt_misc
    0x6573_5543, // fusectl
    0x0765_5821, // resctrl
    0x6e73_6673, // nsfs
    0x5049_4446, // pidfs
    0xabba_1974, // xenfs
    0x6c6f_6f70, // binderfs
    0x9fa2,      // usbdevfs
    0x454d_444d, // dax devices
    0x6264_6576, // block devices
    0x1130_7854, // MTD
    0x6e66_7364, // nfsd
    0x6759_6969, // rpc_pipefs
    0x0904_1934, // anonymous inodes
    0x534f_434b, // sockets
];

/// Devices of the major number 1 that a guest may have: null, zero, full, random, urandom.
const MEMORY_DEVICES: [u32; 5] = [3, 5, 7, 8, 9];

/// Fails with EACCES where the object belongs to the kernel.
pub(super) fn file_system(object: impl AsFd) -> Result<()> {
    let found = rustix::fs::fstatfs(object)?.f_type;
    // The numbers have 32 bits; the field's width differs between architectures.
    if u64::try_from(found).is_ok_and(|found| OF_THE_KERNEL.contains(&found)) {
        return Err(Errno::ACCESS);
    }
    Ok(())
}

/// Fails with EACCES where a guest may not have the object.
pub(super) fn object(object: impl AsFd) -> Result<Stat> {
    file_system(object.as_fd())?;
    let stat = rustix::fs::fstat(object)?;
    let refused = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => {
            rustix::fs::major(stat.st_rdev) != 1 || !MEMORY_DEVICES.contains(&rustix::fs::minor(stat.st_rdev))
        }
        _ => false,
    };
    if refused { Err(Errno::ACCESS) } else { Ok(stat) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags};

    fn ask(path: &str) -> Result<Stat> {
        object(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap())
    }

    #[test]
    fn objects_of_the_kernel_are_refused() {
        for path in ["/proc", "/proc/self/mem", "/proc/self/ns/mnt", "/sys", "/dev/pts"] {
            assert_eq!(ask(path).err(), Some(Errno::ACCESS), "{path}");
        }
    }

    #[test]
    fn harmless_devices_and_files_are_given_and_other_devices_are_not() {
        for path in [
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
            "/etc/passwd",
            "/tmp",
        ] {
            assert!(ask(path).is_ok(), "{path}");
        }
        for path in ["/dev/tty", "/dev/ptmx"] {
            assert_eq!(ask(path).err(), Some(Errno::ACCESS), "{path}");
        }
    }
}
