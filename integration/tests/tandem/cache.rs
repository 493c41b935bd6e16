//! The node's cache of compiled code, through the shim.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tandem_integration::image::oci_artifact;
use tandem_integration::{Containerd, Result, guests, on_both_generations};

use super::support::{import_guest, tandem};

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
}
