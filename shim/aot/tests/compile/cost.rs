//! What an image can cost the node, each by an attack that used to succeed.

use std::fs::{self, File};
use std::io::{PipeReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tandem_aot::{Artifact, Blame, CacheLimits, CompileError, Limits, Loaded, Requester};

use crate::confinement::{children, field};
use crate::fixture::{ANSWER, Fixture, digest, slow_module, source, this_program, wasm};
use crate::processes::{CGROUP, COMPILERS};

/// Sparse content at both ends of 14 memories of 16 MiB: it made an entry of 224 MB.
pub fn a_few_bytes_far_apart_do_not_become_an_image_of_all_between_them() {
    let mut text = String::from("(module");
    for memory in 0..14 {
        text.push_str(&format!(
            r#"(memory 256) (data (memory {memory}) (i32.const 0) "x") (data (memory {memory}) (i32.const 16777200) "y")"#
        ));
    }
    text.push_str(
        r#"(func (export "answer") (result i32) (i32.add (i32.load8_u 13 (i32.const 16777200)) (i32.const -79))))"#,
    );
    let module = wasm(&text);
    assert!(module.len() < 500, "{}", module.len());
    let fixture = Fixture::new();
    let artifact = fixture.compile(&module).unwrap();
    let size = artifact.file().metadata().unwrap().len();
    assert!(size < 256 << 10, "{} bytes of Wasm became {size}", module.len());
    assert_eq!(
        fixture.answer(artifact),
        42,
        "the memories have their contents all the same"
    );
}

/// A number of kilobytes that this process has had in memory at most, for itself and not for a file.
fn peak_memory() -> u64 {
    let text = field(std::process::id(), "VmHWM").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// 4 KiB on disk, 512 MiB in memory: three of them cost 1.4 GB.
pub fn a_sparse_module_costs_neither_memory_nor_time() {
    let fixture = Fixture::new();
    let source = fixture.source("app.wasm", b"\0asm\x01\0\0\0\0\xfa\xff\xff\xff\x01");
    let path = fixture.home.path().join("app.wasm");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(512 << 20)
        .unwrap();
    let (before, begin) = (peak_memory(), Instant::now());
    let error = fixture.cache.get_or_compile(&fixture.engine, &source).unwrap_err();
    assert!(
        error.is_module_fault() && error.to_string().contains("sparse"),
        "{error}"
    );
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(peak_memory() - before < 8 << 10, "{} kB more", peak_memory() - before);
}

pub fn a_large_module_is_not_read_into_the_callers_memory() {
    const SIZE: usize = 48 << 20;
    let fixture = Fixture::new();
    let path = fixture.home.path().join("app.wasm");
    let mut file = File::create(&path).unwrap();
    // The answer, and a custom section whose length is written in five bytes.
    let mut module = wasm(ANSWER);
    let length = u32::try_from(SIZE).unwrap();
    module.push(0);
    module.extend((0..5).map(|byte| (length >> (7 * byte) & 0x7f) as u8 | if byte < 4 { 0x80 } else { 0 }));
    file.write_all(&module).unwrap();
    for _ in 0..SIZE >> 20 {
        file.write_all(&[1; 1 << 20]).unwrap();
    }
    let before = peak_memory();
    let artifact = fixture.cache.get_or_compile(&fixture.engine, &source(&path)).unwrap();
    assert!(artifact.was_compiled());
    assert!(peak_memory() - before < 16 << 10, "{} kB more", peak_memory() - before);
    assert_eq!(fixture.answer(artifact), 42);
}

/// A module of its own for each number.
fn numbered(number: usize) -> String {
    format!(r#"(module (func (export "answer") (result i32) i32.const 42) (func (export "f{number}")))"#)
}

fn size(artifact: &Artifact) -> u64 {
    artifact.file().metadata().unwrap().len()
}

fn limited(max_bytes: u64) -> CacheLimits {
    CacheLimits {
        max_bytes,
        ..CacheLimits::default()
    }
}

pub fn the_cache_stays_within_its_size_and_keeps_what_is_in_use() {
    let fixture = Fixture::new();
    let in_use = fixture.compile(numbered(0)).unwrap();
    let room = size(&in_use) * 7 / 2;
    // What a guest has: the code is mapped, and no descriptor is left.
    let in_use = in_use.load(&fixture.engine).unwrap();
    let cache = fixture.cache.clone().with_cache_limits(limited(room));
    for number in 1..12 {
        std::thread::sleep(Duration::from_millis(5));
        let source = fixture.source("app.wasm", numbered(number));
        assert!(cache.get_or_compile(&fixture.engine, &source).unwrap().was_compiled());
        let used: u64 = fs::read_dir(fixture.home.path().join("aot"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(used <= room, "{used} bytes of {room}");
    }
    let is_there = |number: usize| {
        cache
            .get(&fixture.engine, &digest(&numbered(number)))
            .unwrap()
            .is_some()
    };
    assert!(is_there(0), "it is in use");
    assert!(is_there(11) && is_there(10) && !is_there(1), "the oldest go first");
    assert_eq!(fixture.answer_of(&in_use), 42);
}

pub fn a_component_in_use_is_not_collected() {
    let fixture = Fixture::new();
    let loaded = fixture
        .compile(wasm("(component (core module))"))
        .unwrap()
        .load(&fixture.engine)
        .unwrap();
    assert!(matches!(loaded, Loaded::Component(_)));
    std::thread::sleep(Duration::from_millis(20));
    let collected = fixture.cache.collect(0, Duration::ZERO).unwrap();
    assert_eq!((collected.removed, collected.kept), (0, 1));
}

pub fn a_cache_full_of_what_is_in_use_says_so() {
    let fixture = Fixture::with_cache_limits(limited(1));
    let _in_use = fixture.compile(numbered(0)).unwrap();
    let error = fixture.compile(numbered(1)).unwrap_err();
    assert_eq!(error.blame(), Blame::Cost);
    let message = error.to_string();
    assert!(
        message.contains("is full") && message.contains("max_bytes"),
        "{message}"
    );
    assert_eq!(fixture.names().len(), 1, "{:?}", fixture.names());
    drop(_in_use);
    assert!(fixture.compile(numbered(1)).unwrap().was_compiled());
}

pub fn a_module_that_failed_costs_nothing_the_next_time() {
    let limits = Limits {
        cpu: Duration::from_secs(1),
        ..Limits::default()
    };
    let fixture = Fixture::with_limits(limits);
    let module = slow_module(3000);
    assert!(matches!(fixture.refusal(&module), CompileError::CpuTime { .. }));
    let begin = Instant::now();
    let error = fixture.refusal(&module);
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(error.blame(), Blame::Cost);
    let message = error.to_string();
    assert!(
        message.contains("of CPU time") && message.contains("is tried again in"),
        "{message}"
    );
    // With its digest not even the content is looked at.
    let mut source = fixture.source("gone.wasm", "");
    source.expected = Some(tandem_aot::Digest::of(&module));
    let error = fixture.cache.get_or_compile(&fixture.engine, &source).unwrap_err();
    assert!(matches!(error, CompileError::Remembered { .. }), "{error}");
    // Others are tried, and so is this one where the node remembers nothing.
    assert_eq!(fixture.answer(fixture.compile(ANSWER).unwrap()), 42);
    let forgetful = fixture.cache.clone().with_cache_limits(CacheLimits {
        failure_seconds: 0,
        ..CacheLimits::default()
    });
    let source = fixture.source("app.wasm", &module);
    let error = forgetful.get_or_compile(&fixture.engine, &source).unwrap_err();
    assert!(matches!(error, CompileError::CpuTime { .. }), "{error}");
}

/// A caller that compiles the file at `path`; it does not outlive its test.
struct Caller(Child);

impl Caller {
    fn start(fixture: &Fixture, path: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = this_program(&["--role", "start"]);
        command.arg(fixture.home.path()).arg(path).stdout(Stdio::piped());
        Self(command.envs(variables.iter().copied()).spawn().unwrap())
    }

    fn start_after(seconds: &str, fixture: &Fixture, path: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", r#"sleep "$1"; shift; exec "$@""#, "sh", seconds]);
        command.arg(std::env::current_exe().unwrap()).args(["--role", "start"]);
        command.arg(fixture.home.path()).arg(path).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Its compiler, if that is confined already.
    fn compiler(&self) -> Option<u32> {
        let is_confined = |child: &u32| field(*child, "Seccomp").as_deref() == Some("2");
        children(self.0.id()).into_iter().find(is_confined)
    }

    /// Waits for its compiler.
    fn running_compiler(&self) -> u32 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(compiler) = self.compiler() {
                return compiler;
            }
            assert!(Instant::now() < deadline, "no confined worker was seen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn result(mut self) -> String {
        let mut text = String::new();
        std::io::Read::read_to_string(self.0.stdout.as_mut().unwrap(), &mut text).unwrap();
        text.trim().to_owned()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(fixture: &Fixture, name: &str, content: Vec<u8>) -> PathBuf {
    let path = fixture.home.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

pub fn no_more_compilers_run_than_the_node_allows() {
    let fixture = Fixture::new();
    let mut callers: Vec<_> = (0..4)
        .map(|number| {
            let path = write(&fixture, &format!("{number}.wasm"), slow_module(40 + number));
            Caller::start(&fixture, &path, &[(COMPILERS, "1")])
        })
        .collect();
    let mut most = 0;
    while callers.iter_mut().any(|caller| caller.0.try_wait().unwrap().is_none()) {
        most = most.max(callers.iter().filter(|caller| caller.compiler().is_some()).count());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(most, 1);
    for caller in callers {
        assert_eq!(caller.result(), "compiled");
    }
}

/// A pipe whose other end is closed after `seconds`.
fn hung_up_after(seconds: &str) -> (PipeReader, Child) {
    let (reader, writer) = std::io::pipe().unwrap();
    let child = Command::new("sleep").arg(seconds).stdout(writer).spawn().unwrap();
    (reader, child)
}

pub fn a_requester_that_hangs_up_ends_its_compilation() {
    let fixture = Fixture::new();
    let source = fixture.source("app.wasm", slow_module(3000));
    let (hangup, mut client) = hung_up_after("0.3");
    let requester = Requester {
        hangup: Some(hangup.as_fd()),
        ..Requester::default()
    };
    let begin = Instant::now();
    let error = fixture
        .cache
        .get_or_compile_for(&fixture.engine, &source, &requester)
        .unwrap_err();
    assert!(matches!(error, CompileError::Cancelled { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    client.wait().unwrap();
    assert_eq!(children(std::process::id()), [0; 0], "the compiler is gone");
    assert_eq!(fixture.names(), [""; 0]);
    // It is no fault of the module's.
    assert_eq!(fixture.answer(fixture.compile(ANSWER).unwrap()), 42);
}

pub fn a_requester_that_hangs_up_while_all_compilers_are_busy_is_not_waited_for() {
    let fixture = Fixture::with_cache_limits(CacheLimits {
        compilers: 1,
        ..CacheLimits::default()
    });
    let path = write(&fixture, "busy.wasm", slow_module(3000));
    let busy = Caller::start(&fixture, &path, &[(COMPILERS, "1")]);
    busy.running_compiler();
    let source = fixture.source("app.wasm", ANSWER);
    let (hangup, mut client) = hung_up_after("0.2");
    let requester = Requester {
        hangup: Some(hangup.as_fd()),
        ..Requester::default()
    };
    let error = fixture
        .cache
        .get_or_compile_for(&fixture.engine, &source, &requester)
        .unwrap_err();
    assert!(matches!(error, CompileError::Cancelled { .. }), "{error}");
    assert!(busy.compiler().is_some());
    client.wait().unwrap();
}

pub fn a_compilation_that_others_wait_for_goes_on_without_its_requester() {
    let fixture = Fixture::new();
    let path = write(&fixture, "app.wasm", slow_module(300));
    let (hangup, mut client) = hung_up_after("1");
    let requester = Requester {
        hangup: Some(hangup.as_fd()),
        ..Requester::default()
    };
    // When this process is at it already, and before its requester goes.
    let waiting = Caller::start_after("0.3", &fixture, &path);
    let artifact = fixture
        .cache
        .get_or_compile_for(&fixture.engine, &source(&path), &requester)
        .unwrap();
    assert!(artifact.was_compiled());
    assert!(
        client.try_wait().unwrap().is_some(),
        "its requester had gone before it was ready"
    );
    assert_eq!(waiting.result(), "found");
}

/// A cgroup of its own, of whatever version the machine has.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Self {
        let root = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
            .into_iter()
            .find(|dir| Path::new(dir).join("cgroup.procs").exists());
        let dir = Path::new(root.unwrap()).join(format!("tandem-aot-test-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn the_requesters_cgroup_pays_for_the_compiler() {
    let fixture = Fixture::new();
    let cgroup = Cgroup::make();
    let path = write(&fixture, "slow.wasm", slow_module(3000));
    let procs = cgroup.0.join("cgroup.procs");
    let caller = Caller::start(&fixture, &path, &[(CGROUP, procs.to_str().unwrap())]);
    let compiler = caller.running_compiler();
    assert_eq!(fs::read_to_string(&procs).unwrap().trim(), compiler.to_string());
    drop(caller);
}
