//! The content store's own files: reading them spares a round trip per document and a copy of the module.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use tandem_digest::{Digest, Hasher};

/// Bytes hashed at a time: fits in a second-level cache.
const CHUNK: usize = 256 << 10;

/// Directories of the content stores that containerd keeps on this node. Whether one really holds a blob is decided by
/// the blob's digest, so a wrong directory costs time, never correctness.
#[derive(Debug, Default)]
pub struct Roots(pub Vec<PathBuf>);

impl Roots {
    /// Opens a blob read-only, if one of the stores has it as a regular file.
    pub fn open(&self, digest: &Digest) -> Option<(File, u64)> {
        self.0.iter().find_map(|root| {
            let file = OpenOptions::new()
                .read(true)
                // A blob is never a link; and never wait for somebody to write into a FIFO.
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(root.join("blobs/sha256").join(digest.hex()))
                .ok()?;
            let metadata = file.metadata().ok()?;
            metadata.is_file().then_some((file, metadata.len()))
        })
    }
}

/// Reads a whole small file, at most `limit` bytes.
pub fn read_all(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Digest of a file's content, read without moving its offset.
pub fn digest_of(file: &File) -> io::Result<Digest> {
    let mut hash = Hasher::new();
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        match file.read_at(&mut chunk, offset) {
            Ok(0) => return Ok(hash.finish()),
            Ok(n) => {
                hash.update(&chunk[..n]);
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    fn root_with(content: &[u8]) -> (tempfile::TempDir, Roots, Digest) {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(content);
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        std::fs::write(dir.path().join("blobs/sha256").join(digest.hex()), content).unwrap();
        let roots = Roots(vec![dir.path().join("absent"), dir.path().to_owned()]);
        (dir, roots, digest)
    }

    #[test]
    fn a_blob_is_opened_from_the_first_store_that_has_it_and_hashed_in_place() {
        let content = vec![7; CHUNK + 1];
        let (_dir, roots, digest) = root_with(&content);
        let (mut file, size) = roots.open(&digest).unwrap();
        assert_eq!((size, digest_of(&file).unwrap()), (content.len() as u64, digest));
        assert_eq!(file.stream_position().unwrap(), 0);
        assert_eq!(read_all(file, 3).unwrap(), [7, 7, 7]);
        assert!(roots.open(&Digest::of(b"other")).is_none());
    }

    #[test]
    fn a_blob_that_is_a_link_or_no_file_is_not_opened() {
        let (dir, roots, digest) = root_with(b"x");
        let blobs = dir.path().join("blobs/sha256");
        let (link, fifo, directory) = (Digest::of(b"link"), Digest::of(b"fifo"), Digest::of(b"dir"));
        std::os::unix::fs::symlink(blobs.join(digest.hex()), blobs.join(link.hex())).unwrap();
        nix::unistd::mkfifo(&blobs.join(fifo.hex()), nix::sys::stat::Mode::S_IRUSR).unwrap();
        std::fs::create_dir(blobs.join(directory.hex())).unwrap();
        for digest in [link, fifo, directory] {
            assert!(roots.open(&digest).is_none());
        }
    }
}
