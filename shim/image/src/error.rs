//! What can go wrong, on which object, and what to do about it.

use crate::Digest;

/// Coarse class of an [`ImageError`], in the terms of the Task API's status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The container, image or content is not there.
    NotFound,
    /// The image itself is wrong: no retry will help, another image will.
    InvalidArgument,
    /// The node is not in a state in which the image can be run; the message says what to change.
    FailedPrecondition,
    /// containerd does not answer; a retry may help.
    Unavailable,
    /// Anything else: an I/O error, corrupt content, an answer that makes no sense.
    Internal,
}

/// Why the module of a container's image could not be found or opened.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No connection to containerd.
    #[error("cannot reach containerd at {address}: {reason}; is it running, and is this its gRPC socket?")]
    Unreachable {
        /// Path of the socket.
        address: String,
        /// The transport's own words.
        reason: String,
    },
    /// containerd is reachable but did not answer in time.
    #[error(
        "containerd at {address} did not answer within {seconds} s while resolving the image of container {container}; retry, and check its load and its log"
    )]
    Timeout {
        /// Path of the socket.
        address: String,
        /// Container asked for.
        container: String,
        /// The limit that passed.
        seconds: u64,
    },
    /// A call to containerd failed.
    #[error("containerd: {call} of {object} failed: {reason}")]
    Call {
        /// Method, for example `Images.Get`.
        call: &'static str,
        /// What it was asked about.
        object: String,
        /// Code and message of the answer.
        reason: String,
        /// Class of the answer's code.
        kind: ErrorKind,
    },
    /// The namespace cannot be sent to containerd.
    #[error("`{0}` is not a containerd namespace; pass the one that containerd gave to the shim")]
    Namespace(String),
    /// The image's record and content are gone.
    #[error(
        "image {image} of container {container} is not on this node any more; pull it and create the container again"
    )]
    ImageGone {
        /// Name in the container's record.
        image: String,
        /// Container asked for.
        container: String,
    },
    /// The name now stands for another image and the original's content is gone.
    #[error(
        "image {image} was re-tagged after container {container} had been created: the container was made from {expected}, of which the content is gone; create the container again, and name images by digest to avoid this"
    )]
    Retagged {
        /// Name in the container's record.
        image: String,
        /// Container asked for.
        container: String,
        /// Config digest or chain ID that the container refers to.
        expected: String,
    },
    /// Several images on the node fit the container, with different modules.
    #[error("image {image} was re-tagged after container {container} had been created, and several images on this node match its snapshot with different modules ({digests}); create the container again, and name images by digest to avoid this", digests = list(digests))]
    Ambiguous {
        /// Name in the container's record.
        image: String,
        /// Container asked for.
        container: String,
        /// The different modules.
        digests: Vec<Digest>,
    },
    /// A blob that the image needs is not in the content store.
    #[error(
        "image {image}: content {digest} is missing on this node; pull the image again (for all of its platforms, if it is an index)"
    )]
    ContentMissing {
        /// Name of the image.
        image: String,
        /// The missing blob.
        digest: Digest,
    },
    /// An index without a manifest that can run here.
    #[error("image {image}: none of its platforms ({platforms}) is wasi/wasm, wasip1/wasm, wasip2/wasm or {host}; build the image for one of these", platforms = platforms.join(", "))]
    NoMatchingPlatform {
        /// Name of the image.
        image: String,
        /// Every platform of the index.
        platforms: Vec<String>,
        /// Platform of this node.
        host: String,
    },
    /// A manifest, index or config that does not follow the specification.
    #[error("image {image}: {digest} is malformed: {reason}; build and push the image again")]
    Malformed {
        /// Name of the image.
        image: String,
        /// The document.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// Content larger than is accepted.
    #[error("image {image}: {digest} has {size} bytes, more than the {limit} that are accepted; make it smaller")]
    TooLarge {
        /// Name of the image.
        image: String,
        /// The content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// More than one Wasm layer.
    #[error("image {image} has {count} Wasm layers ({digests}) and exactly one is needed; compose the components into one, or put the modules into the root file system and name one as entrypoint", count = digests.len(), digests = list(digests))]
    SeveralModules {
        /// Name of the image.
        image: String,
        /// All of its Wasm layers.
        digests: Vec<Digest>,
    },
    /// An image for Wasm whose layers have no type that is known.
    #[error("image {image} is for Wasm but none of its layers is of a supported type (found: {found}); push the module as `application/wasm`", found = if media_types.is_empty() { "no layers".to_owned() } else { media_types.join(", ") })]
    UnsupportedLayers {
        /// Name of the image.
        image: String,
        /// Types of the layers found.
        media_types: Vec<String>,
    },
    /// Native code in the image.
    #[error(
        "image {image}: layer {digest} ({media_type}) is precompiled native code, which is refused because it would run unchecked; push the Wasm module itself as `application/wasm`, it is compiled once per node"
    )]
    Precompiled {
        /// Name of the image.
        image: String,
        /// The layer.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// Content that is not what its digest says.
    #[error(
        "image {image}: the stored content of {digest} is corrupt ({reason}); remove the image from the node and pull it again"
    )]
    Corrupt {
        /// Name of the image.
        image: String,
        /// The content.
        digest: Digest,
        /// What does not fit.
        reason: String,
    },
    /// A file operation failed.
    #[error("image {image}: cannot {action} for {digest}: {source}")]
    Io {
        /// Name of the image.
        image: String,
        /// The content.
        digest: Digest,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl ImageError {
    /// Class of the error, to choose a status code by.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => ErrorKind::Unavailable,
            Self::Call { kind, .. } => *kind,
            Self::ImageGone { .. } | Self::ContentMissing { .. } => ErrorKind::NotFound,
            Self::Retagged { .. } | Self::Ambiguous { .. } => ErrorKind::FailedPrecondition,
            Self::Namespace(_)
            | Self::NoMatchingPlatform { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::SeveralModules { .. }
            | Self::UnsupportedLayers { .. }
            | Self::Precompiled { .. } => ErrorKind::InvalidArgument,
            Self::Corrupt { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(Digest::to_string).collect::<Vec<_>>().join(", ")
}
