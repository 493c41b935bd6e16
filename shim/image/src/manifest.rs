//! Image documents: bytes in, typed facts out, never a panic.
//!
//! Only the fields that decide something are read. The specification's full types reject much that exists in the field
//! (an artifact's config has no `rootfs`, Go writes `null` for an empty list), so they are not used.

use serde::Deserialize;

use crate::Digest;

/// Most manifests that one image may hold, nested indexes included. Real ones have a few dozen.
pub const MAX_MANIFESTS: usize = 256;

/// OCI's config of an artifact that has none.
const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
/// Config of a CNCF Wasm artifact, <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// A reference to content, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Address of the content.
    pub digest: Digest,
    /// Size in bytes, as the author of the reference claims.
    pub size: u64,
    /// Platform of the manifest referred to, in an index.
    #[serde(default)]
    pub platform: Option<Platform>,
}

/// Operating system and architecture in Go's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// For example `linux` or `wasip1`.
    #[serde(default)]
    pub os: String,
    /// For example `amd64` or `wasm`.
    #[serde(default)]
    pub architecture: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// A manifest: one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Reference to the config.
    pub config: Descriptor,
    /// References to the layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Type of the artifact; empty for an image.
    pub artifact_type: String,
}

/// What an image's name can point at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// References to the manifests (or indexes) of several platforms.
    Index(Vec<Descriptor>),
}

/// What of a config matters: its platform and the layers of its root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Platform that the image is for.
    pub platform: Platform,
    /// Digests of the uncompressed layers, bottom first; empty for artifacts.
    pub diff_ids: Vec<Digest>,
}

/// Reads a manifest or an index. It is recognised by what it holds, because the media type in a descriptor is only a
/// claim; a document that could be read as both is refused.
pub fn parse_document(bytes: &[u8]) -> Result<Document, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
        manifests: Option<Vec<Descriptor>>,
        #[serde(default)]
        artifact_type: Option<String>,
    }

    let raw: Raw = serde_json::from_slice(bytes).map_err(|e| format!("neither manifest nor index: {e}"))?;
    match raw {
        Raw {
            config: Some(config),
            layers,
            manifests: None,
            artifact_type,
        } => Ok(Document::Manifest(Manifest {
            config,
            layers: layers.unwrap_or_default(),
            artifact_type: artifact_type.unwrap_or_default(),
        })),
        Raw {
            config: None,
            layers: None,
            manifests: Some(manifests),
            ..
        } if manifests.len() <= MAX_MANIFESTS => Ok(Document::Index(manifests)),
        Raw {
            config: None,
            layers: None,
            manifests: Some(manifests),
            ..
        } => Err(format!(
            "an index of {} manifests, more than {MAX_MANIFESTS}",
            manifests.len()
        )),
        Raw { manifests: Some(_), .. } => Err("both a manifest and an index".into()),
        Raw { .. } => Err("a manifest without a config (schema 1 is not supported)".into()),
    }
}

/// Whether a config of this type has content worth reading.
pub fn has_config(media_type: &str) -> bool {
    media_type != EMPTY_CONFIG
}

/// Reads a config. That of an image must be well-formed; that of an artifact can be anything and then says nothing.
pub fn parse_config(media_type: &str, bytes: &[u8]) -> Result<Config, String> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(flatten)]
        platform: Platform,
        rootfs: Option<RootFs>,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Option<Vec<Digest>>,
    }

    match serde_json::from_slice::<Raw>(bytes) {
        Ok(raw) => Ok(Config {
            platform: raw.platform,
            diff_ids: raw.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default(),
        }),
        Err(e) if is_image_config(media_type) => Err(format!("not an image config: {e}")),
        Err(_) => Ok(Config::default()),
    }
}

/// The image id in the metadata that CRI keeps with a container: the digest of the image's config. None if this is
/// not such metadata, so that a change of its form costs exactness, not the container.
pub fn cri_image_id(metadata: &[u8]) -> Option<Digest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Versioned {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Metadata {
        image_ref: Digest,
    }
    serde_json::from_slice::<Versioned>(metadata)
        .ok()
        .map(|v| v.metadata.image_ref)
}

fn is_image_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn with_digest(text: &str) -> String {
        text.replace("$D", D)
    }

    #[test]
    fn a_manifest_may_have_null_for_no_layers_and_unknown_fields() {
        let text = with_digest(
            r#"{"schemaVersion":2,"x":[1],"config":{"mediaType":"c","digest":"$D","size":2,"data":"e30="},"layers":null}"#,
        );
        let Document::Manifest(manifest) = parse_document(text.as_bytes()).unwrap() else {
            panic!("an index")
        };
        assert_eq!((manifest.config.media_type.as_str(), manifest.config.size), ("c", 2));
        assert!(manifest.layers.is_empty() && manifest.artifact_type.is_empty());
    }

    #[test]
    fn an_index_is_recognised_without_a_media_type() {
        let text = with_digest(
            r#"{"manifests":[{"digest":"$D","size":1,"platform":{"os":"wasip1","architecture":"wasm","variant":"x"}}]}"#,
        );
        let Document::Index(manifests) = parse_document(text.as_bytes()).unwrap() else {
            panic!("a manifest")
        };
        assert_eq!(manifests[0].platform.as_ref().unwrap().to_string(), "wasip1/wasm");
    }

    #[test]
    fn a_malformed_document_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "neither"),
            ("[]", "neither"),
            ("{}", "without a config"),
            (r#"{"fsLayers":[],"history":[]}"#, "schema 1"),
            (r#"{"layers":[]}"#, "without a config"),
            (r#"{"config":{"digest":"$D","size":1},"manifests":[]}"#, "both"),
            (r#"{"layers":[],"manifests":[]}"#, "both"),
            (r#"{"config":{"digest":"$D","size":-1}}"#, "invalid value"),
            (
                r#"{"config":{"digest":"sha256:../../etc/passwd","size":1}}"#,
                "is not a digest",
            ),
        ] {
            let error = parse_document(with_digest(text).as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let many = format!(
            "{{\"manifests\":[{}]}}",
            vec![with_digest(r#"{"digest":"$D","size":1}"#); 257].join(",")
        );
        assert!(parse_document(many.as_bytes()).unwrap_err().contains("more than 256"));
    }

    #[test]
    fn an_artifacts_config_may_be_anything_but_an_images_may_not() {
        let image = "application/vnd.oci.image.config.v1+json";
        assert_eq!(parse_config("application/x", b"\xff"), Ok(Config::default()));
        assert!(parse_config(image, b"\xff").is_err());
        assert!(parse_config(image, br#"{"os":"linux","rootfs":{"diff_ids":["x"]}}"#).is_err());
        let cncf = with_digest(r#"{"os":"wasip2","architecture":"wasm","layerDigests":["$D"],"component":{}}"#);
        let config = parse_config(WASM_CONFIG, cncf.as_bytes()).unwrap();
        assert_eq!(config.platform.to_string(), "wasip2/wasm");
        assert!(config.diff_ids.is_empty());
        let null = parse_config(
            image,
            br#"{"os":"wasi","architecture":"wasm","rootfs":{"diff_ids":null}}"#,
        )
        .unwrap();
        assert!(null.diff_ids.is_empty());
    }

    #[test]
    fn the_image_id_is_read_from_cri_metadata_and_only_from_that() {
        let text = with_digest(r#"{"Version":"v1","Metadata":{"ID":"x","Name":"y","ImageRef":"$D","Config":{}}}"#);
        assert_eq!(cri_image_id(text.as_bytes()).unwrap().to_string(), D);
        for other in [
            "",
            "{}",
            r#"{"Metadata":{"ImageRef":"docker.io/library/x:1"}}"#,
            r#"{"Metadata":null}"#,
        ] {
            assert_eq!(cri_image_id(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse_document(&bytes);
            let _ = parse_config("application/vnd.oci.image.config.v1+json", &bytes);
            let _ = cri_image_id(&bytes);
        }

        #[test]
        fn no_json_makes_a_parser_panic(text in r#"(\{"(config|layers|manifests|rootfs|os|Metadata)":(null|\[|\{|"|-?[0-9]{1,20}|sha256:|\}|\]|,|true){0,8}){1,6}"#) {
            let _ = parse_document(text.as_bytes());
            let _ = parse_config("application/vnd.oci.image.config.v1+json", text.as_bytes());
            let _ = cri_image_id(text.as_bytes());
        }
    }
}
