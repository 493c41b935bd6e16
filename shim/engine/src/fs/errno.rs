//! What WASI calls the kernel's errors: one table for both previews.
//!
//! Preview 1 took its list from POSIX and has a name for each error that POSIX knows. WASI 0.2 kept those of files only;
//! of what it has no name for, the nearest one is chosen: `insufficient-memory` where descriptors ran out, `no-entry`
//! where a network file system forgot the file.

use rustix::io::Errno;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

/// Preview 1's number of an input/output error, which stands for all that WASI does not know.
const P1_IO: u16 = 29;

/// The kernel's error, its number in preview 1, its name in WASI 0.2.
const NAMES: [(Errno, u16, ErrorCode); 75] = [
    (Errno::TOOBIG, 1, ErrorCode::Invalid),
    (Errno::ACCESS, 2, ErrorCode::Access),
    (Errno::ADDRINUSE, 3, ErrorCode::Busy),
    (Errno::ADDRNOTAVAIL, 4, ErrorCode::Invalid),
    (Errno::AFNOSUPPORT, 5, ErrorCode::Unsupported),
    (Errno::AGAIN, 6, ErrorCode::WouldBlock),
    (Errno::ALREADY, 7, ErrorCode::Already),
    (Errno::BADF, 8, ErrorCode::BadDescriptor),
    (Errno::BADMSG, 9, ErrorCode::Io),
    (Errno::BUSY, 10, ErrorCode::Busy),
    (Errno::CANCELED, 11, ErrorCode::Interrupted),
    (Errno::CHILD, 12, ErrorCode::Invalid),
    (Errno::CONNABORTED, 13, ErrorCode::Pipe),
    (Errno::CONNREFUSED, 14, ErrorCode::NoSuchDevice),
    (Errno::CONNRESET, 15, ErrorCode::Pipe),
    (Errno::DEADLK, 16, ErrorCode::Deadlock),
    (Errno::DESTADDRREQ, 17, ErrorCode::Invalid),
    (Errno::DOM, 18, ErrorCode::Invalid),
    (Errno::DQUOT, 19, ErrorCode::Quota),
    (Errno::EXIST, 20, ErrorCode::Exist),
    (Errno::FAULT, 21, ErrorCode::Invalid),
    (Errno::FBIG, 22, ErrorCode::FileTooLarge),
    (Errno::HOSTUNREACH, 23, ErrorCode::Io),
    (Errno::IDRM, 24, ErrorCode::NoEntry),
    (Errno::ILSEQ, 25, ErrorCode::IllegalByteSequence),
    (Errno::INPROGRESS, 26, ErrorCode::InProgress),
    (Errno::INTR, 27, ErrorCode::Interrupted),
    (Errno::INVAL, 28, ErrorCode::Invalid),
    (Errno::IO, 29, ErrorCode::Io),
    (Errno::ISCONN, 30, ErrorCode::Invalid),
    (Errno::ISDIR, 31, ErrorCode::IsDirectory),
    (Errno::LOOP, 32, ErrorCode::Loop),
    (Errno::MFILE, 33, ErrorCode::InsufficientMemory),
    (Errno::MLINK, 34, ErrorCode::TooManyLinks),
    (Errno::MSGSIZE, 35, ErrorCode::MessageSize),
    (Errno::MULTIHOP, 36, ErrorCode::Io),
    (Errno::NAMETOOLONG, 37, ErrorCode::NameTooLong),
    (Errno::NETDOWN, 38, ErrorCode::Io),
    (Errno::NETRESET, 39, ErrorCode::Io),
    (Errno::NETUNREACH, 40, ErrorCode::Io),
    (Errno::NFILE, 41, ErrorCode::InsufficientMemory),
    (Errno::NOBUFS, 42, ErrorCode::InsufficientMemory),
    (Errno::NODEV, 43, ErrorCode::NoDevice),
    (Errno::NOENT, 44, ErrorCode::NoEntry),
    (Errno::NOEXEC, 45, ErrorCode::Invalid),
    (Errno::NOLCK, 46, ErrorCode::NoLock),
    (Errno::NOLINK, 47, ErrorCode::Io),
    (Errno::NOMEM, 48, ErrorCode::InsufficientMemory),
    (Errno::NOMSG, 49, ErrorCode::NoEntry),
    (Errno::NOPROTOOPT, 50, ErrorCode::Unsupported),
    (Errno::NOSPC, 51, ErrorCode::InsufficientSpace),
    (Errno::NOSYS, 52, ErrorCode::Unsupported),
    (Errno::NOTCONN, 53, ErrorCode::Pipe),
    (Errno::NOTDIR, 54, ErrorCode::NotDirectory),
    (Errno::NOTEMPTY, 55, ErrorCode::NotEmpty),
    (Errno::NOTRECOVERABLE, 56, ErrorCode::NotRecoverable),
    (Errno::NOTSOCK, 57, ErrorCode::BadDescriptor),
    (Errno::OPNOTSUPP, 58, ErrorCode::Unsupported),
    (Errno::NOTTY, 59, ErrorCode::NoTty),
    (Errno::NXIO, 60, ErrorCode::NoSuchDevice),
    (Errno::OVERFLOW, 61, ErrorCode::Overflow),
    (Errno::OWNERDEAD, 62, ErrorCode::NotRecoverable),
    (Errno::PERM, 63, ErrorCode::NotPermitted),
    (Errno::PIPE, 64, ErrorCode::Pipe),
    (Errno::PROTO, 65, ErrorCode::Io),
    (Errno::PROTONOSUPPORT, 66, ErrorCode::Unsupported),
    (Errno::PROTOTYPE, 67, ErrorCode::Unsupported),
    (Errno::RANGE, 68, ErrorCode::Overflow),
    (Errno::ROFS, 69, ErrorCode::ReadOnly),
    (Errno::SPIPE, 70, ErrorCode::InvalidSeek),
    (Errno::SRCH, 71, ErrorCode::NoEntry),
    (Errno::STALE, 72, ErrorCode::NoEntry),
    (Errno::TIMEDOUT, 73, ErrorCode::Io),
    (Errno::TXTBSY, 74, ErrorCode::TextFileBusy),
    (Errno::XDEV, 75, ErrorCode::CrossDevice),
];

fn row(errno: Errno) -> Option<&'static (Errno, u16, ErrorCode)> {
    NAMES.iter().find(|(known, ..)| *known == errno)
}

/// The number of an error in preview 1.
pub(crate) fn preview1(errno: Errno) -> u16 {
    row(errno).map_or(P1_IO, |(_, number, _)| *number)
}

/// The name of an error in WASI 0.2.
pub(crate) fn wasi_0_2(errno: Errno) -> ErrorCode {
    row(errno).map_or(ErrorCode::Io, |(.., name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of Linux that no preview of WASI knows.
    const UNKNOWN: [i32; 58] = [
        15, 41, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 68, 69, 70,
        73, 76, 77, 78, 79, 80, 81, 82, 83, 85, 86, 87, 94, 96, 108, 109, 112, 117, 118, 119, 120, 121, 123, 124, 126,
        127, 128, 129, 132, 133,
    ];

    #[test]
    fn every_error_that_wasi_knows_has_its_own_name() {
        for number in 1..=133 {
            let errno = Errno::from_raw_os_error(number);
            let named = preview1(errno) != P1_IO || errno == Errno::IO;
            assert_eq!(named, !UNKNOWN.contains(&number), "{errno:?} ({number})");
        }
        let mut numbers = NAMES.map(|(_, number, _)| number).to_vec();
        numbers.sort_unstable();
        // All of preview 1's but `success` and `notcapable`, each once.
        assert_eq!(numbers, (1..=75).collect::<Vec<u16>>());
    }

    #[test]
    fn the_errors_of_files_are_called_what_they_are() {
        for (errno, number, name) in [
            (Errno::XDEV, 75, ErrorCode::CrossDevice),
            (Errno::ROFS, 69, ErrorCode::ReadOnly),
            (Errno::ISDIR, 31, ErrorCode::IsDirectory),
            (Errno::NOTEMPTY, 55, ErrorCode::NotEmpty),
            (Errno::NAMETOOLONG, 37, ErrorCode::NameTooLong),
            (Errno::LOOP, 32, ErrorCode::Loop),
            (Errno::DQUOT, 19, ErrorCode::Quota),
            (Errno::TXTBSY, 74, ErrorCode::TextFileBusy),
            (Errno::MFILE, 33, ErrorCode::InsufficientMemory),
            (Errno::NFILE, 41, ErrorCode::InsufficientMemory),
            (Errno::STALE, 72, ErrorCode::NoEntry),
        ] {
            assert_eq!((preview1(errno), wasi_0_2(errno)), (number, name), "{errno:?}");
        }
    }
}
