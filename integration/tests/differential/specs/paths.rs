//! `linux.maskedPaths` and `linux.readonlyPaths`.

use serde_json::{Value, json};

use crate::case::{Case, case};

fn masked(name: &str, paths: Value) -> Case {
    case(&format!("masked/{name}")).set("/linux/maskedPaths", paths)
}

fn readonly(name: &str, paths: Value) -> Case {
    case(&format!("readonly/{name}")).set("/linux/readonlyPaths", paths)
}

pub fn cases() -> Vec<Case> {
    vec![
        masked("none", json!([])),
        masked("a-file", json!(["/data/seed"])).look(&["/data/seed"]),
        masked("a-directory", json!(["/data/sub"])).look(&["/data/sub", "/data/sub/deep"]),
        masked("what-is-not-there", json!(["/no/such", "/proc/no-such"])),
        masked("a-link", json!(["/to-data"])).look(&["/to-data", "/data"]),
        masked("a-dangling-link", json!(["/to-nowhere"])).look(&["/to-nowhere"]),
        masked("a-volume", json!(["/v"]))
            .bind("dir", "/v", &["rbind"])
            .look(&["/v"]),
        masked("a-file-of-a-volume", json!(["/v/file"]))
            .bind("dir", "/v", &["rbind", "ro"])
            .look(&["/v/file"]),
        masked("many-directories", json!(["/data", "/etc", "/usr/bin", "/closed"])).look(&["/data", "/usr/bin"]),
        masked("twice", json!(["/data", "/data"])).look(&["/data"]),
        masked("below-a-file", json!(["/etc/passwd/x"])),
        masked("relative", json!(["data"])).look(&["/data"]),
        readonly("none", json!([])),
        readonly("a-file", json!(["/data/seed"])).look(&["/data/seed"]),
        readonly("a-directory", json!(["/data"])).look(&["/data", "/data/sub"]),
        readonly("what-is-not-there", json!(["/no/such"])),
        readonly("a-link", json!(["/to-data"])).look(&["/to-data", "/data"]),
        readonly("a-volume-with-flags", json!(["/v"]))
            .bind("dir", "/v", &["bind", "nosuid", "nodev", "noexec"])
            .look(&["/v"]),
        readonly("a-directory-of-a-volume-with-flags", json!(["/v/below"]))
            .bind("dir", "/v", &["rbind", "nosuid", "nodev", "noexec"])
            .look(&["/v/below"]),
        readonly("a-tree-with-a-mount-below", json!(["/v"]))
            .bind("dir", "/v", &["rbind"])
            .look(&["/v", "/v/below"]),
        readonly("twice", json!(["/data", "/data"])).look(&["/data"]),
        readonly("and-masked", json!(["/data"]))
            .set("/linux/maskedPaths", json!(["/data/sub"]))
            .look(&["/data", "/data/sub"]),
        readonly("below-a-file", json!(["/etc/passwd/x"])),
    ]
}
