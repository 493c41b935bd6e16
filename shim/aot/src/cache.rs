//! Finding an entry, or making it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use tandem_digest::Digest;
use wasmtime::Engine;

use crate::error::{Blame, CacheError, CompileError, chain};
use crate::limits::Limits;
use crate::load::Artifact;
use crate::quota::CacheLimits;
use crate::requester::Requester;
use crate::source::{Format, Source};
use crate::store::entry::{self, Found, Key};
use crate::store::failures::Failures;
use crate::store::lock::{self, Lock, Turn};
use crate::store::slots;
use crate::store::stamp::Stamps;
use crate::worker;

/// The compiled code of this node. Any number of processes may use the same directories at the same time.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(crate) dir: PathBuf,
    pub(crate) stamps: Stamps,
    failures: Failures,
    limits: Limits,
    node: CacheLimits,
}

/// One module on its way into the cache.
struct Wish<'a> {
    engine: &'a Engine,
    source: &'a Source,
    requester: &'a Requester<'a>,
    format: Format,
    size: u64,
    key: Key,
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
        let node = CacheLimits::default();
        Ok(Self {
            dir: dir.to_owned(),
            stamps: Stamps::new(stamps),
            failures: Failures::new(stamps, node.remembered_failures, node.failure_expiry()),
            limits: Limits::default(),
            node,
        })
    }

    /// The same cache with other limits for each module that it compiles.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same cache with other limits for all that it holds and compiles, which are the node's.
    #[must_use]
    pub fn with_cache_limits(self, node: CacheLimits) -> Self {
        let failures = Failures::new(self.stamps.dir(), node.remembered_failures, node.failure_expiry());
        Self { failures, node, ..self }
    }

    /// Looks for the code of the module `digest` for `engine`. A bad entry is removed and counts as missing.
    ///
    /// The entry is verified and opened, on a read-only mount that only this descriptor refers to; nothing in it is
    /// interpreted. As long as the descriptor is open, or the file is mapped through it, the entry is not collected.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn get(&self, engine: &Engine, digest: &Digest) -> Result<Option<Artifact>, CacheError> {
        self.find(&Key::new(engine, *digest))
    }

    /// Looks for the code of `source` and compiles it if need be, in a confined worker that is forked; as
    /// [`get`](Self::get) it only opens the result.
    ///
    /// Blocks for as long as that takes, or as another process takes for the same module, or as it takes until a compiler
    /// is free; all are bounded by [`Limits::wall`]. A failure is remembered for a while, and then found at once. Call it in
    /// a single-threaded process that no one else waits for the children of.
    ///
    /// # Errors
    /// When the module is refused or does not compile ([`CompileError::blame`] says whose fault it is), or when something
    /// on this node is in the way.
    pub fn get_or_compile(&self, engine: &Engine, source: &Source) -> Result<Artifact, CompileError> {
        self.get_or_compile_for(engine, source, &Requester::default())
    }

    /// [`get_or_compile`](Self::get_or_compile) on behalf of somebody who may go away, or who pays for it.
    ///
    /// # Errors
    /// As there, and [`CompileError::Cancelled`] when the requester has gone.
    pub fn get_or_compile_for(
        &self,
        engine: &Engine,
        source: &Source,
        requester: &Requester<'_>,
    ) -> Result<Artifact, CompileError> {
        if let Some(expected) = &source.expected {
            let key = Key::new(engine, *expected);
            if let Some(hit) = self.find(&key)? {
                return Ok(hit);
            }
            self.refuse_what_failed(&key)?;
        }
        let (format, size) = source.inspect(&self.limits)?;
        let key = match source.expected {
            Some(expected) => Key::new(engine, expected),
            None => {
                let key = Key::new(engine, source.digest(size)?);
                if let Some(hit) = self.find(&key)? {
                    return Ok(hit);
                }
                self.refuse_what_failed(&key)?;
                key
            }
        };
        self.wait_or_compile(&Wish {
            engine,
            source,
            requester,
            format,
            size,
            key,
        })
    }

    fn refuse_what_failed(&self, key: &Key) -> Result<(), CompileError> {
        match self.failures.get(key.stem()) {
            None => Ok(()),
            Some(failure) => Err(CompileError::Remembered {
                reason: failure.reason,
                blame: failure.blame,
                age: failure.age,
                left: failure.left,
            }),
        }
    }

    /// Compiles, unless another process does so at the same time.
    fn wait_or_compile(&self, wish: &Wish<'_>) -> Result<Artifact, CompileError> {
        let path = wish.key.path(&self.dir, entry::LOCK);
        let start = Instant::now();
        let cancelled = || CompileError::Cancelled {
            name: wish.source.name.clone(),
        };
        // The other process may itself have to wait for a compiler first.
        let deadline = start + self.limits.wall * 2;
        loop {
            let mut given_up = || wish.requester.has_hung_up();
            match lock::acquire(&path, deadline, &mut given_up).map_err(CacheError::io("lock", &path))? {
                Turn::Mine(lock) => {
                    // Between the look and the lock another process may have finished.
                    if let Some(hit) = self.find(&wish.key)? {
                        return Ok(hit);
                    }
                    let result = self.compile(wish, &lock);
                    match &result {
                        // Who waits tries for itself.
                        Ok(_) | Err(CompileError::Cancelled { .. }) => drop(lock),
                        Err(error) => {
                            // First the record, so that nobody who comes later tries in between.
                            self.failures.record(wish.key.stem(), error);
                            announce(lock, error);
                        }
                    }
                    return result;
                }
                Turn::Done => {
                    if let Some(hit) = self.find(&wish.key)? {
                        return Ok(hit);
                    }
                }
                Turn::Failed(announced) => return Err(elsewhere(&announced)),
                Turn::TimedOut => return Err(wish.busy("another process that compiles it", start.elapsed())),
                Turn::GivenUp => return Err(cancelled()),
            }
        }
    }

    /// Compiles and publishes the entry of the wish, whose lock the caller holds.
    fn compile(&self, wish: &Wish<'_>, lock: &Lock) -> Result<Artifact, CompileError> {
        let start = Instant::now();
        let (key, name) = (&wish.key, &wish.source.name);
        let mut wanted = || !wish.requester.has_hung_up() || lock.is_awaited();
        let slot = {
            let (dir, count) = (self.stamps.dir(), self.node.compilers_here());
            let taken = slots::take(dir, count, start + self.limits.wall, &mut || !wanted());
            taken.map_err(CacheError::io("take a compiler's slot in", dir))?
        };
        let Some(slot) = slot else {
            return Err(if wanted() {
                wish.busy("one of the node's compilers to be free", start.elapsed())
            } else {
                CompileError::Cancelled { name: name.clone() }
            });
        };
        self.make_room()?;
        let temporary = Temporary::create(key.path(&self.dir, entry::TEMPORARY))?;
        let job = worker::Job {
            engine: wish.engine,
            name,
            source: &wish.source.file,
            size: wish.size,
            digest: key.digest,
            format: wish.format,
            output: &temporary.file,
            limits: &self.limits,
            user: slot.user,
            cgroups: &wish.requester.cgroups,
        };
        let kind = worker::compile(&job, &mut wanted)?;
        // The worker is gone and could not leave a process behind: what is hashed now stays as it is.
        entry::seal(&temporary.file, key, kind).map_err(CacheError::io("complete", &temporary.path))?;
        self.publish(temporary, key)?;
        let mut artifact = self.find(key)?.ok_or_else(|| {
            let gone = io::Error::other("it vanished or was changed right after it was written");
            CacheError::io("open", &key.path(&self.dir, entry::ENTRY))(gone)
        })?;
        artifact.compiled = true;
        if let Err(error) = self.collect(self.node.max_bytes, Duration::ZERO) {
            tracing::warn!(
                error = chain(&error),
                "the cache of compiled code cannot be kept within its size"
            );
        }
        tracing::info!(
            module = name,
            digest = %key.digest,
            bytes = wish.size,
            seconds = start.elapsed().as_secs_f64(),
            "compiled"
        );
        Ok(artifact)
    }

    /// Refuses to compile into a cache that is full of what is in use.
    fn make_room(&self) -> Result<(), CacheError> {
        let limit = self.node.max_bytes;
        let used = self.collect(limit, Duration::ZERO)?.kept_bytes;
        if used <= limit {
            return Ok(());
        }
        Err(CacheError::Full {
            path: self.dir.clone(),
            used,
            limit,
        })
    }

    /// Gives a sealed file its name: whole and on disk, or not at all.
    fn publish(&self, temporary: Temporary, key: &Key) -> Result<(), CacheError> {
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

impl Wish<'_> {
    fn busy(&self, what: &'static str, waited: Duration) -> CompileError {
        CompileError::Busy {
            name: self.source.name.clone(),
            what,
            waited,
        }
    }
}

/// An entry that is being written; removed when dropped before it was published.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    /// Creates the file at `path`. The caller holds the lock of the same name, so one that exists was left behind by
    /// a process that was killed.
    fn create(path: PathBuf) -> Result<Self, CacheError> {
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

/// Tells the waiting processes why this one has failed.
fn announce(lock: Lock, error: &CompileError) {
    let mut text = vec![error.blame().byte()];
    text.extend_from_slice(chain(error).as_bytes());
    lock.fail(&text);
}

/// The error that another process has announced.
fn elsewhere(announced: &[u8]) -> CompileError {
    let (blame, reason) = announced.split_first().unwrap_or((&b'N', &[]));
    CompileError::Elsewhere {
        reason: String::from_utf8_lossy(reason).into_owned(),
        blame: Blame::from_byte(*blame),
    }
}
