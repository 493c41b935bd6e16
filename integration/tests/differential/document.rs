//! The table of known differences in docs/conformance.md.

use std::{fmt::Write, fs, path::Path};

use crate::known::{KNOWN, On};

const MARKS: [&str; 2] = ["<!-- differences -->", "<!-- end of differences -->"];

/// Fails where the document does not have the table; writes it where `UPDATE` is set.
pub fn check_or_write() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    let document = fs::read_to_string(&file).unwrap();
    let [begin, end] = MARKS;
    let (before, rest) = document
        .split_once(begin)
        .expect("the document has a place for the table");
    let (_, after) = rest.split_once(end).expect("the table in the document has an end");
    let wanted = format!("{before}{begin}\n{}{end}{after}", table());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, wanted).unwrap();
        return;
    }
    assert!(
        document == wanted,
        "docs/conformance.md is not up to date: run this test with UPDATE=1"
    );
}

fn table() -> String {
    let mut text = String::from("| specs | program | fields | what differs, and why |\n|---|---|---|---|\n");
    for known in KNOWN {
        let on = match known.on {
            On::Everywhere => "",
            On::CgroupV1 => " (cgroup v1)",
            On::CgroupV2 => " (cgroup v2)",
        };
        let program = if known.subject == "*" { "both" } else { known.subject };
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {program} | `{}` | {}{on} |",
            known.case, known.field, known.reason
        );
    }
    text
}
