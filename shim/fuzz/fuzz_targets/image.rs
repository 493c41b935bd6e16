//! Documents of an image: manifests, indexes, configurations, CRI's metadata, digests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_image::Digest;
use tandem_image::parsers::{cri_image_id, parse_config, parse_document};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_document(bytes);
    for media_type in [
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.wasm.config.v0+json",
        "application/vnd.oci.empty.v1+json",
        "",
    ] {
        let _ = parse_config(media_type, bytes);
    }
    let _ = cri_image_id(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(digest) = text.parse::<Digest>()
    {
        // It becomes the name of a file in the content store.
        assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
        assert_eq!(digest.to_string(), text);
    }
});
