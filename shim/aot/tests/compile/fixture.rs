//! What cases share: a private cache, modules and ways to look at the result.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tandem_aot::{Artifact, Cache, CacheLimits, CompileError, Digest, Limits, Loaded, Source, engine_config};
use tempfile::TempDir;
use wasmtime::{Engine, Instance, Store};

/// Exports `answer`, which returns 42.
pub const ANSWER: &str =
    r#"(module (memory 1) (data (i32.const 0) "hello") (func (export "answer") (result i32) i32.const 42))"#;

pub struct Fixture {
    pub engine: Engine,
    pub cache: Cache,
    pub home: TempDir,
}

/// What is mounted from here on this process alone sees, and it is gone with it.
pub fn keep_mounts_private() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
}

impl Fixture {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let cache = open(home.path());
        Self {
            engine: Engine::new(&engine_config()).unwrap(),
            cache,
            home,
        }
    }

    pub fn with_limits(limits: Limits) -> Self {
        let fixture = Self::new();
        Self {
            cache: fixture.cache.clone().with_limits(limits),
            ..fixture
        }
    }

    pub fn with_cache_limits(limits: CacheLimits) -> Self {
        let fixture = Self::new();
        Self {
            cache: fixture.cache.clone().with_cache_limits(limits),
            ..fixture
        }
    }

    /// A file beside the cache with this content, as a source without a known digest.
    pub fn source(&self, name: &str, content: impl AsRef<[u8]>) -> Source {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        source(&path)
    }

    pub fn compile(&self, content: impl AsRef<[u8]>) -> Result<Artifact, CompileError> {
        self.cache
            .get_or_compile(&self.engine, &self.source("app.wasm", content))
    }

    /// Compiles what must be refused; returns the message, after checking that nothing is left behind.
    pub fn refusal(&self, content: impl AsRef<[u8]>) -> CompileError {
        let error = self.compile(content).expect_err("this must not compile");
        assert_eq!(self.names(), [""; 0], "left behind after: {error}");
        error
    }

    /// The files in the cache's directory.
    pub fn names(&self) -> Vec<String> {
        names(&cache_dir(self.home.path()))
    }

    /// The path of the only entry.
    pub fn entry(&self) -> PathBuf {
        match &self.names()[..] {
            [name] => cache_dir(self.home.path()).join(name),
            names => panic!("expected one entry, found {names:?}"),
        }
    }

    pub fn answer(&self, artifact: Artifact) -> i32 {
        self.answer_of(&artifact.load(&self.engine).unwrap())
    }

    pub fn answer_of(&self, loaded: &Loaded) -> i32 {
        let Loaded::Core(module) = loaded else {
            panic!("expected a core module")
        };
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(1);
        let instance = Instance::new(&mut store, module, &[]).unwrap();
        instance
            .get_typed_func::<(), i32>(&mut store, "answer")
            .unwrap()
            .call(&mut store, ())
            .unwrap()
    }
}

pub fn open(home: &Path) -> Cache {
    Cache::new(&cache_dir(home), &home.join("stamps")).unwrap()
}

pub fn cache_dir(home: &Path) -> PathBuf {
    home.join("aot")
}

pub fn source(path: &Path) -> Source {
    Source {
        name: path.display().to_string(),
        file: File::open(path).unwrap(),
        expected: None,
    }
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

pub fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// A module that takes the compiler a while, some 20 ms for each of the `functions` on one core.
pub fn slow_module(functions: usize) -> Vec<u8> {
    let mut body = String::new();
    for step in 0..100 {
        body.push_str(&format!(
            "(local.set $a (i64.add (i64.mul (local.get $a) (local.get $b)) (i64.const {step})))\n\
             (if (i64.eqz (local.get $b)) (then (local.set $b (i64.xor (local.get $a) (i64.const {step})))))\n"
        ));
    }
    let function = format!("(func (param $a i64) (param $b i64) (result i64) {body} (local.get $a))\n");
    wasm(&format!("(module {})", function.repeat(functions)))
}

/// This program, to be run again with `arguments`.
pub fn this_program(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments);
    command
}
