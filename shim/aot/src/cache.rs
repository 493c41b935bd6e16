//! Finding an entry, or making it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::unistd::geteuid;
use wasmtime::Engine;

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::entry::{self, Found, Key};
use crate::error::{CacheError, CompileError};
use crate::limits::Limits;
use crate::lock::{self, Lock, Turn};
use crate::source::{Format, Source};
use crate::stamp::Stamps;
use crate::worker;

/// The compiled code of this node. Any number of processes may use the same directories at the same time.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(crate) dir: PathBuf,
    pub(crate) stamps: Stamps,
    limits: Limits,
}

impl Cache {
    /// Opens the cache in `dir` (`/var/lib/tandem/aot`), with its stamps in `stamps`, which must not survive a boot
    /// (`/run/tandem/aot`). Both are made if they do not exist.
    ///
    /// # Errors
    /// When a directory cannot be made, or is not one that only this user can write.
    pub fn new(dir: &Path, stamps: &Path) -> Result<Self, CacheError> {
        private_directory(dir)?;
        private_directory(stamps)?;
        Ok(Self {
            dir: dir.to_owned(),
            stamps: Stamps::new(stamps),
            limits: Limits::default(),
        })
    }

    /// The same cache with other limits for what it compiles.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Looks for the code of the module `digest` for `engine`. A bad entry is removed and counts as missing.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn get(&self, engine: &Engine, digest: &Digest) -> Result<Option<Artifact>, CacheError> {
        self.find(&Key::new(engine, *digest))
    }

    /// Looks for the code of `source` and compiles it if need be, in a confined worker that is forked.
    ///
    /// Blocks for as long as that takes, or as another process takes for the same module; both are bounded by
    /// [`Limits::wall`]. Call it in a single-threaded process that no one else waits for the children of.
    ///
    /// # Errors
    /// When the module is refused or does not compile ([`CompileError::is_module_fault`]), or when something on this
    /// node is in the way.
    pub fn get_or_compile(&self, engine: &Engine, source: &Source) -> Result<Artifact, CompileError> {
        if let Some(expected) = &source.expected
            && let Some(hit) = self.get(engine, expected)?
        {
            return Ok(hit);
        }
        let (format, size) = source.inspect(&self.limits)?;
        let bytes = source.read(size)?;
        let digest = Digest::of(&bytes);
        let key = Key::new(engine, digest);
        match source.expected {
            Some(expected) if expected != digest => {
                return Err(CompileError::DigestMismatch {
                    name: source.name.clone(),
                    expected,
                    actual: digest,
                });
            }
            Some(_) => {}
            None => {
                if let Some(hit) = self.find(&key)? {
                    return Ok(hit);
                }
            }
        }
        self.wait_or_compile(engine, source, format, &bytes, &key)
    }

    /// Compiles, unless another process does so at the same time.
    fn wait_or_compile(
        &self,
        engine: &Engine,
        source: &Source,
        format: Format,
        bytes: &[u8],
        key: &Key,
    ) -> Result<Artifact, CompileError> {
        let path = key.path(&self.dir, entry::LOCK);
        let start = Instant::now();
        loop {
            match lock::acquire(&path, start + self.limits.wall).map_err(CacheError::io("lock", &path))? {
                Turn::Mine(lock) => {
                    // Between the look and the lock another process may have finished.
                    if let Some(hit) = self.find(key)? {
                        return Ok(hit);
                    }
                    let result = self.compile(engine, source, format, bytes, key);
                    match &result {
                        Ok(_) => drop(lock),
                        Err(error) => announce(lock, error),
                    }
                    return result;
                }
                Turn::Done => {
                    if let Some(hit) = self.find(key)? {
                        return Ok(hit);
                    }
                }
                Turn::Failed(announced) => return Err(elsewhere(&announced)),
                Turn::TimedOut => {
                    return Err(CompileError::Busy {
                        name: source.name.clone(),
                        waited: start.elapsed(),
                    });
                }
            }
        }
    }

    /// Compiles and publishes the entry of `key`, whose lock the caller holds.
    fn compile(
        &self,
        engine: &Engine,
        source: &Source,
        format: Format,
        bytes: &[u8],
        key: &Key,
    ) -> Result<Artifact, CompileError> {
        let start = Instant::now();
        let temporary = Temporary::create(key.path(&self.dir, entry::TEMPORARY))?;
        let job = worker::Job {
            engine,
            name: &source.name,
            bytes,
            format,
            output: &temporary.file,
            limits: &self.limits,
        };
        let kind = worker::compile(&job)?;
        // The worker is gone and could not leave a process behind: what is hashed now stays as it is.
        entry::seal(&temporary.file, key, kind).map_err(CacheError::io("complete", &temporary.path))?;
        self.publish(temporary, key)?;
        let mut artifact = self.find(key)?.ok_or_else(|| {
            let gone = io::Error::other("it vanished or was changed right after it was written");
            CacheError::io("open", &key.path(&self.dir, entry::ENTRY))(gone)
        })?;
        artifact.compiled = true;
        tracing::info!(
            module = source.name,
            digest = %key.digest,
            bytes = bytes.len(),
            seconds = start.elapsed().as_secs_f64(),
            "compiled"
        );
        Ok(artifact)
    }

    /// Gives a sealed file its name: whole and on disk, or not at all.
    pub(crate) fn publish(&self, temporary: Temporary, key: &Key) -> Result<(), CacheError> {
        let path = key.path(&self.dir, entry::ENTRY);
        let file = &temporary.file;
        // Readable by all, since a guest that has already changed its user maps it through its descriptor; the
        // directory keeps others from finding it.
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(CacheError::io("protect", &temporary.path))?;
        file.sync_all().map_err(CacheError::io("sync", &temporary.path))?;
        fs::rename(&temporary.path, &path).map_err(CacheError::io("publish", &path))?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(CacheError::io("sync", &self.dir))
    }

    fn find(&self, key: &Key) -> Result<Option<Artifact>, CacheError> {
        let path = || key.path(&self.dir, entry::ENTRY);
        match entry::open(&self.dir, &self.stamps, key) {
            Ok(Found::Missing) => Ok(None),
            Ok(Found::Good(file, kind)) => Ok(Some(Artifact {
                file,
                kind,
                digest: key.digest,
                compiled: false,
            })),
            Ok(Found::Bad(why)) => {
                let path = path();
                tracing::warn!(entry = %path.display(), why, "removed a bad entry; its module is compiled anew");
                self.stamps.remove(&key.name());
                match fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(CacheError::io("remove the bad entry", &path)(error))
                    }
                    _ => Ok(None),
                }
            }
            Err(error) => Err(CacheError::io("read", &path())(error)),
        }
    }
}

/// An entry that is being written; removed when dropped before it was published.
pub(crate) struct Temporary {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

impl Temporary {
    /// Creates the file at `path`. The caller holds the lock of the same name, so one that exists was left behind by
    /// a process that was killed.
    pub(crate) fn create(path: PathBuf) -> Result<Self, CacheError> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CacheError::io("remove the left-over", &path)(error));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        Ok(Self {
            file: file.map_err(CacheError::io("create", &path))?,
            path,
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes `path` if it does not exist, and checks that only this user can change what is in it.
fn private_directory(path: &Path) -> Result<(), CacheError> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(CacheError::io("create", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(CacheError::io("create", path)(error));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(CacheError::io("examine", path))?;
    let unsafe_directory = |why: String| {
        Err(CacheError::UnsafeDirectory {
            path: path.to_owned(),
            why,
        })
    };
    if !metadata.is_dir() {
        return unsafe_directory("it is not a directory".into());
    }
    if metadata.uid() != geteuid().as_raw() {
        return unsafe_directory(format!("it belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return unsafe_directory(format!("others may write to it (mode {:o})", metadata.mode() & 0o7777));
    }
    Ok(())
}

const MODULE_FAULT: u8 = b'M';
const NODE_FAULT: u8 = b'N';

/// Tells the waiting processes why this one has failed.
fn announce(lock: Lock, error: &CompileError) {
    let mut text = vec![if error.is_module_fault() {
        MODULE_FAULT
    } else {
        NODE_FAULT
    }];
    text.extend_from_slice(error.to_string().as_bytes());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.extend_from_slice(format!(": {error}").as_bytes());
        cause = error.source();
    }
    lock.fail(&text);
}

/// The error that another process has announced.
fn elsewhere(announced: &[u8]) -> CompileError {
    let (fault, reason) = announced.split_first().unwrap_or((&NODE_FAULT, &[]));
    CompileError::Elsewhere {
        reason: String::from_utf8_lossy(reason).into_owned(),
        module_fault: *fault == MODULE_FAULT,
    }
}
