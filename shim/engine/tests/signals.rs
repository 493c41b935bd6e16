//! Signals end any guest, whatever it does, also as PID 1.

#![allow(clippy::unwrap_used, reason = "a test fails by it, and so may its helpers")]

mod common;

use common::{Guest, Started, guests, send};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What "at once" may take on a busy machine; a guest that had to be waited for would take far longer.
const AT_ONCE: Duration = Duration::from_secs(1);

fn ends_by(mut guest: Started, signal: i32) {
    assert_eq!(guest.line(), "ready\n");
    guest.signal(signal);
    let (code, stderr, took) = guest.wait();
    assert_eq!(code, 128 + signal, "{stderr}");
    assert!(took < AT_ONCE, "took {took:?}");
}

#[test]
fn a_guest_that_computes_is_ended_by_every_signal() {
    for signal in [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ] {
        ends_by(Guest::new(guests::compute(), &[]).start(), signal);
    }
}

#[test]
fn a_component_that_computes_is_ended() {
    ends_by(
        Guest::new(guests::component(&guests::compute()), &[]).start(),
        libc::SIGTERM,
    );
}

#[test]
fn a_guest_that_sleeps_is_ended() {
    ends_by(Guest::new(guests::sleep(), &[]).start(), libc::SIGTERM);
    ends_by(
        Guest::new(guests::component(&guests::sleep()), &[]).start(),
        libc::SIGTERM,
    );
}

#[test]
fn a_guest_that_waits_for_stdin_is_ended() {
    let mut guest = Guest::new(guests::read_stdin(), &[]);
    guest.command.stdin(Stdio::piped());
    ends_by(guest.start(), libc::SIGTERM);
}

#[test]
fn a_guest_blocked_in_a_fifo_is_ended() {
    for guest in [
        guests::cat("fifo").into_bytes(),
        guests::component(&guests::cat("fifo")),
    ] {
        let guest = Guest::rooted(guest, |root| {
            assert!(
                Command::new("mkfifo")
                    .arg(root.join("fifo"))
                    .status()
                    .unwrap()
                    .success()
            );
        });
        ends_by(guest.start(), libc::SIGTERM);
    }
}

#[test]
fn signals_that_were_blocked_by_the_parent_end_a_guest() {
    use std::os::unix::process::CommandExt;
    let mut guest = Guest::new(guests::compute(), &[]);
    // SAFETY: sigfillset and sigprocmask are async-signal-safe, and the set is initialised by the first.
    unsafe {
        guest.command.pre_exec(|| {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
            Ok(())
        });
    }
    ends_by(guest.start(), libc::SIGTERM);
}

#[test]
fn as_pid_1_a_guest_is_ended_all_the_same() {
    // A user namespace of its own, so that the test needs no privileges where the kernel allows that.
    let namespaces = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    if !Command::new("unshare")
        .args(namespaces)
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("skipped: no PID namespace can be made here");
        return;
    }
    for guest in [guests::compute().into_bytes(), guests::component(&guests::sleep())] {
        let mut guest = Guest::new(guest, &[]);
        let file = guest.dir.path().join("guest.wasm");
        guest.command = Command::new("unshare");
        guest
            .command
            .args(namespaces)
            .arg(common::run_guest())
            .arg(file)
            .stdin(Stdio::null());
        let mut guest = guest.start();
        assert_eq!(guest.line(), "ready\n");
        let children = format!("/proc/{0}/task/{0}/children", guest.child.id());
        let child = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
        send(child, libc::SIGTERM);
        assert_eq!(guest.wait().0, 143);
    }
}

#[test]
fn a_guest_whose_reader_went_away_learns_it_by_an_error() {
    let mut guest = Guest::new(guests::cat("file"), &[]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // Fails to open anything, for want of a preopen, after it failed to print.
    let status = guest.command.stdout(writer).status().unwrap();
    assert!(status.code().is_some_and(|code| code != 0 && code < 125));
}
