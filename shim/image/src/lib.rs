//! Finds the Wasm module that a container's image carries as a layer: by digest, never by a mutable name alone.
//!
//! containerd's record of a container names its image by a *tag*, and a tag can be moved between the moment the
//! container was created and the moment its task starts. A shim that reads the tag again may run code that the
//! container was never created from. So the tag is only a first guess here, and it is checked against what the
//! container immutably refers to (see `evidence::Evidence`):
//!
//! 1. made by CRI: the image id, which is the digest of the image's config;
//! 2. else: the parent of the container's snapshot, which is the chain ID of the image's layers;
//! 3. a guess that fails the check is replaced by the content that does match, if it is still on the node.
//!
//! # Limit
//! A chain ID covers only the layers that make a root file system. An artifact (`application/vnd.wasm.config.v0+json`)
//! has none, so its containers all have a snapshot without a parent, and images that share their tar layers share a
//! chain ID whatever their Wasm layer is. For such an image, *outside CRI*, a tag that was moved to another image of
//! the same chain ID cannot be noticed. CRI's containers are always exact.
//!
//! # Cost
//! Knowing the digest takes two sequential round trips: the container (and, the first time, where the content store
//! is), then its image and its snapshot at once; CRI's containers need no look at the snapshot. Manifest and config
//! are read from the content store's files. [`Resolver::open`] is separate, because with the compiled code in the
//! node's cache the module's bytes are never needed.

mod blob;
mod connection;
mod content;
mod digest;
mod error;
mod evidence;
mod layer;
mod link;
mod manifest;
mod platform;
mod resolve;
mod resolver;
mod source;
mod store;

pub use error::{ErrorKind, ImageError};
pub use manifest::Descriptor;
/// What reads bytes of an image's author, for fuzzing.
#[doc(hidden)]
pub mod parsers {
    pub use crate::manifest::{cri_image_id, parse_config, parse_document};
}
pub use resolver::{Resolution, Resolver, WasmLayer};
pub use tandem_digest::{Digest, InvalidDigest};

/// Largest Wasm layer accepted, in bytes (512 MiB): over ten times the largest components known (40 MB, a whole
/// Python), small enough that a hostile image cannot fill the node's memory.
pub const MAX_MODULE_BYTES: u64 = 512 << 20;

/// Largest manifest, index or config accepted, in bytes (4 MiB): the limit that registries are told to enforce on
/// manifests (OCI distribution specification, "Pushing Manifests").
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
