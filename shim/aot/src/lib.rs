//! The engine settings of Tandem and its node-wide cache of compiled Wasm code.
//!
//! # Why
//!
//! Compiling a module takes a hundred times longer than starting it, and a node starts the same module again and
//! again. So every module is compiled once per node and engine, and each guest maps the finished file: the pages
//! are shared by all of its instances and by the page cache, nothing is copied.
//!
//! # The invariant
//!
//! A mapped file is native code that runs with the guest's process. Therefore **native code comes only from
//! Tandem's own compiler**:
//!
//! - An entry is named by the SHA-256 of its *source* and by a [`Fingerprint`] of the engine (wasmtime's version,
//!   every setting that changes generated code, the features of this CPU), so a changed module, an upgraded shim
//!   and a different machine can never meet a foreign entry. wasmtime checks the same once more when it loads.
//! - An entry is written to a temporary file, synced and renamed: a crash leaves either nothing or all of it.
//! - An entry is verified when it is opened: a regular file of the right owner that nobody else may write, of the
//!   recorded length, for this source and this engine, and with the recorded content hash. The hash is computed
//!   once per boot; a stamp on a tmpfs then remembers the verified file's identity (inode, size, mtime, ctime;
//!   every later write changes the ctime). A bad entry is removed and built anew.
//! - A module that was compiled elsewhere is refused: nothing could prove what is in it.
//!
//! # Hostile modules
//!
//! A compiler is a large program that reads hostile input. It runs in a forked worker (module `worker`) with no
//! privileges, no files and no network, with limits on its memory, its time and its output. A module can make its
//! own compilation fail, and nothing else. What it writes is as little trusted: the cache verifies, opens and hands on
//! entries without interpreting them ([`Cache::get`], [`Cache::get_or_compile`]), and [`Artifact::load`] belongs into the
//! guest's confined process.
//!
//! # What an image can cost the node
//!
//! - Concurrent starts of one module, from any number of processes, compile it once (module `lock`); if that fails, the
//!   waiting ones get the same error instead of trying one after another.
//! - The node runs a few compilers at a time (module `slots`), the first to go when memory is short and the last to run.
//! - A failure is remembered for a while (module `failures`). A requester that has gone ends its compilation.
//! - Compiled code is bounded by the module's size, and the cache by its own ([`CacheLimits`]): what no container uses goes.
//!
//! # Use
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{fs::File, path::Path};
//! use tandem_aot::{Cache, Loaded, Source};
//!
//! let engine = wasmtime::Engine::new(&tandem_aot::engine_config())?;
//! let cache = Cache::new(Path::new("/var/lib/tandem/aot"), Path::new("/run/tandem/aot"))?;
//! let source = Source { name: "/app.wasm".into(), file: File::open("/app.wasm")?, expected: None };
//! let artifact = cache.get_or_compile(&engine, &source)?;
//! // Here the descriptor goes to the guest's process, and the rest happens there.
//! match artifact.load(&engine)? {
//!     Loaded::Core(module) => drop(module),
//!     Loaded::Component(component) => drop(component),
//! }
//! # Ok(())
//! # }
//! ```

mod cache;
mod engine;
mod error;
mod limits;
mod load;
mod quota;
mod requester;
mod source;
mod store;
mod worker;

pub use cache::Cache;
pub use engine::{Fingerprint, engine_config};
pub use error::{Blame, CacheError, CompileError, LoadError};
pub use limits::Limits;
pub use load::{Artifact, Loaded};
pub use quota::CacheLimits;
pub use requester::Requester;
pub use source::Source;
pub use store::collect::Collected;
pub use tandem_digest::{Digest, InvalidDigest, ModuleKind};

/// What makes an entry of an image that no compiler has written, for fuzzing.
#[doc(hidden)]
pub mod fuzzing {
    use std::fs::File;
    use std::io::{self, Write};

    use tandem_digest::{Digest, ModuleKind};
    use wasmtime::Engine;

    use crate::store::entry::{self, Key};

    /// Completes `file`, an empty one, to an entry with this image.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn seal(mut file: &File, engine: &Engine, image: &[u8], kind: ModuleKind, digest: Digest) -> io::Result<()> {
        file.write_all(image)?;
        entry::seal(file, &Key::new(engine, digest), kind)
    }
}
