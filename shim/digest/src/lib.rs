//! What names a module, on every level of Tandem: the digest of its content and its kind.
//!
//! A leaf: it knows neither images nor the engine, so that both sides can speak of the same things.

mod digest;
mod hex;
mod kind;

pub use digest::{Digest, Hasher, InvalidDigest};
pub use hex::hex;
pub use kind::ModuleKind;
