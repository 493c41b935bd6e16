//! An artifact is as little trusted as the compiler that wrote it.

use std::fs;

use nix::mount::{MsFlags, mount};
use tandem_aot::{Artifact, Loaded, ModuleKind};

use crate::fixture::{ANSWER, Fixture, keep_mounts_private, wasm};
use crate::mutation::{Ending, TRAILER, load_confined};

/// Tables, data, imports of its own, an exception-free call graph: something in each section.
const MODULE: &str = r#"(module
    (memory 2) (data (i32.const 8) "data of a module") (data $passive "more")
    (table 4 funcref) (elem (i32.const 1) $add $answer)
    (global $g (mut i32) (i32.const 7)) (type $binary (func (param i32 i32) (result i32)))
    (func $add (type $binary) local.get 0 local.get 1 i32.add)
    (func $answer (export "answer") (result i32) (call_indirect (type $binary) (i32.const 35) (global.get $g) (i32.const 1)))
    (func (export "trap") (drop (i32.div_u (i32.const 1) (i32.const 0)))))"#;
const COMPONENT: &str = r#"(component
    (core module $m (memory (export "m") 1) (data (i32.const 0) "x") (func (export "f") (result i32) i32.const 42))
    (core instance $i (instantiate $m)) (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
const TRIES: u64 = 250;

/// A generator of numbers that are the same every time.
struct Numbers(u64);

impl Numbers {
    /// The next number, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(number).unwrap() % bound.max(1)
    }
}

/// Changes `bytes` in one to eight places, some of them where images have their structure.
fn mutate(bytes: &mut [u8], numbers: &mut Numbers) {
    for _ in 0..=numbers.below(7) {
        let at = match numbers.below(3) {
            0 => numbers.below(bytes.len().min(64)),
            1 => bytes.len() - 1 - numbers.below(bytes.len().min(2048)),
            _ => numbers.below(bytes.len()),
        };
        match numbers.below(4) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][numbers.below(5)],
            2 => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            _ => {
                let end = (at + 1 + numbers.below(8)).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
        }
    }
}

fn entries() -> [(Fixture, Vec<u8>, ModuleKind, tandem_aot::Digest); 2] {
    [(MODULE, ModuleKind::Core), (COMPONENT, ModuleKind::Component)].map(|(text, kind)| {
        let fixture = Fixture::new();
        let digest = fixture.compile(wasm(text)).unwrap().digest();
        let bytes = fs::read(fixture.entry()).unwrap();
        (fixture, bytes, kind, digest)
    })
}

/// A subverted compiler writes what it likes, and the cache seals it.
pub fn a_mutated_artifact_harms_only_the_process_that_loads_it() {
    for (fixture, bytes, kind, digest) in entries() {
        assert_eq!(load_confined(&fixture.engine, &bytes, kind, digest), Ending::Loaded);
        let mut refused = 0;
        for seed in 1..=TRIES {
            let mut mutated = bytes.clone();
            let image = mutated.len() - TRAILER;
            mutate(&mut mutated[..image], &mut Numbers(seed * 0x9e37_79b9));
            let ending = load_confined(&fixture.engine, &mutated, kind, digest);
            assert!(!matches!(ending, Ending::Other(_)), "seed {seed}: {ending:?}");
            refused += u64::from(ending == Ending::Refused);
        }
        assert!(
            refused > TRIES / 10,
            "only {refused} of {TRIES} were noticed: is anything mutated at all?"
        );
        // The real one still works here: this process, its engine and the cache are as before.
        if kind == ModuleKind::Core {
            assert_eq!(fixture.answer(fixture.compile(wasm(MODULE)).unwrap()), 42);
        }
        assert_eq!(fs::read(fixture.entry()).unwrap(), bytes);
    }
}

/// Bounds, magic, kind, source and engine are checked before wasmtime sees the file.
pub fn a_mutated_trailer_is_always_refused() {
    for (fixture, bytes, kind, digest) in entries() {
        let described = bytes.len() - TRAILER..bytes.len() - 32;
        for at in described {
            let mut mutated = bytes.clone();
            mutated[at] ^= 1 << (at % 8);
            let ending = load_confined(&fixture.engine, &mutated, kind, digest);
            assert_eq!(ending, Ending::Refused, "at {at}");
        }
        for length in [0, 1, TRAILER - 1, TRAILER, bytes.len() / 2, bytes.len() - 1] {
            let ending = load_confined(&fixture.engine, &bytes[..length], kind, digest);
            assert_eq!(ending, Ending::Refused, "cut to {length}");
        }
        let other = match kind {
            ModuleKind::Core => ModuleKind::Component,
            ModuleKind::Component => ModuleKind::Core,
        };
        assert_eq!(load_confined(&fixture.engine, &bytes, other, digest), Ending::Refused);
        let foreign = tandem_aot::Digest::of(b"another module");
        assert_eq!(load_confined(&fixture.engine, &bytes, kind, foreign), Ending::Refused);
    }
}

pub fn code_is_loaded_in_a_process_without_a_trusted_procfs() {
    let fixture = Fixture::new();
    let core = || fixture.compile(ANSWER).unwrap();
    let component = || fixture.compile(wasm(COMPONENT)).unwrap();
    let (with_evil, with_real) = ([core(), component()], [core(), component()]);
    // As in a container whose image has its own idea of what /proc is.
    keep_mounts_private();
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::create_dir_all("/proc/self/fd").unwrap();
    for number in 0..64 {
        fs::write(format!("/proc/self/fd/{number}"), "evil").unwrap();
    }
    let before = std::env::current_dir().unwrap();
    let load = |artifact: Artifact| {
        let kind = artifact.kind();
        match artifact.load_confined(&fixture.engine).unwrap() {
            loaded @ Loaded::Core(_) => assert_eq!(fixture.answer_of(&loaded), 42),
            Loaded::Component(_) => assert_eq!(kind, ModuleKind::Component),
        }
        assert_eq!(std::env::current_dir().unwrap(), before);
    };
    with_evil.into_iter().for_each(load);
    nix::mount::umount("/proc").unwrap();
    with_real.into_iter().for_each(load);
}
