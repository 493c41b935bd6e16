//! One process, one cache.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use tandem_aot::{Digest, Limits, Loaded, ModuleKind, engine_config};
use wasmtime::Engine;

use crate::fixture::{ANSWER, Fixture, cache_dir, digest, keep_mounts_private, names, wasm};

pub fn a_core_module_is_compiled_once_and_runs() {
    let fixture = Fixture::new();
    let first = fixture.compile(wasm(ANSWER)).unwrap();
    assert!(first.was_compiled());
    assert_eq!(first.kind(), ModuleKind::Core);
    assert_eq!(fixture.answer(first), 42);

    let entry = fs::metadata(fixture.entry()).unwrap();
    assert_eq!((entry.uid(), entry.mode() & 0o777), (0, 0o444));
    let second = fixture.compile(wasm(ANSWER)).unwrap();
    assert!(!second.was_compiled());
    assert_eq!(second.file().metadata().unwrap().ino(), entry.ino());
    assert_eq!(fixture.answer(second), 42);
}

pub fn text_format_is_compiled_too() {
    let fixture = Fixture::new();
    let artifact = fixture.compile(ANSWER).unwrap();
    assert_eq!(artifact.digest(), digest(ANSWER), "the key is what the image holds");
    assert_eq!(fixture.answer(artifact), 42);
}

pub fn a_component_is_compiled_and_loaded() {
    let fixture = Fixture::new();
    for content in [wasm("(component (core module))"), b"(component)".to_vec()] {
        let artifact = fixture.compile(content).unwrap();
        assert_eq!(artifact.kind(), ModuleKind::Component);
        assert!(matches!(artifact.load(&fixture.engine).unwrap(), Loaded::Component(_)));
    }
}

pub fn with_a_known_digest_a_hit_does_not_read_the_source() {
    let fixture = Fixture::new();
    fixture.compile(ANSWER).unwrap();
    let mut source = fixture.source("other", "not even wasm");
    source.expected = Some(digest(ANSWER));
    assert_eq!(
        fixture.answer(fixture.cache.get_or_compile(&fixture.engine, &source).unwrap()),
        42
    );
    assert!(fixture.cache.get(&fixture.engine, &digest(ANSWER)).unwrap().is_some());
    assert!(fixture.cache.get(&fixture.engine, &digest("other")).unwrap().is_none());
}

pub fn content_that_does_not_match_its_digest_is_refused() {
    let fixture = Fixture::new();
    let mut source = fixture.source("app.wasm", ANSWER);
    source.expected = Some(digest("something else"));
    let error = fixture.cache.get_or_compile(&fixture.engine, &source).unwrap_err();
    assert!(error.is_module_fault());
    assert!(error.to_string().contains(&digest(ANSWER).to_string()), "{error}");
    assert_eq!(fixture.names(), [""; 0]);
}

pub fn an_artifact_compiled_elsewhere_is_refused() {
    let fixture = Fixture::new();
    let artifact = fixture.engine.precompile_module(ANSWER.as_bytes()).unwrap();
    let error = fixture.refusal(artifact).to_string();
    assert!(
        error.contains("precompiled") && error.contains("push the .wasm"),
        "{error}"
    );
}

pub fn a_malformed_module_is_told_with_its_offset() {
    let fixture = Fixture::new();
    // A type section of one byte that promises one type.
    let error = fixture.refusal(b"\0asm\x01\0\0\0\x01\x01\x01");
    assert!(error.is_module_fault());
    assert!(error.to_string().contains("offset"), "{error}");
    // Valid in its form, wrong in its types.
    let error = fixture.refusal(wasm("(module (func (result i32)))"));
    assert!(error.to_string().contains("type mismatch"), "{error}");
    // Cut in the middle.
    let whole = wasm(ANSWER);
    let error = fixture.refusal(&whole[..whole.len() - 3]);
    assert!(error.to_string().contains("unexpected end"), "{error}");
}

pub fn malformed_text_is_told_with_its_line() {
    let fixture = Fixture::new();
    let error = fixture.refusal("(module\n  (fun))");
    assert!(error.is_module_fault());
    assert!(error.to_string().contains(":2:"), "{error}");
    fixture.refusal(b"(module \xff\xfe)");
    fixture.refusal("((((((((".repeat(100_000));
}

pub fn a_large_module_that_is_garbage_fails_fast() {
    let fixture = Fixture::new();
    let source = fixture.source("app.wasm", b"\0asm\x01\0\0\0\x2a\x2a\x2a");
    fs::File::options()
        .write(true)
        .open(fixture.home.path().join("app.wasm"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let begin = Instant::now();
    let error = fixture.cache.get_or_compile(&fixture.engine, &source).unwrap_err();
    assert!(error.to_string().contains("more than the 536870912 bytes"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

pub fn another_engine_gets_an_entry_of_its_own() {
    let fixture = Fixture::new();
    let ours = fixture.compile(ANSWER).unwrap();
    let mut config = engine_config();
    config.epoch_interruption(false);
    let other = Engine::new(&config).unwrap();
    assert!(fixture.cache.get(&other, &digest(ANSWER)).unwrap().is_none());
    let error = ours.load(&other).unwrap_err().to_string();
    assert!(
        error.contains(&digest(ANSWER).to_string()) && error.contains("another engine"),
        "{error}"
    );

    let source = fixture.source("app.wasm", ANSWER);
    assert!(fixture.cache.get_or_compile(&other, &source).unwrap().was_compiled());
    assert_eq!(fixture.names().len(), 2);
}

pub fn a_process_with_threads_does_not_fork() {
    let fixture = Fixture::new();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv());
    let error = fixture.refusal(ANSWER).to_string();
    assert!(error.contains("2 threads"), "{error}");
    drop(stop);
    thread.join().unwrap().unwrap_err();
}

pub fn a_full_disk_is_told_and_leaves_nothing() {
    let fixture = Fixture::new();
    keep_mounts_private();
    let dir = cache_dir(fixture.home.path());
    for size in ["4k", "8k", "12k"] {
        let options = format!("size={size},mode=700");
        mount(
            Some("tmpfs"),
            &dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        let error = fixture.refusal(ANSWER);
        assert!(!error.is_module_fault());
        let message = error.to_string();
        assert!(
            message.contains("no space left") && message.contains(".tmp"),
            "{message}"
        );
        umount(&dir).unwrap();
    }
}

pub fn a_collected_entry_can_still_be_used_by_who_has_it_and_is_built_anew() {
    let fixture = Fixture::new();
    let opened = fixture.compile(ANSWER).unwrap();
    fs::write(cache_dir(fixture.home.path()).join("killed.tmp"), "half").unwrap();
    fs::write(cache_dir(fixture.home.path()).join("killed.lock"), "").unwrap();
    let stamps = fixture.home.path().join("stamps");
    fs::write(stamps.join("gone.cwasm"), "").unwrap();
    let young = fixture.cache.collect(0, Duration::from_secs(3600)).unwrap();
    assert_eq!((young.removed, young.kept), (0, 1), "it is too young");

    std::thread::sleep(Duration::from_millis(20));
    let leased = fixture.cache.collect(0, Duration::ZERO).unwrap();
    assert_eq!((leased.removed, leased.kept), (0, 1), "it is in use");
    opened.file().unlock().unwrap();
    let collected = fixture.cache.collect(0, Duration::ZERO).unwrap();
    assert_eq!((collected.removed, collected.kept, collected.kept_bytes), (1, 0, 0));
    assert_eq!(collected.removed_bytes, young.kept_bytes);
    assert_eq!(fixture.names(), [""; 0]);
    assert_eq!(names(&stamps), ["collector", "slot.0"]);
    assert_eq!(fixture.answer(opened), 42);
    assert!(fixture.compile(ANSWER).unwrap().was_compiled());
}

pub fn the_least_recently_used_entry_is_collected_first() {
    let fixture = Fixture::with_limits(Limits {
        threads: 1,
        ..Limits::default()
    });
    let texts = ["(module)", "(module (func))", "(module (func) (func))"];
    let mut sizes = Vec::new();
    for text in texts {
        sizes.push(fixture.compile(text).unwrap().file().metadata().unwrap().len());
        std::thread::sleep(Duration::from_millis(20));
    }
    let find = |text: &str| {
        fixture
            .cache
            .get(&fixture.engine, &Digest::of(text.as_bytes()))
            .unwrap()
    };
    assert!(find(texts[0]).is_some(), "the oldest is used again");
    std::thread::sleep(Duration::from_millis(20));
    let collected = fixture.cache.collect(sizes[0] + sizes[2], Duration::ZERO).unwrap();
    assert_eq!((collected.removed, collected.removed_bytes), (1, sizes[1]));
    assert!(find(texts[0]).is_some() && find(texts[1]).is_none() && find(texts[2]).is_some());
    // Others may look, but a cache that others may change is not used.
    let dir = cache_dir(fixture.home.path());
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    let error = tandem_aot::Cache::new(&dir, &fixture.home.path().join("stamps"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("mode 777"), "{error}");
}
