//! The file format of a cache entry, and its verification.
//!
//! An entry is wasmtime's artifact (an ELF image) followed by a trailer of fixed size. The image comes first so that
//! wasmtime can map the file as it is: it finds all it needs through the ELF header and never looks behind the last
//! section. The trailer says what the image is and carries a hash over all that precedes the hash:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | magic `TNDM-AOT` |
//! | 4 | version of this format, little-endian |
//! | 4 | 0 for a core module, 1 for a component, little-endian |
//! | 8 | length of the image, little-endian |
//! | 32 | SHA-256 of the source |
//! | 32 | the engine's fingerprint |
//! | 32 | SHA-256 of the image and the 88 bytes above |

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::digest::Digest;
use crate::engine::Fingerprint;
use crate::source::{ModuleKind, read_full};
use crate::stamp::Stamps;

const MAGIC: &[u8; 8] = b"TNDM-AOT";
const VERSION: u32 = 1;
const DESCRIPTION: usize = 88;
const TRAILER: usize = DESCRIPTION + 32;

/// What an entry is for, and how its files are named.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) digest: Digest,
    fingerprint: Fingerprint,
    stem: String,
}

/// Ends the name of a finished entry.
pub(crate) const ENTRY: &str = "cwasm";
/// Ends the name of an entry that is being written, by the holder of the lock of the same name.
pub(crate) const TEMPORARY: &str = "tmp";
/// Ends the name of the lock that is held to make an entry.
pub(crate) const LOCK: &str = "lock";

impl Key {
    pub(crate) fn new(engine: &Engine, digest: Digest) -> Self {
        let fingerprint = Fingerprint::of(engine);
        let stem = format!("{}.{}", digest.hex(), fingerprint.short());
        Self {
            digest,
            fingerprint,
            stem,
        }
    }

    /// The name of the entry's file, and of its stamp.
    pub(crate) fn name(&self) -> String {
        format!("{}.{ENTRY}", self.stem)
    }

    /// The path in `dir` of the file with this `suffix`.
    pub(crate) fn path(&self, dir: &Path, suffix: &str) -> PathBuf {
        dir.join(format!("{}.{suffix}", self.stem))
    }

    fn description(&self, kind: ModuleKind, length: u64) -> [u8; DESCRIPTION] {
        let mut bytes = [0; DESCRIPTION];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(kind as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&length.to_le_bytes());
        bytes[24..56].copy_from_slice(self.digest.as_bytes());
        bytes[56..88].copy_from_slice(self.fingerprint.as_bytes());
        bytes
    }
}

/// What was found in the place of an entry.
#[derive(Debug)]
pub(crate) enum Found {
    Missing,
    /// A verified file, open for reading.
    Good(File, ModuleKind),
    /// Something that must not be used, and why.
    Bad(String),
}

/// Appends the trailer to the image in `file`, which then is a complete entry. Nobody else may write to `file`.
pub(crate) fn seal(file: &File, key: &Key, kind: ModuleKind) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut hasher = Sha256::new();
    hash_image(file, length, &mut hasher)?;
    let description = key.description(kind, length);
    hasher.update(description);
    let mut trailer = [0; TRAILER];
    trailer[..DESCRIPTION].copy_from_slice(&description);
    trailer[DESCRIPTION..].copy_from_slice(&hasher.finalize());
    file.write_all_at(&trailer, length)
}

/// Opens the entry of `key` in `dir` and verifies it: by its stamp where that matches, else in full.
pub(crate) fn open(dir: &Path, stamps: &Stamps, key: &Key) -> io::Result<Found> {
    // Neither a link nor a pipe may be followed or waited for, though nobody but root can put one here.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(key.path(dir, ENTRY));
    let file = match opened {
        Ok(file) => file,
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => return Ok(Found::Missing),
            Some(Errno::ELOOP | Errno::ENXIO) => return Ok(Found::Bad("it is not a regular file".into())),
            _ => return Err(error),
        },
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Found::Bad("it is not a regular file".into()));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Ok(Found::Bad(format!("it belongs to user {}", metadata.uid())));
    }
    if metadata.mode() & 0o022 != 0 {
        return Ok(Found::Bad(format!(
            "others may write to it (mode {:o})",
            metadata.mode() & 0o7777
        )));
    }
    let name = key.name();
    if let Some(kind) = stamps.verified(&name, &metadata) {
        stamps.touch(&name);
        return Ok(Found::Good(file, kind));
    }
    match verify(&file, metadata.len(), key)? {
        Ok(kind) => {
            if let Err(error) = stamps.write(&name, kind, &metadata) {
                tracing::warn!(entry = name, %error, "cannot remember that an entry is verified; it is hashed at every start");
            }
            Ok(Found::Good(file, kind))
        }
        Err(why) => Ok(Found::Bad(why)),
    }
}

/// Reads the whole file and compares it with its trailer.
fn verify(file: &File, size: u64, key: &Key) -> io::Result<Result<ModuleKind, String>> {
    let Some(length) = size.checked_sub(TRAILER as u64).filter(|length| *length > 0) else {
        return Ok(Err(format!("it has only {size} bytes")));
    };
    let mut trailer = [0; TRAILER];
    read_full(file, &mut trailer, length)?;
    let (description, hash) = trailer.split_at(DESCRIPTION);
    let matching = |kind: &ModuleKind| description == key.description(*kind, length);
    let Some(kind) = [ModuleKind::Core, ModuleKind::Component].into_iter().find(matching) else {
        let why = if &description[..8] != MAGIC || description[16..24] != length.to_le_bytes() {
            "it is not complete"
        } else if &description[24..56] != key.digest.as_bytes() {
            "it was made from another source"
        } else {
            "it was made for another engine"
        };
        return Ok(Err(why.into()));
    };
    let mut hasher = Sha256::new();
    hash_image(file, length, &mut hasher)?;
    hasher.update(description);
    let actual: [u8; 32] = hasher.finalize().into();
    Ok(if actual == hash {
        Ok(kind)
    } else {
        Err("its content does not have the recorded hash".into())
    })
}

fn hash_image(file: &File, length: u64, hasher: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut position = 0;
    while position < length {
        let wanted = usize::try_from(length - position).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = read_full(file, &mut buffer[..wanted], position)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..count]);
        position += count as u64;
    }
    Ok(())
}
