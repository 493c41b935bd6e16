//! Several processes on one cache.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Output, Stdio};

use tandem_aot::{CacheLimits, Requester, engine_config};
use wasmtime::Engine;

use crate::fixture::{Fixture, open, slow_module, source, this_program};

const PROCESSES: usize = 6;
/// Variable that says how many compilers there may be.
pub const COMPILERS: &str = "TEST_COMPILERS";
/// Variable that names the `cgroup.procs` that pays.
pub const CGROUP: &str = "TEST_CGROUP";

/// The other side of [`start_all`]: what a shim does when a container starts.
pub fn play(role: &str, home: &Path, path: &Path) {
    assert_eq!(role, "start");
    let engine = Engine::new(&engine_config()).unwrap();
    let limits = CacheLimits {
        compilers: std::env::var(COMPILERS).map_or(4, |count| count.parse().unwrap()),
        ..CacheLimits::default()
    };
    let cgroup = std::env::var_os(CGROUP).map(|procs| fs::File::options().write(true).open(procs).unwrap());
    let requester = Requester {
        cgroups: cgroup.iter().map(|procs| procs.as_fd()).collect(),
        ..Requester::default()
    };
    let cache = open(home).with_cache_limits(limits);
    match cache.get_or_compile_for(&engine, &source(path), &requester) {
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
