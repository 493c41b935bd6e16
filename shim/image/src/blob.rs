//! The module's bytes: opened where they lie, or fetched, and always what their digest says.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

use tandem_digest::Hasher;

use crate::content::{self, Roots};
use crate::link::{Blob, Link};
use crate::{Digest, ImageError, WasmLayer};

/// Opens a layer read-only at offset 0, verified against its digest.
pub async fn open(link: &Link, roots: Option<&Roots>, layer: &WasmLayer) -> Result<File, ImageError> {
    if let Some((file, size)) = roots.and_then(|roots| roots.open(&layer.digest)) {
        return verified(file, size, layer.clone()).await;
    }
    match link.read(&layer.digest).await? {
        Some(blob) => spool(blob, layer).await,
        None => Err(ImageError::ContentMissing {
            image: layer.image.clone(),
            digest: layer.digest,
        }),
    }
}

/// Hashes a file of the content store. Hundreds of megabytes may have to be read, so this is not done on the thread
/// that serves every other call.
async fn verified(file: File, size: u64, layer: WasmLayer) -> Result<File, ImageError> {
    let aborted = io_error(&layer, "hash the content");
    let work = move || {
        check_size(&layer, size)?;
        let digest = content::digest_of(&file).map_err(io_error(&layer, "read the content store"))?;
        check_digest(&layer, &digest)?;
        Ok(file)
    };
    // A thread of its own and not of tokio's pool, which panics where the node has no thread left.
    let (done, hashed) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().spawn(move || drop(done.send(work())));
    match started {
        Ok(_) => hashed.await.unwrap_or_else(|e| Err(aborted(io::Error::other(e)))),
        Err(error) => Err(aborted(error)),
    }
}

/// Copies a layer out of a content store that is not a directory here, into a file without a name.
async fn spool(mut blob: Blob, layer: &WasmLayer) -> Result<File, ImageError> {
    let mut file = tempfile::tempfile().map_err(io_error(layer, "create a temporary file"))?;
    let mut hash = Hasher::new();
    let mut size = 0;
    while let Some(part) = blob.next().await? {
        size += part.len() as u64;
        // The size was checked against the limit: never write more than was promised.
        if size > layer.size {
            break;
        }
        hash.update(&part);
        file.write_all(&part)
            .map_err(io_error(layer, "write a temporary file"))?;
    }
    check_size(layer, size)?;
    check_digest(layer, &hash.finish())?;
    // Opened again, because the first descriptor can write and its offset is at the end.
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(io_error(layer, "reopen a temporary file"))
}

fn check_size(layer: &WasmLayer, size: u64) -> Result<(), ImageError> {
    if size == layer.size {
        return Ok(());
    }
    Err(corrupt(
        layer,
        format!("{size} bytes where the manifest says {}", layer.size),
    ))
}

fn check_digest(layer: &WasmLayer, digest: &Digest) -> Result<(), ImageError> {
    if *digest == layer.digest {
        return Ok(());
    }
    Err(corrupt(layer, format!("its digest is {digest}")))
}

fn corrupt(layer: &WasmLayer, reason: String) -> ImageError {
    ImageError::Corrupt {
        image: layer.image.clone(),
        digest: layer.digest,
        reason,
    }
}

fn io_error(layer: &WasmLayer, action: &'static str) -> impl FnOnce(io::Error) -> ImageError + use<> {
    let (image, digest) = (layer.image.clone(), layer.digest);
    move |source| ImageError::Io {
        image,
        digest,
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn verify(content: &[u8], size: u64, digest: Digest) -> Result<File, ImageError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        std::fs::write(&path, content).unwrap();
        let layer = WasmLayer {
            digest,
            size,
            media_type: "application/wasm".into(),
            image: "img".into(),
            spin: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let length = content.len() as u64;
        runtime.block_on(verified(File::open(path).unwrap(), length, layer))
    }

    #[test]
    fn content_is_handed_out_only_with_the_size_and_the_digest_of_the_manifest() {
        assert!(verify(b"module", 6, Digest::of(b"module")).is_ok());
        for (size, digest, reason) in [
            (7, Digest::of(b"module"), "6 bytes where the manifest says 7"),
            (6, Digest::of(b"other!"), &Digest::of(b"module").to_string()),
        ] {
            let error = verify(b"module", size, digest).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            let text = error.to_string();
            assert!(text.contains(reason) && text.contains(&digest.to_string()), "{text}");
            assert!(text.contains("img") && text.contains("pull it again"), "{text}");
        }
    }
}
