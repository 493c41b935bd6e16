//! Bad input of every kind: Create fails within a second, with the right code and a message that helps, and
//! nothing is left.

use std::time::{Duration, Instant};

use prost_types::Any;
use tandem_integration::image::{Blob, Compression, ImageBuilder, Platform, Rootfs, media};
use tandem_integration::{Code, ContainerBuilder, Containerd, Error, Result, guests, on_both_generations};

use super::support::{import_file, tandem, with_busybox, with_guest};

/// A moment, with room for a machine that is busy with other tests.
const AT_ONCE: Duration = Duration::from_secs(20);

fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any {
        type_url: type_url.into(),
        value,
    }
}

/// Tries to create a task of it; answers the refusal.
async fn refused(builder: ContainerBuilder) -> Result<Error> {
    let container = builder.create().await?;
    let began = Instant::now();
    let refusal = match container.task().await {
        Ok(_) => panic!("the task was created"),
        Err(error) => error,
    };
    assert!(began.elapsed() < AT_ONCE, "it took {:?}: {refusal}", began.elapsed());
    container.remove().await?;
    Ok(refusal)
}

fn assert_says(refusal: &Error, code: Code, parts: &[&str]) {
    let message = refusal.message();
    assert_eq!(refusal.code(), Some(code), "{message}");
    for part in parts {
        assert!(
            message.to_lowercase().contains(&part.to_lowercase()),
            "\"{part}\" is not in: {message}"
        );
    }
}

on_both_generations! {
    async fn a_module_that_is_none_is_refused(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let hello = guests::bytes("hello.wasm")?;
        let cases: [(&[u8], &str); 4] = [
            (b"", "empty"),
            (&hello[..hello.len() / 2], "/app.wasm"),
            (b"#!/bin/sh\necho hi", "/app.wasm"),
            (b"\x7fELF\x02\x01\x01\x00garbage-garbage-garbage", "/app.wasm"),
        ];
        for (content, part) in cases {
            let image = import_file(&ctd, "/app.wasm", content).await?;
            let refusal = refused(tandem(&ctd, &image)).await?;
            assert_says(&refusal, Code::InvalidArgument, &["/app.wasm", part]);
        }
        ctd.stop().await
    }

    async fn a_missing_entrypoint_is_named(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        for name in ["/missing.wasm", "/bin/missing", "missing"] {
            let refusal = refused(tandem(&ctd, &image).args([name])).await?;
            assert_says(&refusal, Code::NotFound, &[name, "entrypoint"]);
        }
        ctd.stop().await
    }

    async fn a_gigabyte_of_garbage_is_refused_at_once(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let garbage = ctd.home().dir.join("garbage.wasm");
        let file = std::fs::File::create(&garbage).unwrap();
        std::io::Write::write_all(&mut &file, b"\0asm\x01\0\0\0garbage").unwrap();
        file.set_len(1 << 30).unwrap();
        let refusal = refused(tandem(&ctd, &image).bind(&garbage, "/g.wasm", false).args(["/g.wasm"])).await?;
        assert_says(&refusal, Code::InvalidArgument, &["/g.wasm"]);
        ctd.stop().await
    }

    async fn an_unknown_import_and_a_missing_export_are_named(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "bad-import.wasm").await?;
        let refusal = refused(tandem(&ctd, &image)).await?;
        assert_says(&refusal, Code::InvalidArgument, &["nowhere", "missing"]);
        let image = crate::support::import_guest(&ctd, "no-start.wasm").await?;
        let refusal = refused(tandem(&ctd, &image)).await?;
        assert_says(&refusal, Code::InvalidArgument, &["_start", "greet"]);
        let refusal = refused(tandem(&ctd, &image).args(["/no-start.wasm#nothing"])).await?;
        assert_says(&refusal, Code::InvalidArgument, &["nothing"]);
        ctd.stop().await
    }

    async fn a_component_of_another_world_is_refused(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "odd-world.wat").await?;
        let refusal = refused(tandem(&ctd, &image)).await?;
        assert_says(&refusal, Code::InvalidArgument, &["wasi:cli/run", "wasi:http/incoming-handler"]);
        ctd.stop().await
    }

    async fn an_empty_or_absent_entrypoint_is_refused(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let refusal = refused(tandem(&ctd, &image).args([""])).await?;
        assert_says(&refusal, Code::InvalidArgument, &["args"]);
        let refusal = refused(tandem(&ctd, &image).args(Vec::<String>::new())).await?;
        assert_says(&refusal, Code::InvalidArgument, &["args"]);
        ctd.stop().await
    }

    async fn layers_that_cannot_be_run_are_named(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let wasm = guests::bytes("hello.wasm")?;
        let base = || {
            let platform = Platform::new("wasi", "wasm");
            ImageBuilder::new("example.test/odd:1").platform(platform).entrypoint(["app"])
        };
        let two = base()
            .layer(Blob::new(media::WASM, wasm.clone()))
            .layer(Blob::new(media::WASM, guests::bytes("exit7.wasm")?))
            .build();
        let refusal = refused(tandem(&ctd, &ctd.import(&two).await?)).await?;
        assert_says(&refusal, Code::InvalidArgument, &["sha256:"]);
        let odd = base().layer(Blob::new("application/vnd.example.odd+wasm", wasm)).build();
        let refusal = refused(tandem(&ctd, &ctd.import(&odd).await?)).await?;
        assert_says(&refusal, Code::InvalidArgument, &["application/vnd.example.odd+wasm"]);
        ctd.stop().await
    }

    async fn a_spec_that_is_no_spec_is_refused(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "hello.wasm").await?;
        let no_process = r#"{"ociVersion": "1.1.0", "root": {"path": "rootfs"}, "linux": {}}"#;
        let refusal = refused(tandem(&ctd, &image).raw_spec(no_process)).await?;
        assert_says(&refusal, Code::InvalidArgument, &["config.json", "process"]);
        // containerd 2.x reads it first and has an error of its own.
        let refusal = refused(tandem(&ctd, &image).raw_spec("{\"ociVersion\": 7}")).await?;
        assert!(refusal.message().contains("ociVersion") || refusal.message().contains("config.json"), "{refusal}");
        for hooks in ["{}", r#"{"poststop": []}"#] {
            let hooks: serde_json::Value = serde_json::from_str(hooks).unwrap();
            let output = tandem(&ctd, &image).edit(|spec| spec["hooks"] = hooks).run_to_end().await?;
            assert_eq!(output.code, 0, "{}", output.stderr);
        }
        ctd.stop().await
    }

    async fn unknown_runtime_options_are_refused(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "hello.wasm").await?;
        let container = tandem(&ctd, &image).create().await?;
        // A type that containerd knows and a runtime cannot; not empty, since containerd 1.7 takes that for none.
        let options = any("containerd.events.TaskCreate", b"\x0a\x01x".to_vec());
        let refusal = container.task_with(|request| request.options = Some(options)).await;
        let Err(refusal) = refusal else { panic!("the task was created") };
        // containerd 2.x refuses it itself.
        let message = refusal.message();
        assert!(message.contains("containerd.events.TaskCreate") || message.contains("create option"), "{message}");
        container.remove().await?;
        // A field that nobody knows, in the TOML body of the runtime's own options.
        let toml = b"\x1a\x08Frob = 1".to_vec();
        let options = any("runtimeoptions.v1.Options", toml);
        let refusal = refused(tandem(&ctd, &image).runtime_options(options)).await?;
        assert_says(&refusal, Code::InvalidArgument, &["Frob", "SystemdCgroup"]);
        ctd.stop().await
    }

    async fn a_file_layer_with_a_corrupt_module_leaves_nothing(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let mut hello = guests::bytes("hello.wasm")?;
        let last = hello.len() - 1;
        hello[last] ^= 0xff;
        hello.truncate(last);
        let files = Rootfs::new().file("/a.wasm", 0o644, &hello);
        let layout = ImageBuilder::new("example.test/corrupt:1")
            .files(&files, Compression::default())?
            .entrypoint(["/a.wasm"])
            .build();
        let refusal = refused(tandem(&ctd, &ctd.import(&layout).await?)).await?;
        assert_says(&refusal, Code::InvalidArgument, &["/a.wasm"]);
        ctd.stop().await
    }
}
