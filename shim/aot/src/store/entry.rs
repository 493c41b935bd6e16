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

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;
use sha2::{Digest as _, Sha256};
use tandem_digest::{Digest, ModuleKind};
use wasmtime::Engine;

use super::detached;
use super::stamp::Stamps;
use crate::engine::Fingerprint;
use crate::source::read_full;

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

    /// What all names of the entry's files begin with.
    pub(crate) fn stem(&self) -> &str {
        &self.stem
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
        bytes[12..16].copy_from_slice(&number(kind).to_le_bytes());
        bytes[16..24].copy_from_slice(&length.to_le_bytes());
        bytes[24..56].copy_from_slice(self.digest.hash());
        bytes[56..88].copy_from_slice(self.fingerprint.as_bytes());
        bytes
    }
}

/// How a kind is written in a trailer.
fn number(kind: ModuleKind) -> u32 {
    match kind {
        ModuleKind::Core => 0,
        ModuleKind::Component => 1,
    }
}

/// What was found in the place of an entry.
#[derive(Debug)]
pub(crate) enum Found {
    Missing,
    /// A verified file, open for reading on a read-only mount of its own, and marked as in use.
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
        return give_out(&file, kind);
    }
    match verify(&file, metadata.len(), key)? {
        Ok(kind) => {
            if let Err(error) = stamps.write(&name, kind, &metadata) {
                tracing::warn!(entry = name, %error, "cannot remember that an entry is verified; it is hashed at every start");
            }
            give_out(&file, kind)
        }
        Err(why) => Ok(Found::Bad(why)),
    }
}

/// The file on a mount of its own, with a lease: a shared lock that lasts as long as anybody has this descriptor open or
/// the file mapped through it, in whatever process.
fn give_out(file: &File, kind: ModuleKind) -> io::Result<Found> {
    let file = detached::open(file)?;
    // A guest that left its sandbox may hold an exclusive lock on the code that it runs. Then nobody else can have a
    // lease, and waiting for one would be a way to stop the node.
    if let Err(TryLockError::Error(error)) = file.try_lock_shared() {
        return Err(error);
    }
    Ok(Found::Good(file, kind))
}

/// What the trailer says, once it says the right thing.
struct Described {
    kind: ModuleKind,
    /// Of the image, in bytes.
    length: u64,
    trailer: [u8; TRAILER],
}

/// Reads the trailer and compares it with what `key` asks for.
fn describe(file: &File, size: u64, key: &Key) -> io::Result<Result<Described, String>> {
    let Some(length) = size.checked_sub(TRAILER as u64).filter(|length| *length > 0) else {
        return Ok(Err(format!("it has only {size} bytes")));
    };
    let mut trailer = [0; TRAILER];
    if read_full(file, &mut trailer, length)? < TRAILER {
        return Ok(Err("it is not complete".into()));
    }
    let description = &trailer[..DESCRIPTION];
    let matching = |kind: &ModuleKind| description == key.description(*kind, length);
    Ok(match ModuleKind::ALL.into_iter().find(matching) {
        Some(kind) => Ok(Described { kind, length, trailer }),
        None if &description[..8] != MAGIC || description[16..24] != length.to_le_bytes() => {
            Err("it is not complete".into())
        }
        None if &description[24..56] != key.digest.hash() => Err("it was made from another source".into()),
        None => Err("it was made for another engine".into()),
    })
}

/// The length of the image in `file`, if its trailer says that it is one of this `kind` for `key`. The content is not
/// hashed: whoever asks this was given the file by a process that had done so.
pub(crate) fn image_length(file: &File, kind: ModuleKind, key: &Key) -> io::Result<Result<u64, String>> {
    let described = match describe(file, file.metadata()?.len(), key)? {
        Ok(described) => described,
        Err(why) => return Ok(Err(why)),
    };
    Ok(if described.kind == kind {
        Ok(described.length)
    } else {
        Err(format!("it is a {}, where a {kind} was expected", described.kind))
    })
}

/// Reads the whole file and compares it with its trailer.
fn verify(file: &File, size: u64, key: &Key) -> io::Result<Result<ModuleKind, String>> {
    let Described { kind, length, trailer } = match describe(file, size, key)? {
        Ok(described) => described,
        Err(why) => return Ok(Err(why)),
    };
    let (description, hash) = trailer.split_at(DESCRIPTION);
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
