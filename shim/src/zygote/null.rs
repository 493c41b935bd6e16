//! Output that nobody wants.
//!
//! libcontainer opens `/dev/null` anew inside of the container, for reading only, and gives that to the process for its
//! output as well: what it then writes fails. So it is opened once more, for both.

use std::fs::OpenOptions;
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Makes standard output and error writable where they are not.
pub fn make_outputs_writable() {
    let read_only = |fd: &dyn AsFd| {
        let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDONLY)
    };
    let (output, errors) = (read_only(&std::io::stdout()), read_only(&std::io::stderr()));
    if !output && !errors {
        return;
    }
    // A container without the device keeps what it has.
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        if output {
            let _ = nix::unistd::dup2_stdout(&null);
        }
        if errors {
            let _ = nix::unistd::dup2_stderr(&null);
        }
    }
}
