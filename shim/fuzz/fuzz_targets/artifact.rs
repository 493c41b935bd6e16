//! Compiled code that a subverted compiler may have written: mutated artifacts, loaded in a process of their own. Whatever
//! happens there, this process lives on; a hang ends with the child's limit of processor time.
#![no_main]

#[path = "../../aot/tests/compile/mutation.rs"]
mod mutation;

use std::io::{Read, Seek};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mutation::{Ending, TRAILER, load_confined};
use tandem_aot::{Digest, ModuleKind, engine_config, fuzzing};
use wasmtime::Engine;

/// A real entry of each kind, and what it is for.
struct Real {
    engine: Engine,
    entries: [(Vec<u8>, ModuleKind, Digest); 2],
}

static REAL: LazyLock<Real> = LazyLock::new(|| {
    let engine = Engine::new(&engine_config()).unwrap();
    let module = r#"(module (memory 1) (data (i32.const 0) "data") (table 1 funcref) (elem (i32.const 0) $f)
        (func $f (export "f") (result i32) (i32.load8_u (i32.const 0))))"#;
    let component = format!("(component (core {})", &module[1..]);
    let images = [
        (engine.precompile_module(module.as_bytes()).unwrap(), ModuleKind::Core),
        (
            engine.precompile_component(component.as_bytes()).unwrap(),
            ModuleKind::Component,
        ),
    ];
    let entries = images.map(|(image, kind)| {
        let digest = Digest::of(&image);
        let mut file = tempfile::tempfile().unwrap();
        fuzzing::seal(&file, &engine, &image, kind, digest).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        (bytes, kind, digest)
    });
    Real { engine, entries }
});

// The input is a list of changes, of five bytes each: where, how much to skip, and what to write.
fuzz_target!(|input: &[u8]| {
    let Some((which, changes)) = input.split_first() else {
        return;
    };
    let (bytes, kind, digest) = &REAL.entries[usize::from(which & 1)];
    let mut mutated = bytes.clone();
    // The trailer is the cache's own, which it writes when the compiler is dead. Half of the inputs change it all the same.
    let bound = if which & 2 == 0 {
        mutated.len() - TRAILER
    } else {
        mutated.len()
    };
    for change in changes.chunks_exact(5) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]);
        let at = usize::try_from(at).unwrap() % bound;
        mutated[at] = change[3] ^ change[4];
    }
    let ending = load_confined(&REAL.engine, &mutated, *kind, *digest);
    assert!(ending != Ending::Other(99), "the child could not be confined");
    assert!(
        mutated != *bytes || ending == Ending::Loaded,
        "the real artifact: {ending:?}"
    );
});
