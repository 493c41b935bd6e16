//! From a descriptor to code that can run.

mod artifact;
mod image;
mod procfs;

pub use artifact::{Artifact, Loaded};
