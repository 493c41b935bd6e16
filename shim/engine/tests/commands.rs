//! Guests that run to their end, as core modules and as components.

#![allow(clippy::unwrap_used, reason = "a test fails by it, and so may its helpers")]

mod common;

use common::{Guest, guests};
use std::io::Write;
use std::process::Stdio;

const TRAP: i32 = tandem_engine::EXIT_TRAP;
const HOST: i32 = tandem_engine::EXIT_HOST;

#[test]
fn a_core_module_prints_and_exits_with_0() {
    assert_eq!(
        Guest::new(guests::hello(), &[]).output(),
        (0, "hello\n".into(), String::new())
    );
}

#[test]
fn a_component_prints_and_exits_with_0() {
    let guest = guests::component(&guests::hello());
    assert_eq!(Guest::new(guest, &[]).output(), (0, "hello\n".into(), String::new()));
}

#[test]
fn the_exit_code_is_the_guest_s_own() {
    assert_eq!(Guest::new(guests::exit(7), &[]).output().0, 7);
    assert_eq!(Guest::new(guests::exit(125), &[]).output().0, 125);
    // The kernel keeps eight bits, of whatever a program says.
    for (said, kept) in [(126, 126), (134, 134), (255, 255), (256, 0), (259, 3), (u32::MAX, 255)] {
        let (code, _, stderr) = Guest::new(guests::exit(said), &[]).output();
        assert_eq!((code, stderr.as_str()), (kept, ""), "{said}");
    }
    // The adapter knows `exit` only, which tells success from failure.
    assert_eq!(Guest::new(guests::component(&guests::exit(7)), &[]).output().0, 1);
    assert_eq!(Guest::new(guests::component(&guests::exit(0)), &[]).output().0, 0);
}

#[test]
fn a_trap_loses_no_output_and_tells_why_and_where() {
    for guest in [guests::trap().into_bytes(), guests::component(&guests::trap())] {
        let (code, stdout, stderr) = Guest::new(guest, &[]).output();
        assert_eq!((code, stdout.as_str()), (TRAP, "partial"));
        assert!(stderr.starts_with("tandem: guest trapped: "), "{stderr}");
        assert!(stderr.contains("unreachable"), "{stderr}");
        assert!(stderr.contains("wasm backtrace:"), "{stderr}");
        assert_eq!(stderr.matches("backtrace").count(), 1, "{stderr}");
    }
}

#[test]
fn endless_recursion_is_a_trap() {
    let wat = r#"(module (func $f (export "_start") (call $f)))"#;
    let (code, _, stderr) = Guest::new(wat, &[]).output();
    assert_eq!(code, TRAP);
    assert!(stderr.contains("stack"), "{stderr}");
}

#[test]
fn a_trap_of_the_start_function_is_a_trap() {
    let wat = r#"(module (func $f unreachable) (start $f) (func (export "_start")))"#;
    assert_eq!(Guest::new(wat, &[]).output().0, TRAP);
}

#[test]
fn arguments_and_environment_reach_the_guest() {
    let options = ["--env", "A=1", "--env", "B=x y", "--cwd", "/srv"];
    for guest in [guests::echo().into_bytes(), guests::component(&guests::echo())] {
        let (code, stdout, _) = Guest::with_args(guest, &options, &["one", "two words"]).output();
        assert_eq!(code, 0);
        let (_, rest) = stdout.split_once('\0').unwrap();
        assert_eq!(rest, "one\0two words\0A=1\0B=x y\0PWD=/srv\0");
    }
}

#[test]
fn a_guest_reads_its_stdin() {
    for guest in [
        guests::read_stdin().into_bytes(),
        guests::component(&guests::read_stdin()),
    ] {
        let mut guest = Guest::new(guest, &[]);
        guest.command.stdin(Stdio::piped());
        let mut guest = guest.start();
        guest.child.stdin.take().unwrap().write_all(b"input").unwrap();
        assert_eq!(guest.line(), "ready\n");
        assert_eq!(guest.rest_of_stdout(), "input");
        assert_eq!(guest.wait().0, 0);
    }
}

#[test]
fn a_file_is_read() {
    for guest in [
        guests::cat("a.txt").into_bytes(),
        guests::component(&guests::cat("a.txt")),
    ] {
        let fill = |root: &std::path::Path| std::fs::write(root.join("a.txt"), "content").unwrap();
        assert_eq!(
            Guest::rooted(guest, fill).output(),
            (0, "ready\ncontent".into(), String::new())
        );
    }
}

#[test]
fn a_file_is_made() {
    for guest in [
        guests::create("new").into_bytes(),
        guests::component(&guests::create("new")),
    ] {
        let mut guest = Guest::rooted(&guest, |_| ());
        assert_eq!(guest.output().0, 0);
        assert!(guest.root().join("new").exists());
    }
}

#[test]
fn no_path_leads_out_of_the_root() {
    let (code, stdout, _) = Guest::rooted(guests::cat("../guest.wasm"), |_| ()).output();
    assert_ne!(code, 0);
    assert_eq!(stdout, "ready\n");
}

#[test]
fn a_root_that_is_missing_is_the_host_s_error() {
    let (code, _, stderr) = Guest::new(guests::hello(), &["--root", "/nowhere/at/all"]).output();
    assert_eq!(code, HOST);
    assert!(
        stderr.contains("/nowhere/at/all") && stderr.contains("No such file"),
        "{stderr}"
    );
}

#[test]
fn memory_beyond_the_limit_is_refused_to_the_guest() {
    for (guest, refused) in [
        (guests::grow().into_bytes(), 1),
        (guests::component(&guests::grow()), 1),
    ] {
        assert_eq!(Guest::new(&guest, &[]).output().0, 0);
        assert_eq!(Guest::new(&guest, &["--max-memory", "10000000"]).output().0, refused);
    }
}

#[test]
fn a_guest_that_starts_beyond_its_limit_is_the_host_s_error() {
    let (code, _, stderr) = Guest::new(guests::hello(), &["--max-memory", "1000"]).output();
    assert_eq!(code, HOST);
    assert!(stderr.contains("memory"), "{stderr}");
}

#[test]
fn an_entry_is_run_after_the_module_s_initialisation() {
    let wat = r#"(module (global $g (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $g (i32.const 40)))
        (func (export "answer") (result i32) (i32.add (global.get $g) (i32.const 2)))
        (func (export "nothing")))"#;
    assert_eq!(Guest::new(wat, &["--entry", "answer"]).output().0, 42);
    assert_eq!(Guest::new(wat, &["--entry", "nothing"]).output().0, 0);
}

#[test]
fn an_entry_of_a_component_is_run() {
    let wat = r#"(component
        (core module $m (func (export "seven") (result i32) (i32.const 7)) (func (export "fail") (result i32) (i32.const 1)))
        (core instance $i (instantiate $m))
        (func $seven (result u32) (canon lift (core func $i "seven")))
        (func $fail (result (result)) (canon lift (core func $i "fail")))
        (instance $api (export "fail" (func $fail)))
        (export "seven" (func $seven))
        (export "test:pkg/api@1.0.0" (instance $api)))"#;
    assert_eq!(Guest::new(wat, &["--entry", "seven"]).output().0, 7);
    assert_eq!(Guest::new(wat, &["--entry", "test:pkg/api@1.0.0#fail"]).output().0, 1);
    assert_eq!(Guest::new(wat, &["--entry", "test:pkg/api#fail"]).output().0, 1);
}

#[test]
fn no_thread_is_there_before_a_guest_runs_and_none_is_needed_by_a_plain_one() {
    for guest in [
        guests::hello().into_bytes(),
        guests::component(&guests::hello()),
        guests::http(0),
    ] {
        let (_, _, stderr) = Guest::new(guest, &["--times", "--env", "TANDEM_HTTP_ADDR=nonsense"]).output();
        let steps = stderr
            .lines()
            .filter(|line| line.contains(" threads"))
            .collect::<Vec<_>>();
        assert_eq!(steps.len(), 6, "{stderr}");
        assert!(steps.iter().all(|line| line.ends_with(" 1 threads")), "{stderr}");
    }
}
