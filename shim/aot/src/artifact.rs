//! A verified artifact, and the one place where it becomes running code.

use std::fs::File;
use std::os::fd::AsRawFd;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::digest::Digest;
use crate::error::LoadError;
use crate::source::ModuleKind;

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
    /// An entry that another process has opened and verified, and that this one inherited from it by execve.
    ///
    /// # Safety
    /// `file` must be [`Artifact::file`] of an artifact that the cache gave out: it is run as native code.
    pub unsafe fn inherited(file: File, kind: ModuleKind, digest: Digest) -> Self {
        Self {
            file,
            kind,
            digest,
            compiled: false,
        }
    }

    /// The open file. It is closed on exec.
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
    /// A component is mapped through `/proc/self/fd`, so call it where a procfs is mounted.
    ///
    /// # Errors
    /// When `engine` is not the one that the artifact was asked for, or when the kernel cannot map it.
    pub fn load(self, engine: &Engine) -> Result<Loaded, LoadError> {
        let Self { file, kind, digest, .. } = self;
        // SAFETY: deserializing is sound for what this version of wasmtime has compiled and nobody has changed.
        // An `Artifact` is only made from an entry that was written by our own compiler and sealed when the
        // compiler was dead, that only root may write in a directory only root may change, and whose content hash
        // was right and whose ctime has not moved since. Nobody writes to a finished entry: it is replaced by rename
        // and removed by unlink, both of which leave the mapped inode as it is. That the engine is the right one
        // is checked by wasmtime itself from what the compiler has recorded in the image.
        let loaded = unsafe {
            match kind {
                ModuleKind::Core => Module::deserialize_open_file(engine, file).map(Loaded::Core),
                // There is no `deserialize_open_file` for components; the link names this very open file, and
                // `file` lives until the end of this block.
                ModuleKind::Component => {
                    Component::deserialize_file(engine, format!("/proc/self/fd/{}", file.as_raw_fd()))
                        .map(Loaded::Component)
                }
            }
        };
        loaded.map_err(|error| LoadError {
            digest,
            reason: format!("{error:#}"),
        })
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
