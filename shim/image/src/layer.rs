//! Which of an image's layers is the module.

use crate::manifest::{Config, Descriptor, Manifest, WASM_CONFIG};
use crate::platform::{self, Rank};
use crate::{ImageError, MAX_MODULE_BYTES};

/// The types under which modules and components are published.
const MODULE_TYPES: [&str; 5] = [
    // CNCF Wasm OCI artifact layout, <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>
    "application/wasm",
    // wasm-to-oci; oci-client's `WASM_LAYER_MEDIA_TYPE`
    "application/vnd.wasm.content.layer.v1+wasm",
    // runwasi's oci-tar-builder
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    // runwasi's oci-tar-builder before that
    "application/vnd.w3c.wasm.module.v1+wasm",
    "application/vnd.w3c.wasm.component.v1+wasm",
];

/// What containerd unpacks (its `images.IsLayerType`).
const ROOT_FS_PREFIXES: [&str; 3] = [
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.",
    "application/vnd.erofs.layer.",
];

/// What a layer is, as far as its media type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// A Wasm module or component.
    Module,
    /// Native code that some other compiler made.
    Precompiled,
    /// A layer that containerd unpacks.
    RootFs,
    /// Anything else.
    Other,
}

impl LayerKind {
    /// Classifies a media type.
    pub fn of(media_type: &str) -> Self {
        // Media types are case-insensitive and may have parameters (RFC 2045).
        let essence = media_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let starts_with = |prefix: &&str| essence.starts_with(*prefix);
        if MODULE_TYPES.contains(&essence.as_str()) {
            Self::Module
        } else if essence.contains("precompiled") || essence.contains("cwasm") {
            Self::Precompiled
        } else if ROOT_FS_PREFIXES.iter().any(starts_with) {
            Self::RootFs
        } else {
            Self::Other
        }
    }
}

/// The module among an image's layers; None for an image without one, which has only a root file system.
pub fn module<'m>(image: &str, manifest: &'m Manifest, config: &Config) -> Result<Option<&'m Descriptor>, ImageError> {
    let of_kind = |kind| {
        manifest
            .layers
            .iter()
            .filter(move |layer| LayerKind::of(&layer.media_type) == kind)
    };
    if let Some(native) = of_kind(LayerKind::Precompiled).next() {
        return Err(ImageError::Precompiled {
            image: image.into(),
            digest: native.digest,
            media_type: shorten(&native.media_type),
        });
    }
    let mut modules = of_kind(LayerKind::Module);
    match (modules.next(), modules.next()) {
        (Some(module), None) if module.size > MAX_MODULE_BYTES => Err(ImageError::TooLarge {
            image: image.into(),
            digest: module.digest,
            size: module.size,
            limit: MAX_MODULE_BYTES,
        }),
        (Some(module), None) => Ok(Some(module)),
        (Some(_), Some(_)) => Err(ImageError::SeveralModules {
            image: image.into(),
            digests: of_kind(LayerKind::Module)
                .take(MAX_LISTED)
                .map(|layer| layer.digest)
                .collect(),
        }),
        (None, _) if expects_module(manifest, config) => Err(ImageError::UnsupportedLayers {
            image: image.into(),
            media_types: manifest
                .layers
                .iter()
                .take(MAX_LISTED)
                .map(|layer| shorten(&layer.media_type))
                .collect(),
        }),
        (None, _) => Ok(None),
    }
}

/// Most objects that an error names: a hostile manifest must not make a message of megabytes.
const MAX_LISTED: usize = 16;

fn shorten(media_type: &str) -> String {
    media_type.chars().take(120).collect()
}

/// Whether an image without a known Wasm layer claims to be one for Wasm. An image *for* WASI whose module lies in its
/// root file system has ordinary layers only, and that is fine.
fn expects_module(manifest: &Manifest, config: &Config) -> bool {
    let artifact =
        manifest.config.media_type == WASM_CONFIG || manifest.artifact_type.to_ascii_lowercase().contains("wasm");
    let platform = Rank::of(Some(&config.platform), platform::host_arch()) == Rank::Wasm;
    let unpackable = !manifest.layers.is_empty()
        && manifest
            .layers
            .iter()
            .all(|layer| LayerKind::of(&layer.media_type) == LayerKind::RootFs);
    artifact || (platform && !unpackable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::Platform;
    use crate::{Digest, ErrorKind};

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

    /// `None`: no module. `Some(n)`: layer n. Text: an error that holds it.
    fn check(config_type: &str, config: &Config, layers: &[&str], expected: Result<Option<usize>, &str>) {
        let manifest = manifest(config_type, layers);
        let found = module("img", &manifest, config);
        match (found, expected) {
            (Ok(found), Ok(n)) => assert_eq!(found, n.map(|n| &manifest.layers[n]), "{layers:?}"),
            (Err(e), Err(text)) => {
                assert!(
                    e.to_string().contains(text) && e.to_string().contains("img"),
                    "{layers:?}: {e}"
                );
                assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            }
            (found, expected) => panic!("{layers:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn the_one_wasm_layer_is_the_module_whatever_lies_beside_it() {
        let wasi = config("wasi", "wasm", &[]);
        for accepted in [
            "application/wasm",
            "Application/WASM; charset=binary",
            "application/vnd.wasm.content.layer.v1+wasm",
            "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
            "application/vnd.w3c.wasm.module.v1+wasm",
            "application/vnd.w3c.wasm.component.v1+wasm",
        ] {
            check(WASM_CONFIG, &wasi, &[accepted], Ok(Some(0)));
            check(IMAGE_CONFIG, &wasi, &[TAR, accepted, "text/plain"], Ok(Some(1)));
            check(IMAGE_CONFIG, &config("linux", "amd64", &[]), &[accepted], Ok(Some(0)));
        }
    }

    #[test]
    fn an_image_of_ordinary_layers_has_no_module_even_if_it_is_for_wasi() {
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        check(IMAGE_CONFIG, &config("linux", "amd64", &[]), &[TAR, docker], Ok(None));
        check(IMAGE_CONFIG, &config("wasi", "wasm", &[]), &[TAR, docker], Ok(None));
        check(IMAGE_CONFIG, &config("linux", "amd64", &[]), &[], Ok(None));
        check(
            IMAGE_CONFIG,
            &config("linux", "amd64", &[]),
            &["application/x-other"],
            Ok(None),
        );
    }

    #[test]
    fn an_image_for_wasm_without_a_known_layer_is_an_error_that_lists_what_there_is() {
        let wasi = config("wasip1", "wasm", &[]);
        check(
            WASM_CONFIG,
            &wasi,
            &["application/wasm+gzip"],
            Err("found: application/wasm+gzip"),
        );
        check(WASM_CONFIG, &wasi, &[TAR], Err("found: application/vnd.oci"));
        check(WASM_CONFIG, &wasi, &[], Err("found: no layers"));
        check(IMAGE_CONFIG, &wasi, &[TAR, "application/x"], Err("application/x"));
        let mut artifact = manifest("application/vnd.oci.empty.v1+json", &["application/x"]);
        artifact.artifact_type = "application/vnd.example.Wasm.v1".into();
        assert!(matches!(
            module("i", &artifact, &Config::default()),
            Err(ImageError::UnsupportedLayers { .. })
        ));
    }

    #[test]
    fn several_modules_and_native_code_and_too_large_a_module_are_refused() {
        let wasi = config("wasi", "wasm", &[]);
        check(
            WASM_CONFIG,
            &wasi,
            &["application/wasm", "application/wasm"],
            Err("2 Wasm layers"),
        );
        for native in [
            "application/vnd.x.precompiled+elf",
            "application/cwasm",
            "application/vnd.wasmtime.cwasm.v1",
        ] {
            check(
                WASM_CONFIG,
                &wasi,
                &["application/wasm", native],
                Err("precompiled native code"),
            );
            check(
                IMAGE_CONFIG,
                &config("linux", "amd64", &[]),
                &[TAR, native],
                Err("refused"),
            );
        }
        let mut large = manifest(WASM_CONFIG, &["application/wasm"]);
        large.layers[0].size = MAX_MODULE_BYTES + 1;
        assert!(matches!(module("i", &large, &wasi), Err(ImageError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn no_media_type_makes_a_decision_panic(types in proptest::collection::vec(".{0,64}", 0..6)) {
            let types: Vec<&str> = types.iter().map(String::as_str).collect();
            let _ = module("i", &manifest(WASM_CONFIG, &types), &Config::default());
        }
    }
}
