//! What a container was made from, whatever the name of its image stands for now.

use std::fmt;

use crate::Digest;
use crate::digest::chain_id;
use crate::layer::LayerKind;
use crate::manifest::{Config, Manifest};

/// What a container immutably refers to, by which its image is recognised however its name was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// Digest of the image's config: CRI's image id. Exact.
    Config(Digest),
    /// Parent of the container's snapshot: the chain ID of its image's layers, None for an image without any.
    Parent(Option<Digest>),
    /// Nothing: the container has no snapshot, or one that was not made from an image.
    Nothing,
}

impl Evidence {
    /// Reads the name of a snapshot's parent. It is the chain ID, to which containerd appends `-<uid>-<gid>` and the
    /// like for a copy that is shifted into a user namespace; any other name was not given by an unpacked image.
    pub fn from_parent(parent: &str) -> Self {
        let chain = parent.split_once('-').map_or(parent, |(chain, _)| chain);
        match chain.parse() {
            _ if parent.is_empty() => Self::Parent(None),
            Ok(chain) => Self::Parent(Some(chain)),
            Err(_) => Self::Nothing,
        }
    }

    /// Whether a container with this evidence can be made from this image. `runnable` says whether the image's
    /// platform is one that would have been chosen here: it decides where the evidence is weak.
    pub fn fits(&self, manifest: &Manifest, config: &Config, runnable: bool) -> bool {
        match self {
            Self::Config(digest) => manifest.config.digest == *digest,
            Self::Parent(Some(chain)) => parents(manifest, config).any(|p| p.as_ref() == Some(chain)),
            Self::Parent(None) => runnable && parents(manifest, config).any(|p| p.is_none()),
            Self::Nothing => runnable,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(digest) => write!(f, "the image with config {digest}"),
            Self::Parent(Some(chain)) => write!(f, "the layers with chain ID {chain}"),
            Self::Parent(None) => f.write_str("an image without root file system layers"),
            Self::Nothing => f.write_str("an unknown image"),
        }
    }
}

/// The chain IDs under which an image may have been unpacked: of all its diff IDs, or, where an image lists its Wasm
/// layers among them (runwasi's tools do), of those that can be unpacked.
fn parents(manifest: &Manifest, config: &Config) -> impl Iterator<Item = Option<Digest>> {
    let unpackable = (config.diff_ids.len() == manifest.layers.len()).then(|| {
        let pairs = config.diff_ids.iter().zip(&manifest.layers);
        chain_id(
            pairs
                .filter(|(_, layer)| LayerKind::of(&layer.media_type) == LayerKind::RootFs)
                .map(|(diff, _)| diff),
        )
    });
    std::iter::once(chain_id(&config.diff_ids)).chain(unpackable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{Descriptor, Platform};

    const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

    fn descriptor(media_type: &str, content: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest: Digest::of(content.as_bytes()),
            size: 8,
            platform: None,
        }
    }

    fn manifest(config: &str, layers: &[&str]) -> Manifest {
        Manifest {
            config: descriptor(config, "config"),
            layers: layers
                .iter()
                .enumerate()
                .map(|(n, media_type)| descriptor(media_type, &n.to_string()))
                .collect(),
            artifact_type: String::new(),
        }
    }

    fn config(os: &str, architecture: &str, diffs: &[&str]) -> Config {
        Config {
            platform: Platform {
                os: os.into(),
                architecture: architecture.into(),
            },
            diff_ids: diffs.iter().map(|d| Digest::of(d.as_bytes())).collect(),
        }
    }

    #[test]
    fn a_snapshots_parent_is_read_as_a_chain_id_also_when_shifted_for_a_user_namespace() {
        let chain = Digest::of(b"x");
        assert_eq!(Evidence::from_parent(""), Evidence::Parent(None));
        assert_eq!(Evidence::from_parent(&chain.to_string()), Evidence::Parent(Some(chain)));
        assert_eq!(
            Evidence::from_parent(&format!("{chain}-1000-1000")),
            Evidence::Parent(Some(chain))
        );
        assert_eq!(Evidence::from_parent("my-rootfs"), Evidence::Nothing);
    }

    #[test]
    fn an_image_fits_its_own_chain_id_and_no_other() {
        let image = manifest(IMAGE_CONFIG, &[TAR, TAR]);
        let diffs = config("linux", "amd64", &["a", "b"]);
        let own = Evidence::Parent(chain_id(&diffs.diff_ids));
        assert!(own.fits(&image, &diffs, true) && own.fits(&image, &diffs, false));
        assert!(!own.fits(&image, &config("linux", "amd64", &["a"]), true));
        assert!(!Evidence::Parent(None).fits(&image, &diffs, true));
        assert!(Evidence::Nothing.fits(&image, &diffs, true) && !Evidence::Nothing.fits(&image, &diffs, false));
    }

    #[test]
    fn a_wasm_layer_listed_among_the_diff_ids_does_not_count_for_the_snapshot() {
        let mixed = manifest(IMAGE_CONFIG, &[TAR, "application/wasm"]);
        let listed = config("wasi", "wasm", &["a", "w"]);
        let tar_only = Evidence::Parent(Some(Digest::of(b"a")));
        assert!(tar_only.fits(&mixed, &listed, true));
        assert!(tar_only.fits(&mixed, &config("wasi", "wasm", &["a"]), true));
        let all_wasm = manifest(IMAGE_CONFIG, &["application/wasm"]);
        assert!(Evidence::Parent(None).fits(&all_wasm, &config("wasi", "wasm", &["w"]), true));
    }

    #[test]
    fn cris_image_id_decides_alone() {
        let image = manifest(IMAGE_CONFIG, &[TAR]);
        assert!(Evidence::Config(Digest::of(b"config")).fits(&image, &Config::default(), false));
        assert!(!Evidence::Config(Digest::of(b"other")).fits(&image, &Config::default(), true));
    }

    proptest! {
        #[test]
        fn no_parents_name_makes_a_decision_panic(parent in ".*") {
            let image = manifest(IMAGE_CONFIG, &[TAR]);
            let _ = Evidence::from_parent(&parent).fits(&image, &Config::default(), true);
        }
    }
}
