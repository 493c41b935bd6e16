//! Several processes on one cache.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use tandem_aot::engine_config;
use wasmtime::Engine;

use crate::fixture::{Fixture, open, slow_module, source, this_program};

const PROCESSES: usize = 6;

/// The other side of [`start_all`]: what a shim does when a container starts.
pub fn play(role: &str, home: &Path, path: &Path) {
    assert_eq!(role, "start");
    let engine = Engine::new(&engine_config()).unwrap();
    match open(home).get_or_compile(&engine, &source(path)) {
        Ok(artifact) if artifact.was_compiled() => println!("compiled"),
        Ok(_) => println!("found"),
        Err(error) => println!("failed: {error}"),
    }
}

fn start_all(fixture: &Fixture, content: &[u8]) -> Vec<String> {
    let path = fixture.home.path().join("app.wasm");
    fs::write(&path, content).unwrap();
    let start = |_| {
        let mut command = this_program(&["--role", "start"]);
        command
            .arg(fixture.home.path())
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let running: Vec<_> = (0..PROCESSES).map(start).collect();
    let text = |output: Output| String::from_utf8(output.stdout).unwrap().trim().to_owned();
    running
        .into_iter()
        .map(|child| text(child.wait_with_output().unwrap()))
        .collect()
}

pub fn many_first_starts_compile_once() {
    let fixture = Fixture::new();
    let mut results = start_all(&fixture, &slow_module(200));
    results.sort();
    let mut expected = vec!["found"; PROCESSES];
    expected[0] = "compiled";
    assert_eq!(results, expected);
    assert_eq!(fixture.names().len(), 1, "{:?}", fixture.names());
}

pub fn many_first_starts_of_a_bad_module_fail_together() {
    let fixture = Fixture::new();
    // Wrong only at its end, so that the first one is busy with it while the others arrive.
    let mut content = slow_module(3000);
    content.push(0x7f);
    content.push(0);
    let results = start_all(&fixture, &content);
    assert!(
        results
            .iter()
            .all(|result| result.contains("app.wasm does not compile")),
        "{results:?}"
    );
    assert_eq!(fixture.names(), [""; 0]);
}
