//! Between the kernel's types and those of `wasi:filesystem`.

use crate::fs::{OpenHow, links};
use rustix::fs::{Advice, FileType, OFlags, Stat, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::hash::{DefaultHasher, Hash, Hasher};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types;

pub(super) fn kind(kind: FileType) -> types::DescriptorType {
    match kind {
        FileType::RegularFile => types::DescriptorType::RegularFile,
        FileType::Directory => types::DescriptorType::Directory,
        FileType::Symlink => types::DescriptorType::SymbolicLink,
        FileType::Fifo => types::DescriptorType::Fifo,
        FileType::Socket => types::DescriptorType::Socket,
        FileType::CharacterDevice => types::DescriptorType::CharacterDevice,
        FileType::BlockDevice => types::DescriptorType::BlockDevice,
        FileType::Unknown => types::DescriptorType::Unknown,
    }
}

pub(super) fn stat(stat: &Stat) -> types::DescriptorStat {
    types::DescriptorStat {
        type_: kind(FileType::from_raw_mode(stat.st_mode)),
        link_count: links(stat),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        data_access_timestamp: datetime(stat.st_atime, stat.st_atime_nsec),
        data_modification_timestamp: datetime(stat.st_mtime, stat.st_mtime_nsec),
        status_change_timestamp: datetime(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// WASI knows no time before 1970.
fn datetime(seconds: i64, nanoseconds: u64) -> Option<Datetime> {
    Some(Datetime {
        seconds: u64::try_from(seconds).ok()?,
        nanoseconds: u32::try_from(nanoseconds).ok()?,
    })
}

pub(super) fn times(accessed: types::NewTimestamp, modified: types::NewTimestamp) -> Result<Timestamps, Errno> {
    Ok(Timestamps {
        last_access: timespec(accessed)?,
        last_modification: timespec(modified)?,
    })
}

fn timespec(new: types::NewTimestamp) -> Result<Timespec, Errno> {
    let special = |tv_nsec| Ok(Timespec { tv_sec: 0, tv_nsec });
    match new {
        types::NewTimestamp::NoChange => special(UTIME_OMIT),
        types::NewTimestamp::Now => special(UTIME_NOW),
        types::NewTimestamp::Timestamp(time) => Ok(Timespec {
            tv_sec: i64::try_from(time.seconds).map_err(|_| Errno::OVERFLOW)?,
            tv_nsec: i64::from(time.nanoseconds),
        }),
    }
}

pub(super) fn open_how(open: types::OpenFlags, flags: types::DescriptorFlags) -> OpenHow {
    let mut status = OFlags::empty();
    status.set(
        OFlags::DSYNC,
        flags.contains(types::DescriptorFlags::DATA_INTEGRITY_SYNC),
    );
    let sync = types::DescriptorFlags::FILE_INTEGRITY_SYNC | types::DescriptorFlags::REQUESTED_WRITE_SYNC;
    status.set(OFlags::SYNC, flags.intersects(sync));
    OpenHow {
        read: flags.contains(types::DescriptorFlags::READ),
        write: flags.contains(types::DescriptorFlags::WRITE),
        create: open.contains(types::OpenFlags::CREATE),
        exclusive: open.contains(types::OpenFlags::EXCLUSIVE),
        truncate: open.contains(types::OpenFlags::TRUNCATE),
        directory: open.contains(types::OpenFlags::DIRECTORY),
        nonblock: false,
        status,
    }
}

pub(super) fn flags(status: OFlags, readable: bool, writable: bool) -> types::DescriptorFlags {
    let mut flags = types::DescriptorFlags::empty();
    for (found, flag) in [
        (readable, types::DescriptorFlags::READ),
        (writable, types::DescriptorFlags::WRITE),
        (
            status.contains(OFlags::DSYNC),
            types::DescriptorFlags::DATA_INTEGRITY_SYNC,
        ),
        // O_SYNC has the bit of O_DSYNC too.
        (
            status.contains(OFlags::SYNC),
            types::DescriptorFlags::FILE_INTEGRITY_SYNC,
        ),
    ] {
        if found {
            flags |= flag;
        }
    }
    flags
}

pub(super) fn advice(advice: types::Advice) -> Advice {
    match advice {
        types::Advice::Normal => Advice::Normal,
        types::Advice::Sequential => Advice::Sequential,
        types::Advice::Random => Advice::Random,
        types::Advice::WillNeed => Advice::WillNeed,
        types::Advice::DontNeed => Advice::DontNeed,
        types::Advice::NoReuse => Advice::NoReuse,
    }
}

/// What tells one object from another: the same for all descriptors of it.
pub(super) fn hash(stat: &Stat) -> types::MetadataHashValue {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, stat.st_dev, stat.st_ino).hash(&mut hasher);
        hasher.finish()
    };
    types::MetadataHashValue {
        lower: half(0),
        upper: half(1),
    }
}
