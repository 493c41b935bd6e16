//! What a guest sees of files, as a core module of preview 1 and as a component.

#![allow(clippy::unwrap_used, reason = "a test fails by it, and so may its helpers")]

mod common;

use common::{Guest, guests};
use std::os::unix::fs::symlink;
use std::path::Path;

/// Preview 1's number of `acces`.
const ACCESS: i32 = 2;

/// Reads `path` below `root` with each kind of guest: its exit code, and what it read.
fn read_below(root: &Path, path: &str) -> [(i32, String); 2] {
    let guest = guests::cat(path);
    [guest.clone().into_bytes(), guests::component(&guest)].map(|guest| {
        let (code, stdout, _) = Guest::new(guest, &["--root", root.to_str().unwrap()]).output();
        (code, stdout.strip_prefix("ready\n").unwrap().to_owned())
    })
}

/// That neither kind of guest can read `path`; a module is told why.
fn assert_refused(root: &Path, path: &str) {
    let [(core, read), (component, read_by_component)] = read_below(root, path);
    assert_eq!((core, read.as_str()), (ACCESS, ""), "{path}");
    // The adapter turns every exit code into success or failure.
    assert_eq!((component, read_by_component.as_str()), (1, ""), "{path}");
}

fn assert_reads(root: &Path, path: &str, expected: &str) {
    for (code, read) in read_below(root, path) {
        assert_eq!((code, read.as_str()), (0, expected), "{path}");
    }
}

#[test]
fn no_guest_reaches_the_memory_of_a_process() {
    for path in [
        "proc/self/mem",
        "proc/thread-self/mem",
        "proc/1/mem",
        "proc/../proc/self/task/../mem",
        "proc/self/root/proc/self/mem",
        "proc/self/maps",
        "proc/self/exe",
        "proc/self/environ",
    ] {
        assert_refused(Path::new("/"), path);
    }
}

#[test]
fn no_guest_reaches_the_kernel_or_a_device() {
    for path in ["proc", "sys/kernel", "sys/fs", "dev/pts/ptmx", "dev/tty", "dev/ptmx"] {
        assert_refused(Path::new("/"), path);
    }
}

#[test]
fn no_link_leads_to_the_memory_of_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().strip_prefix("/").unwrap().to_str().unwrap().to_owned();
    symlink("/proc/self/mem", dir.path().join("mem")).unwrap();
    symlink("/proc", dir.path().join("proc")).unwrap();
    symlink("proc/self", dir.path().join("self")).unwrap();
    for path in ["mem", "proc/self/mem", "proc/1/mem", "self/mem"] {
        assert_refused(Path::new("/"), &format!("{name}/{path}"));
    }
}

#[test]
fn harmless_devices_can_be_read() {
    for (path, expected) in [("dev/null", String::new()), ("dev/zero", "\0".repeat(4096))] {
        assert_reads(Path::new("/"), path, &expected);
    }
}

#[test]
fn the_streams_have_names_even_where_nothing_is_mounted() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("log")).unwrap();
    // As images of servers have it, to log where the container does.
    symlink("/dev/stdout", root.path().join("log/access")).unwrap();
    for path in ["dev/stdout", "dev/fd/1", "proc/self/fd/1", "log/access"] {
        let guest = guests::write(path, "text");
        for guest in [guest.clone().into_bytes(), guests::component(&guest)] {
            let output = Guest::new(guest, &["--root", root.path().to_str().unwrap()]).output();
            assert_eq!(output, (0, "text".into(), String::new()), "{path}");
        }
    }
}

#[test]
fn an_absolute_link_leads_from_the_container_s_root() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("run/secrets")).unwrap();
    std::fs::create_dir(root.path().join("var")).unwrap();
    std::fs::write(root.path().join("run/secrets/token"), "token").unwrap();
    symlink("/run", root.path().join("var/run")).unwrap();
    symlink("/var/run/secrets/token", root.path().join("link")).unwrap();
    symlink("../../../../run", root.path().join("above")).unwrap();
    for path in [
        "var/run/secrets/token",
        "link",
        "above/secrets/token",
        "../../run/secrets/token",
    ] {
        assert_reads(root.path(), path, "token");
    }
}

#[test]
fn a_fifo_waits_for_its_other_end() {
    use std::io::Write;
    for guest in [
        guests::cat("fifo").into_bytes(),
        guests::component(&guests::cat("fifo")),
    ] {
        let guest = Guest::rooted(guest, |root| {
            let status = std::process::Command::new("mkfifo")
                .arg(root.join("fifo"))
                .status()
                .unwrap();
            assert!(status.success());
        });
        let fifo = guest.root().join("fifo");
        let mut guest = guest.start();
        assert_eq!(guest.line(), "ready\n");
        std::fs::OpenOptions::new()
            .write(true)
            .open(fifo)
            .unwrap()
            .write_all(b"late")
            .unwrap();
        assert_eq!(guest.rest_of_stdout(), "late");
        assert_eq!(guest.wait().0, 0);
    }
}

#[test]
fn a_guest_that_waits_for_a_fifo_ends_by_a_signal() {
    let guest = Guest::rooted(guests::cat("fifo"), |root| {
        let status = std::process::Command::new("mkfifo")
            .arg(root.join("fifo"))
            .status()
            .unwrap();
        assert!(status.success());
    });
    let mut guest = guest.start();
    assert_eq!(guest.line(), "ready\n");
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.wait().0, 143);
}
