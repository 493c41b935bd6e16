//! Guests for tests, in WAT.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A core module of preview 1 whose `_start` is `body`. `$print` writes `len` bytes from `ptr` to stdout.
pub fn core(data: &str, body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "{data}")
  (func $print (param $ptr i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $ptr))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $fail_with (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func (export "_start") {body}))"#
    )
}

pub fn hello() -> String {
    core("hello\\n", "(call $print (i32.const 100) (i32.const 6))")
}

/// Prints without a newline, then ends by a trap.
pub fn trap() -> String {
    core("partial", "(call $print (i32.const 100) (i32.const 7)) unreachable")
}

pub fn exit(code: u32) -> String {
    core("", &format!("(call $exit (i32.const {code}))"))
}

/// Prints `ready`, then computes for ever.
pub fn compute() -> String {
    core(
        "ready\\n",
        "(call $print (i32.const 100) (i32.const 6)) (loop $l (br $l))",
    )
}

/// Prints `ready`, then sleeps for 1000 s.
pub fn sleep() -> String {
    let subscribe = "(call $print (i32.const 100) (i32.const 6))
        (i32.store (i32.const 1040) (i32.const 1))
        (i64.store (i32.const 1048) (i64.const 1000000000000))
        (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 8)))";
    core("ready\\n", subscribe)
}

/// Prints `ready`, then waits for stdin.
pub fn read_stdin() -> String {
    let read = "(call $print (i32.const 100) (i32.const 6))
        (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 4096))
        (call $fail_with (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $print (i32.const 4096) (i32.load (i32.const 8)))";
    core("ready\\n", read)
}

/// Prints its arguments, then its environment, each followed by NUL.
pub fn echo() -> String {
    let body = "(drop (call $args_sizes (i32.const 16) (i32.const 20)))
        (drop (call $args (i32.const 1024) (i32.const 4096)))
        (call $print (i32.const 4096) (i32.load (i32.const 20)))
        (drop (call $env_sizes (i32.const 16) (i32.const 20)))
        (drop (call $env (i32.const 1024) (i32.const 4096)))
        (call $print (i32.const 4096) (i32.load (i32.const 20)))";
    core("", body)
}

/// Prints `ready`, then a file of its first preopen; its exit code is the errno of what failed.
pub fn cat(path: &str) -> String {
    let body = format!(
        "(call $print (i32.const 100) (i32.const 6))
        (call $fail_with (call $open (i32.const 3) (i32.const 1) (i32.const 106) (i32.const {len}) (i32.const 0)
            (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 16)))
        (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 4096))
        (call $fail_with (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $print (i32.const 4096) (i32.load (i32.const 8)))",
        len = path.len()
    );
    core(&format!("ready\\n{path}"), &body)
}

/// Writes to a file of its first preopen that exists; its exit code is the errno of what failed.
pub fn write(path: &str, text: &str) -> String {
    let body = format!(
        "(call $fail_with (call $open (i32.const 3) (i32.const 1) (i32.const 100) (i32.const {len}) (i32.const 0)
            (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 16)))
        (i32.store (i32.const 0) (i32.const {start})) (i32.store (i32.const 4) (i32.const {text_len}))
        (call $fail_with (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))",
        len = path.len(),
        start = 100 + path.len(),
        text_len = text.len(),
    );
    core(&format!("{path}{text}"), &body)
}

/// Creates a file in its first preopen; its exit code is the errno of what failed.
pub fn create(path: &str) -> String {
    let body = format!(
        "(call $fail_with (call $open (i32.const 3) (i32.const 1) (i32.const 100) (i32.const {len}) (i32.const 1)
            (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 16)))",
        len = path.len()
    );
    core(path, &body)
}

/// Exits with 0 where 1000 pages more can be had, with 1 where `memory.grow` fails.
pub fn grow() -> String {
    core(
        "",
        "(call $exit (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)))",
    )
}

/// A core module of preview 1 as a component.
pub fn component(core: &str) -> Vec<u8> {
    let module = wat::parse_str(core).unwrap();
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .adapter("wasi_snapshot_preview1", adapter)
        .unwrap()
        .encode()
        .unwrap()
}

/// The part of WASI 0.2 that [`http`] uses.
const WIT: &str = include_str!("http.wit");

/// An HTTP server, as WASI 0.2.`patch`. What it does depends on the request's path:
///
/// `/` says hello, `/slow` after one second; `/trap`, `/none` (no response) and `/mid` (a trap in the middle of the body)
/// fail; `/loop` computes for ever; `/body` says hello when it has read the request's body, `/flood` does not stop saying
/// something. It prints `request` for each.
pub fn http(patch: u32) -> Vec<u8> {
    let version = format!("0.2.{patch}");
    let wit = WIT.replace("0.2.0", &version);
    let mut resolve = Resolve::default();
    let package = resolve.push_str("http.wit", &wit).unwrap();
    let world = resolve.select_world(&[package], Some("server")).unwrap();
    let wat = include_str!("http.wat").replace("0.2.0", &version);
    let mut module = wat::parse_str(wat).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}
