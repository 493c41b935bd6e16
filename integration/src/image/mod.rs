//! OCI images made in memory and imported into a private containerd.
//!
//! A [`Layout`] is what a registry would hold: blobs and the descriptor of the target. [`import`] does with it what
//! a pull does: blobs with the labels that keep them from containerd's garbage collector, layers unpacked into
//! snapshots, an image record. [`Registry::push`] brings it into a real registry, for a real pull.

mod build;
mod import;
mod layout;
mod push;
mod rootfs;

pub use build::{ImageBuilder, busybox, busybox_files, classic, index, linux_static, oci_artifact, runwasi};
pub use import::{Image, import};
pub use layout::{Blob, Layout, Platform, digest, media};
pub use push::Registry;
pub use rootfs::{Compression, Rootfs};
