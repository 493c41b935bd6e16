//! The node's cache of compiled code, through the shim.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tandem_integration::image::oci_artifact;
use tandem_integration::{Code, Containerd, Result, guests, on_both_generations};

use super::support::{import_file, import_guest, tandem};

/// The cache's finished entries.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(entries(&path));
        } else if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > 4096) {
            found.push(path);
        }
    }
    found
}

on_both_generations! {
    async fn one_compilation_serves_a_layer_and_a_file_alike(generation: Generation) -> Result<()> {
        let cache = tempfile::tempdir().unwrap();
        let ctd = Containerd::builder(generation).cache(cache.path()).start().await?;
        let file = import_guest(&ctd, "hello.wasm").await?;
        let layer = ctd.import(&oci_artifact("example.test/layer:1", &guests::bytes("hello.wasm")?)).await?;
        for image in [&file, &layer, &file] {
            let output = tandem(&ctd, image).args(["/hello.wasm"]).run_to_end().await?;
            assert_eq!(output.stdout, "hello from wasm\n", "{}", output.stderr);
            assert_eq!(entries(cache.path()).len(), 1);
        }
        ctd.stop().await
    }

    async fn a_bad_entry_is_discarded_and_rebuilt(generation: Generation) -> Result<()> {
        let cache = tempfile::tempdir().unwrap();
        let ctd = Containerd::builder(generation).cache(cache.path()).start().await?;
        let image = import_guest(&ctd, "hello.wasm").await?;
        tandem(&ctd, &image).run_to_end().await?;
        let spoil: [&dyn Fn(&Path); 4] = [
            &|path| {
                let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
                let middle = file.metadata().unwrap().len() / 2;
                let mut byte = [0];
                file.read_exact_at(&mut byte, middle).unwrap();
                file.write_all_at(&[!byte[0]], middle).unwrap();
            },
            &|path| {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2).unwrap();
            },
            &|path| std::os::unix::fs::chown(path, Some(1234), None).unwrap(),
            &|path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap(),
        ];
        for spoil in spoil {
            let [entry] = entries(cache.path()).try_into().unwrap();
            spoil(&entry);
            let output = tandem(&ctd, &image).run_to_end().await?;
            assert_eq!(output.stdout, "hello from wasm\n", "{}", output.stderr);
            let [entry] = entries(cache.path()).try_into().unwrap();
            let meta = std::fs::metadata(&entry).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&meta), 0);
            assert_eq!(meta.permissions().mode() & 0o022, 0);
        }
        ctd.stop().await
    }
    async fn a_failed_compilation_is_remembered_and_named(generation: Generation) -> Result<()> {
        let cache = tempfile::tempdir().unwrap();
        let ctd = Containerd::builder(generation).cache(cache.path()).start().await?;
        // Its function promises a number and returns none.
        let module = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b";
        let image = import_file(&ctd, "/app.wasm", module).await?;
        let mut messages = Vec::new();
        for _ in 0..2 {
            let container = tandem(&ctd, &image).create().await?;
            let error = container.task().await.unwrap_err();
            assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
            messages.push(error.to_string());
            container.remove().await?;
        }
        for message in &messages {
            assert!(message.contains("/app.wasm does not compile: ") && message.contains("type mismatch"), "{message}");
        }
        assert!(!messages[0].contains("is tried again in"), "{}", messages[0]);
        assert!(messages[1].contains("is tried again in"), "{}", messages[1]);
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0, "nothing is left in the cache");
        ctd.stop().await
    }

    async fn a_few_bytes_of_wasm_do_not_fill_the_cache(generation: Generation) -> Result<()> {
        let cache = tempfile::tempdir().unwrap();
        let ctd = Containerd::builder(generation).cache(cache.path()).start().await?;
        let memories: String = (0..14)
            .map(|memory| {
                format!(
                    r#"(memory 256) (data (memory {memory}) (i32.const 0) "x")
                       (data (memory {memory}) (i32.const 16777215) "y")"#
                )
            })
            .collect();
        let text = format!(r#"(module {memories} (func (export "_start")))"#);
        let image = import_file(&ctd, "/app.wat", text.as_bytes()).await?;
        let output = tandem(&ctd, &image).run_to_end().await?;
        assert_eq!(output.code, 0, "{}", output.stderr);
        let [entry] = entries(cache.path()).try_into().unwrap();
        assert!(entry.metadata().unwrap().len() < 1 << 20, "{}", entry.metadata().unwrap().len());
        ctd.stop().await
    }
}
