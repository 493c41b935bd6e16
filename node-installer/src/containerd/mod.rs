//! containerd's configuration: which names a file uses, how ours is put in and taken out, and what the host's own
//! containerd makes of the result.

pub mod block;
pub mod effective;
pub mod format;
pub mod imports;
pub mod stage;
pub mod version;

pub use effective::Effective;
pub use format::Format;
pub use version::Version;
