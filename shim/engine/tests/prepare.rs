//! What cannot run is refused when it is prepared, by a message that helps.

#![allow(clippy::unwrap_used, reason = "a test fails by it, and so may its helpers")]

mod common;

use common::guests;
use tandem_engine::{Code, Host, PrepareError};
use wasmtime::component::Component;
use wasmtime::{Config, Engine, Module};

fn engine() -> Engine {
    let mut config = Config::new();
    config.epoch_interruption(true);
    Engine::new(&config).unwrap()
}

fn prepare(wasm: impl AsRef<[u8]>, entry: Option<&str>) -> Result<bool, PrepareError> {
    let host = Host::new(engine());
    let bytes = wat::parse_bytes(wasm.as_ref()).unwrap();
    let code = if bytes[4] == 1 {
        Code::Core(Module::new(host.engine(), &bytes).unwrap())
    } else {
        Code::Component(Component::new(host.engine(), &bytes).unwrap())
    };
    host.prepare(&code, entry).map(|guest| guest.is_http())
}

fn refused(wasm: impl AsRef<[u8]>, entry: Option<&str>) -> (PrepareError, String) {
    let error = prepare(wasm, entry).unwrap_err();
    let text = error.to_string();
    (error, text)
}

#[test]
fn an_unknown_import_of_a_module_is_named() {
    let wat = r#"(module (import "env" "jump" (func)) (func (export "_start")))"#;
    let (error, text) = refused(wat, None);
    assert!(matches!(error, PrepareError::UnknownImport { .. }), "{error:?}");
    assert!(
        text.contains("`env` `jump`") && text.contains("wasm32-wasip1"),
        "{text}"
    );

    let wat = r#"(module (import "wasi_snapshot_preview1" "fd_teleport" (func)) (func (export "_start")))"#;
    assert!(refused(wat, None).1.contains("`fd_teleport`"));
}

/// Names come from whoever made the module, messages go to terminals and logs.
#[test]
fn names_of_a_module_reach_no_terminal_and_no_log_raw() {
    let import = r#"(module (import "env\1b[31m" "a\0a\e2\80\aeb" (func)) (func (export "_start")))"#;
    let export = r#"(module (func (export "a\1b[2J\0d\0ab")))"#;
    let memory = r#"(module (import "env" "m\1b[31m\0a" (memory 1 1 shared)) (func (export "_start")))"#;
    let component = r#"(component (import "a:b/c@1.0.0" (instance)) (core module))"#;
    for (wat, entry) in [
        (import, None),
        (export, None),
        (export, Some("x\u{1b}[31m\n")),
        (memory, None),
        (component, None),
    ] {
        let text = refused(wat, entry).1;
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
    }
    let long = format!(
        r#"(module (import "{}" "f" (func)) (func (export "_start")))"#,
        "x".repeat(100_000)
    );
    assert!(refused(long, None).1.len() < 2000);
}

#[test]
fn a_module_that_needs_shared_memory_is_refused_with_the_reason() {
    for wat in [
        r#"(module (import "env" "memory" (memory 1 1 shared)) (import "wasi" "thread-spawn" (func (param i32) (result i32)))
            (func (export "_start")))"#,
        r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#,
    ] {
        let (error, text) = refused(wat, None);
        assert!(matches!(error, PrepareError::SharedMemory { .. }), "{error:?}");
        assert!(
            text.contains("`memory` is shared") && text.contains("wasm32-wasip1"),
            "{text}"
        );
    }
}

#[test]
fn a_mistyped_import_of_a_module_is_named() {
    let wat = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))"#;
    let (error, text) = refused(wat, None);
    assert!(matches!(error, PrepareError::IncompatibleImport { .. }), "{error:?}");
    assert!(text.contains("fd_write"), "{text}");
}

#[test]
fn a_missing_entry_is_answered_with_those_there_are() {
    let wat = r#"(module (func (export "add")) (memory (export "memory") 1))"#;
    let (error, text) = refused(wat, None);
    assert!(matches!(error, PrepareError::MissingExport { .. }), "{error:?}");
    assert!(
        text.contains("`_start`") && text.contains("(it exports `add`)"),
        "{text}"
    );
    assert!(refused(wat, Some("memory")).1.contains("`memory`"));
}

#[test]
fn an_entry_with_parameters_is_refused() {
    let wat = r#"(module (func (export "add") (param i32 i32) (result i32) unreachable))"#;
    let (error, text) = refused(wat, Some("add"));
    assert!(matches!(error, PrepareError::BadEntrySignature { .. }), "{error:?}");
    assert!(text.contains("`add`") && text.contains("param i32 i32"), "{text}");
}

#[test]
fn a_component_of_another_world_is_refused_with_its_world() {
    let wat =
        r#"(component (import "test:a/b@1.0.0" (instance)) (instance $i) (export "my:own/api@1.0.0" (instance $i)))"#;
    let (error, text) = refused(wat, None);
    assert!(matches!(error, PrepareError::UnsupportedWorld { .. }), "{error:?}");
    for part in [
        "`my:own/api@1.0.0`",
        "`test:a/b@1.0.0`",
        "wasi:cli/run",
        "wasi:http/incoming-handler",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(refused("(component)", None).1.contains("exports nothing"));
}

#[test]
fn an_unknown_import_of_a_component_is_named() {
    let import = r#"(component (import "wasi:keyvalue/store@0.2.0" (instance (export "get" (func))))
        (core module $m (func (export "f"))) (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f"))) (export "go" (func $f)))"#;
    let (error, text) = refused(import, Some("go"));
    assert!(matches!(error, PrepareError::UnknownImport { .. }), "{error:?}");
    assert!(
        text.contains("wasi:keyvalue/store@0.2.0") && text.contains("not supported"),
        "{text}"
    );
}

#[test]
fn a_missing_entry_of_a_component_is_answered_with_those_there_are() {
    let (error, text) = refused(guests::http(0), Some("nope"));
    assert!(matches!(error, PrepareError::MissingExport { .. }), "{error:?}");
    assert!(text.contains("`wasi:http/incoming-handler@0.2.0#handle`"), "{text}");
}

#[test]
fn every_0_2_release_of_a_world_is_accepted() {
    for patch in [0, 1, 6, 8, 12] {
        assert!(prepare(guests::http(patch), None).unwrap());
    }
    assert!(!prepare(guests::component(&guests::hello()), None).unwrap());
}

/// Exports `run` and `incoming-handler`, the second with a body that is never called here.
#[test]
fn of_a_component_that_is_both_a_command_and_a_server_the_entry_decides() {
    let wat = r#"(component
        (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource))) (export "response-outparam" (type (sub resource)))))
        (alias export $types "incoming-request" (type $request))
        (alias export $types "response-outparam" (type $out))
        (core module $m (func (export "run") (result i32) (i32.const 0)) (func (export "handle") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (func $handle (param "request" (own $request)) (param "response-out" (own $out)) (canon lift (core func $i "handle")))
        (instance $a (export "run" (func $run)))
        (instance $b (export "handle" (func $handle)))
        (export "wasi:cli/run@0.2.3" (instance $a))
        (export "wasi:http/incoming-handler@0.2.3" (instance $b)))"#;
    assert!(!prepare(wat, None).unwrap());
    assert!(!prepare(wat, Some("wasi:cli/run")).unwrap());
    assert!(prepare(wat, Some("wasi:http/incoming-handler")).unwrap());
    assert!(prepare(wat, Some("wasi:http/incoming-handler@0.2.3#handle")).unwrap());
}

#[test]
fn code_of_another_engine_is_refused() {
    let module = Module::new(&engine(), guests::hello()).unwrap();
    let error = Host::new(engine()).prepare(&Code::Core(module), None).err().unwrap();
    assert!(matches!(error, PrepareError::ForeignEngine), "{error:?}");
}
