//! A verified artifact, and the one place where it becomes running code.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use tandem_digest::{Digest, ModuleKind};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::{image, procfs};
use crate::error::LoadError;
use crate::source::read_full;
use crate::store::entry::{self, Key};

/// What is mapped for a lease: the kernel makes it a page.
const LEASE: NonZeroUsize = NonZeroUsize::MIN;

/// A verified entry of the cache, open for reading. It stays usable when the entry is collected meanwhile.
#[derive(Debug)]
pub struct Artifact {
    pub(crate) file: File,
    pub(crate) kind: ModuleKind,
    pub(crate) digest: Digest,
    pub(crate) compiled: bool,
}

/// Code that is mapped and ready to be instantiated.
pub enum Loaded {
    /// A core module.
    Core(Module),
    /// A component.
    Component(Component),
}

impl Artifact {
    /// An entry that another process has opened and verified, and that this one inherited from it, by a fork or an execve.
    ///
    /// # Safety
    /// `file` must be [`Artifact::file`] of an artifact that the cache gave out: it is run as native code. That it is one
    /// for this kind, digest and engine is checked when it is loaded.
    pub unsafe fn inherited(file: File, kind: ModuleKind, digest: Digest) -> Self {
        Self {
            file,
            kind,
            digest,
            compiled: false,
        }
    }

    /// The open file, on a read-only mount of its own. It is closed on exec. The entry is in use as long as this descriptor
    /// or a copy of it is open, or the file is mapped through it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether this is a core module or a component.
    pub fn kind(&self) -> ModuleKind {
        self.kind
    }

    /// The digest of the source that it was compiled from.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether this very call has compiled it, rather than found it.
    pub fn was_compiled(&self) -> bool {
        self.compiled
    }

    /// Maps the code. Nothing is copied; pages are read when they are used, and shared with all other users.
    ///
    /// A component is mapped through `/proc/self/fd`, so call it where `/proc` is the node's. In a container,
    /// [`load_confined`](Self::load_confined) is for that.
    ///
    /// # Errors
    /// When the file is not what it should be, when `engine` is not the one that it was compiled for, or when the kernel
    /// cannot map it.
    pub fn load(self, engine: &Engine) -> Result<Loaded, LoadError> {
        self.load_with(engine, |engine, file| {
            // SAFETY: as in `load_with`.
            unsafe { component_at(engine, format!("/proc/self/fd/{}", file.as_raw_fd()).into()) }
        })
    }

    /// Maps the code in a process whose `/proc` is not to be trusted, for example a guest's own after it was confined.
    ///
    /// A component is mapped by its name in the procfs at `/proc`, once the kernel has said that it is one. Without it the
    /// component is copied, which costs memory for its whole size. The process must have one thread.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_confined(self, engine: &Engine) -> Result<Loaded, LoadError> {
        self.load_with(engine, |engine, file| match procfs::own_descriptors() {
            Some(descriptors) => procfs::with_name(file, &descriptors, |name| {
                // SAFETY: as in `load_with`.
                unsafe { component_at(engine, name) }
            })
            .unwrap_or_else(|error| Err(format!("it cannot be opened by its descriptor: {error}"))),
            None => {
                let bytes = read_all(file).map_err(|error| format!("it cannot be read: {error}"))?;
                // SAFETY: as in `load_with`.
                unsafe { Component::deserialize(engine, bytes) }.map_err(|error| format!("{error:#}"))
            }
        })
    }

    fn load_with(
        self,
        engine: &Engine,
        component: impl FnOnce(&Engine, &File) -> Result<Component, String>,
    ) -> Result<Loaded, LoadError> {
        let Self { file, kind, digest, .. } = self;
        let failed = |reason: String| LoadError { digest, reason };
        let key = Key::new(engine, digest);
        let length = entry::image_length(&file, kind, &key)
            .and_then(|length| match length {
                Ok(length) => Ok(image::check(&file, length)?.map(|()| length)),
                Err(why) => Ok(Err(why)),
            })
            .map_err(|error| failed(format!("it cannot be read: {error}")))?;
        length.map_err(failed)?;
        // SAFETY (also of the two closures above): deserializing is sound for what this version of wasmtime has compiled
        // and nobody has changed. The file comes from the cache, which gives out nothing else: an entry is written by our
        // own compiler and sealed when the compiler is dead, only root may write in a directory only root may change, and
        // its content hash was right and its ctime has not moved since. Nobody writes to a finished entry: it is replaced
        // by rename and removed by unlink, both of which leave the mapped inode as it is. A compiler that a hostile module
        // has subverted can break the promise, for that module alone. So what follows belongs into the guest's own
        // process once that is confined: there it gives nobody more than running the module does.
        let load = || match kind {
            ModuleKind::Core => {
                let file = file.try_clone().map_err(|error| error.to_string())?;
                // SAFETY: see above.
                unsafe { Module::deserialize_open_file(engine, file) }
                    .map(Loaded::Core)
                    .map_err(|error| format!("{error:#}"))
            }
            ModuleKind::Component => {
                keep_lease(&file);
                component(engine, &file).map(Loaded::Component)
            }
        };
        // An assertion of wasmtime's about its own images is one more way to say that this is none.
        catch_unwind(AssertUnwindSafe(load))
            .unwrap_or_else(|_| Err("it is damaged".into()))
            .map_err(failed)
    }
}

/// Opens and maps a component by name.
///
/// # Safety
/// As `Component::deserialize_file`.
unsafe fn component_at(engine: &Engine, name: PathBuf) -> Result<Component, String> {
    // SAFETY: the caller's.
    unsafe { Component::deserialize_file(engine, name) }.map_err(|error| format!("{error:#}"))
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    let count = read_full(file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Keeps the entry from being collected while this process lives. A module is mapped through the descriptor that the cache
/// has a lease on. A component is opened anew, so a page of it is mapped through that descriptor here, for good.
fn keep_lease(file: &File) {
    // SAFETY: a new mapping, which nobody reads and nobody unmaps.
    let mapped = unsafe { mmap(None, LEASE, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE, file, 0) };
    if let Err(errno) = mapped {
        // Then it is merely compiled again when it was collected.
        tracing::debug!(%errno, "no lease on the compiled code");
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Core(_) => "Loaded::Core",
            Self::Component(_) => "Loaded::Component",
        })
    }
}
