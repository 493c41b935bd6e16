//! What was seen, as fields with names, freed of what no two runs have in common.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::subject::{DIRECTORY, ENVIRONMENT};

/// By which a whole report ends.
pub const END: &str = "\"end\":\"yes\"}";

/// Fields by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub fields: BTreeMap<String, String>,
    /// Words of a runtime that refused; never compared, since each has its own.
    pub errors: Vec<String>,
}

impl Report {
    /// Sets a field.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.fields.insert(name.into(), value.into());
    }

    /// How it ended, in the runtime's words.
    pub fn end(&self) -> String {
        let outcome = self.fields.get("outcome").map(String::as_str).unwrap_or_default();
        match self.errors.is_empty() {
            true => outcome.to_owned(),
            false => format!("{outcome} {:?}", self.errors),
        }
    }

    /// Adds what the probe printed, each field's name behind `prefix`.
    pub fn add_probe(&mut self, prefix: &str, output: &str) {
        let start = output.find('{').unwrap_or(0);
        match serde_json::from_str::<BTreeMap<String, Value>>(output[start..].trim()) {
            Ok(fields) => {
                for (name, value) in fields {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    self.set(format!("{prefix}{name}"), value);
                }
            }
            Err(error) => self.set(format!("{prefix}report"), format!("{error}: {output:?}")),
        }
    }

    /// Adds what a guest printed: its environment as the probe has it, and its working directory.
    pub fn add_guest(&mut self, output: &str) {
        let Some((_, rest)) = output.split_once(&format!("{ENVIRONMENT}\n")) else {
            return;
        };
        let Some((environment, rest)) = rest.split_once(&format!("{DIRECTORY}\n")) else {
            return;
        };
        // WASI has no working directory: a guest learns of it by PWD, which is added where it is not the root.
        let mut lines: Vec<&str> = environment.lines().collect();
        let told = lines.last().and_then(|line| line.strip_prefix("PWD="));
        if told.is_some() {
            lines.pop();
        }
        let entries: Vec<String> = lines.iter().map(|line| format!("\"{}\"", escaped(line))).collect();
        self.set("process.env", format!("[{}]", entries.join(", ")));
        self.set("process.cwd", told.or_else(|| rest.lines().next()).unwrap_or_default());
    }

    /// Replaces names of this very run by words, in every field.
    pub fn replace(&mut self, names: &[(String, &str)]) {
        for text in self.fields.values_mut().chain(&mut self.errors) {
            for (name, word) in names {
                *text = text.replace(name, word);
            }
            *text = numbered(&numbered(text, "snapshots/"), "ovl-idmapped");
        }
        let renamed = std::mem::take(&mut self.fields).into_iter().map(|(mut name, value)| {
            for (from, to) in names {
                name = name.replace(from, to);
            }
            (name, value)
        });
        self.fields = renamed.collect();
    }
}

/// As the probe writes an item of a list.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\{}", byte as char),
        0x20..=0x7e => (byte as char).to_string(),
        _ => format!("\\u{byte:04x}"),
    };
    text.bytes().map(byte).collect()
}

/// The text with `N` in the place of the number after each `before`.
fn numbered(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole.push_str(before);
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() < part.len() {
            whole.push('N');
        }
        whole.push_str(rest);
    }
    whole
}

#[test]
fn a_report_is_freed_of_the_names_of_its_run() {
    let mut report = Report::default();
    report.add_probe(
        "exec ",
        r#"{"mounts /tmp/x type":"c1 /r/snapshots/17/fs:/r/snapshots/4/fs"}"#,
    );
    report.replace(&[("/tmp/x".into(), "<stage>"), ("c1".into(), "<id>")]);
    let field = report.fields.first_key_value().unwrap();
    assert_eq!(field.0, "exec mounts <stage> type");
    assert_eq!(field.1, "<id> /r/snapshots/N/fs:/r/snapshots/N/fs");
}
