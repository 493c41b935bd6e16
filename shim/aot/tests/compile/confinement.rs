//! What a module can do to the node: nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use tandem_aot::{CompileError, Limits};

use crate::fixture::{ANSWER, Fixture, slow_module, source, this_program};

pub fn too_much_memory_is_an_error_of_that_module() {
    let limits = Limits {
        memory_base: 4 << 20,
        memory_per_byte: 0,
        ..Limits::default()
    };
    let error = Fixture::with_limits(limits).refusal(slow_module(300));
    assert!(
        matches!(error, CompileError::Memory { limit: 0x40_0000, .. }),
        "{error}"
    );
}

pub fn too_much_cpu_time_is_an_error_of_that_module() {
    let limits = Limits {
        cpu: Duration::from_secs(1),
        ..Limits::default()
    };
    let error = Fixture::with_limits(limits).refusal(slow_module(3000));
    assert!(matches!(error, CompileError::CpuTime { .. }), "{error}");
}

pub fn too_much_time_is_an_error_of_that_module() {
    let limits = Limits {
        wall: Duration::from_millis(100),
        ..Limits::default()
    };
    let begin = Instant::now();
    let error = Fixture::with_limits(limits).refusal(slow_module(1000));
    assert!(matches!(error, CompileError::Timeout { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(children(std::process::id()), [0; 0], "the worker is gone");
}

pub fn too_large_an_artifact_is_an_error_of_that_module() {
    let error = Fixture::with_limits(Limits {
        artifact_bytes: 1000,
        ..Limits::default()
    })
    .refusal(ANSWER);
    assert!(
        matches!(error, CompileError::ArtifactTooLarge { .. }) && error.is_module_fault(),
        "{error}"
    );
}

/// A process that compiles something slow; it does not outlive its test.
struct Caller(Child);

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A caller and its worker, seen when the worker is confined.
fn caller_and_worker(fixture: &Fixture, path: &Path) -> (Caller, u32) {
    let mut command = this_program(&["--role", "start"]);
    let caller = Caller(command.arg(fixture.home.path()).arg(path).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        for worker in children(caller.0.id()) {
            // Confining ends with the filter.
            if field(worker, "Seccomp").as_deref() == Some("2") {
                return (caller, worker);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no confined worker was seen");
}

pub fn a_worker_has_no_rights_files_or_network() {
    let fixture = Fixture::new();
    let path = fixture.home.path().join("slow.wasm");
    fs::write(&path, slow_module(3000)).unwrap();
    let (_caller, worker) = caller_and_worker(&fixture, &path);

    for (name, value) in [
        // Of the first compiler's slot: no other process has it.
        ("Uid", "2147000000\t2147000000\t2147000000\t2147000000"),
        ("Gid", "2147000000\t2147000000\t2147000000\t2147000000"),
        ("Groups", ""),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(field(worker, name).as_deref(), Some(value), "{name}");
    }
    for namespace in ["net", "ipc"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}")).unwrap();
        assert_ne!(of(&worker.to_string()), of("self"), "{namespace}");
    }
    let descriptors: Vec<_> = fs::read_dir(format!("/proc/{worker}/fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    assert_eq!(descriptors.len(), 3, "{descriptors:?}");
    assert!(
        descriptors.iter().any(|target| target.ends_with("slow.wasm")),
        "{descriptors:?}"
    );
    assert!(
        descriptors.iter().any(|target| target.starts_with("pipe:")),
        "{descriptors:?}"
    );
    assert!(
        descriptors.iter().any(|target| target.ends_with(".tmp")),
        "{descriptors:?}"
    );
    let limits = fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    for limit in [
        "Max core file size        0",
        "Max open files            0",
        "Max cpu time              120",
        "Max processes             512",
    ] {
        assert!(limits.contains(limit), "{limits}");
    }
    for unlimited in [
        "Max address space         unlimited",
        "Max data size             unlimited",
    ] {
        assert!(!limits.contains(unlimited), "{limits}");
    }
    assert_eq!(
        fs::read_to_string(format!("/proc/{worker}/oom_score_adj"))
            .unwrap()
            .trim(),
        "1000"
    );
    // Of proc_pid_stat(5), counted from the state: what precedes it may have spaces.
    let stat = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!(fields[16], "10", "nice");
}

pub fn a_killed_caller_takes_its_worker_along_and_the_next_one_succeeds() {
    let fixture = Fixture::new();
    let path = fixture.home.path().join("slow.wasm");
    fs::write(&path, slow_module(200)).unwrap();
    let (mut caller, worker) = caller_and_worker(&fixture, &path);
    caller.0.kill().unwrap();
    assert_eq!(caller.0.wait().unwrap().signal(), Some(9));
    let deadline = Instant::now() + Duration::from_secs(5);
    while field(worker, "State").is_some_and(|state| !state.starts_with('Z')) {
        assert!(Instant::now() < deadline, "the worker outlives its parent");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(
        fixture.names().len(),
        2,
        "a lock and a temporary file are left: {:?}",
        fixture.names()
    );

    assert!(
        fixture
            .cache
            .get_or_compile(&fixture.engine, &source(&path))
            .unwrap()
            .was_compiled()
    );
    assert!(fixture.entry().extension().is_some_and(|suffix| suffix == "cwasm"));
}

pub fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

/// A line of /proc/…/status.
pub fn field(process: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}
