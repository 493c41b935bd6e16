//! What the specification has besides: annotations, sections of other platforms, properties that are newer than most
//! runtimes, and the version.

use serde_json::json;

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case("spec/version-is-empty").set("/ociVersion", json!("")),
        case("spec/version-is-of-the-future").set("/ociVersion", json!("9.9.9")),
        case("spec/version-is-the-newest").set("/ociVersion", json!("1.3.0")),
        case("spec/annotations").set(
            "/annotations",
            json!({ "example.test/a": "b", "example.test/empty": "" }),
        ),
        case("spec/sections-of-other-platforms")
            .set("/windows", json!({ "layerFolders": ["c"] }))
            .set("/solaris", json!({ "milestone": "m" })),
        case("spec/unknown-properties")
            .set("/process/noSuchProperty", json!({ "a": 1 }))
            .set("/noSuchSection", json!([1, 2]))
            .set("/linux/resources/noSuchResource", json!({ "limit": 1 })),
        case("spec/mount-label").set("/linux/mountLabel", json!("system_u:object_r:container_file_t:s0")),
        case("spec/cache-allocation")
            .set(
                "/linux/intelRdt",
                json!({ "closID": "differential", "l3CacheSchema": "L3:0=f" }),
            )
            .error_names(&["ntel"]),
        case("spec/network-device-that-is-not-there")
            .set("/linux/netDevices", json!({ "no-such-device": {} }))
            .error_names(&["netDevice"]),
        case("spec/memory-policy").set("/linux/memoryPolicy", json!({ "mode": "MPOL_LOCAL" })),
    ]
}
