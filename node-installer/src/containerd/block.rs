//! Our part of a configuration file: a marked block at its end. Appending text leaves every byte of the file as it is,
//! works in templates that are not TOML yet, and can be taken out again whatever else has changed since.

use std::{fmt::Write as _, path::Path};

use toml_edit::{Item, Table, Value};

use super::{Format, format};
use crate::error::{Error, Result};

const BEGIN: &str = "# >>> tandem: written by tandem-node-installer, removed by its uninstall";
const END: &str = "# <<< tandem";

/// What containerd is told about the runtime.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Runtime {
    /// Handler, the name that RuntimeClass refers to.
    pub handler: String,
    /// Absolute path of the shim.
    pub shim: String,
}

impl Runtime {
    /// The handler's tables, with the names of `format`.
    ///
    /// The shim is named by its path: what containerd's own search path is differs by distribution (k3s and microk8s
    /// put their own directories in front), while an absolute path works from 1.6 on. It has no options: containerd 2.x
    /// takes a handler's for runc's where a pod has a user namespace, and fails its containers.
    pub fn tables(&self, format: Format) -> String {
        let [plugins, plugin, containerd, runtimes] = format.runtimes();
        let plugin = if format == Format::V1 {
            plugin.into()
        } else {
            quote(plugin)
        };
        let table = format!("{plugins}.{plugin}.{containerd}.{runtimes}.{}", key(&self.handler));
        let annotations = "[\"tandem.dev/*\"]";
        format!(
            "[{table}]\n  runtime_type = {}\n  pod_annotations = {annotations}\n  \
             container_annotations = {annotations}\n",
            quote(&self.shim),
        )
    }
}

/// Other handlers that have to be spelled out beside ours: containerd 1.x replaces its built-in map of handlers by the
/// file's, so that a file that names ours alone would lose runc.
pub fn handler_tables(format: Format, handlers: &[(String, Table)]) -> String {
    let mut text = String::new();
    for (name, table) in handlers {
        let mut path: Vec<&str> = format.runtimes().to_vec();
        path.push(name);
        table_text(&mut text, &path, table);
    }
    text
}

fn table_text(text: &mut String, path: &[&str], table: &Table) {
    let header: Vec<String> = path.iter().map(|part| key(part)).collect();
    // Writing into a string does not fail.
    let _ = writeln!(text, "[{}]", header.join("."));
    let mut inner = Vec::new();
    for (name, item) in table {
        match item {
            Item::Value(Value::InlineTable(inline)) => inner.push((name, inline.clone().into_table())),
            Item::Value(value) => {
                let _ = writeln!(text, "  {} = {}", key(name), value.clone().decorated("", ""));
            }
            Item::Table(table) => inner.push((name, table.clone())),
            _ => {}
        }
    }
    for (name, table) in inner {
        let mut path = path.to_vec();
        path.push(name);
        table_text(text, &path, &table);
    }
}

/// A key as TOML writes it: bare where it may be.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(bare) {
        return name.into();
    }
    quote(name)
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// The text with our block at its end.
pub fn append(text: &str, tables: &str) -> String {
    let gap = match text {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    format!("{text}{gap}{BEGIN}\n{tables}{END}\n")
}

/// The text without our block; `None` where it has none.
pub fn cut(text: &str) -> Option<String> {
    let begin = text.find(BEGIN)?;
    let end = begin + text[begin..].find(END)? + END.len();
    let rest = text[end..].strip_prefix('\n').unwrap_or(&text[end..]);
    let before = &text[..begin];
    // The empty line in front of the block is ours too.
    let before = before
        .strip_suffix('\n')
        .filter(|before| before.ends_with('\n') || rest.is_empty())
        .unwrap_or(before);
    Some(format!("{before}{rest}"))
}

/// Whether a block was begun: a damaged one must not be appended to.
pub fn has_mark(text: &str) -> bool {
    text.contains(BEGIN)
}

/// A drop-in file that holds our block and nothing else.
pub fn drop_in(tables: &str) -> String {
    format!("{BEGIN}\n{tables}{END}\n")
}

/// Puts the block into the text of a root file, and checks that it is TOML still and that the handler was free.
///
/// # Errors
/// [`Error::Config`] where somebody else has configured this handler, or where the file is written in a way that
/// forbids further tables.
pub fn insert(path: &Path, text: &str, runtime: &Runtime, format: Format, others: &str) -> Result<String> {
    require_free(path, text, runtime, format)?;
    let tables = format!("{others}{}", runtime.tables(format));
    let result = append(text, &tables);
    format::parse(path, &result).map_err(|_| Error::Config {
        path: path.to_owned(),
        why: "writes its runtimes as an inline table or with dotted keys, to which no table can be added".into(),
        fix: "write them as tables of their own, [plugins….containerd.runtimes.NAME]".into(),
    })?;
    Ok(result)
}

/// Refuses where the handler's name is taken by somebody else.
///
/// # Errors
/// [`Error::Config`].
pub fn require_free(path: &Path, text: &str, runtime: &Runtime, format: Format) -> Result<()> {
    let document = format::parse(path, text)?;
    let mut keys = format.runtimes().to_vec();
    keys.push(&runtime.handler);
    if format::find(&document, &keys).is_none() {
        return Ok(());
    }
    Err(Error::Config {
        path: path.to_owned(),
        why: format!(
            "has a runtime named {:?} that this installer did not write",
            runtime.handler
        ),
        fix: "remove its tables, or choose another name with --handler".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> Runtime {
        Runtime {
            handler: "tandem".into(),
            shim: "/opt/tandem/bin/containerd-shim-tandem-v1".into(),
        }
    }

    const ROOT: &str = "# mine\nversion = 2\n[plugins]\n  # spaces   kept\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image='x'  # why\n";

    #[test]
    fn appending_and_cutting_give_back_every_byte() {
        for text in [ROOT, "", "version = 2", "version = 2\n\n\n", "\n"] {
            let with = append(text, &runtime().tables(Format::V2));
            assert!(with.starts_with(text));
            let back = cut(&with).unwrap();
            assert!(back == text || back == format!("{text}\n"), "{text:?} -> {back:?}");
        }
        assert_eq!(cut(&append(ROOT, "x = 1\n")).unwrap(), ROOT);
        assert_eq!(cut(ROOT), None);
    }

    #[test]
    fn what_was_written_behind_the_block_stays() {
        let with = append(ROOT, &runtime().tables(Format::V2)) + "[debug]\nlevel = \"info\"\n";
        assert_eq!(cut(&with).unwrap(), format!("{ROOT}[debug]\nlevel = \"info\"\n"));
    }

    #[test]
    fn each_format_has_its_own_names() {
        let has = |format: Format, start: &str| runtime().tables(format).starts_with(start);
        assert!(has(Format::V1, "[plugins.cri.containerd.runtimes.tandem]\n"));
        assert!(has(
            Format::V2,
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.tandem]\n"
        ));
        assert!(has(
            Format::V3,
            "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.tandem]\n"
        ));
        assert!(has(
            Format::V4,
            "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.tandem]\n"
        ));
    }

    #[test]
    fn a_handler_of_somebody_else_is_not_touched() {
        let text = format!("{ROOT}{}", runtime().tables(Format::V2));
        let error = insert(Path::new("c.toml"), &text, &runtime(), Format::V2, "").unwrap_err();
        assert!(error.to_string().contains("--handler"), "{error}");
    }

    #[test]
    fn inline_runtimes_are_refused_with_the_way_out() {
        let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nruntimes = { runc = { runtime_type = \"x\" } }\n";
        let error = insert(Path::new("c.toml"), text, &runtime(), Format::V2, "").unwrap_err();
        assert!(error.to_string().contains("tables of their own"), "{error}");
    }

    #[test]
    fn spelled_out_handlers_parse_to_what_they_were() {
        let source = "[runc]\nruntime_type = 'io.containerd.runc.v2'\npod_annotations = ['a', 'b']\n[runc.options]\nSystemdCgroup = true\nBinaryName = \"\"\n";
        let table = source.parse::<toml_edit::DocumentMut>().unwrap()["runc"]
            .as_table()
            .unwrap()
            .clone();
        let text = handler_tables(Format::V2, &[("runc".into(), table)]);
        let back: toml_edit::DocumentMut = text.parse().unwrap();
        let runc = format::find(&back, &[&Format::V2.runtimes()[..], &["runc"]].concat()).unwrap();
        assert_eq!(runc["options"]["SystemdCgroup"].as_bool(), Some(true));
        assert_eq!(runc["pod_annotations"].as_array().unwrap().len(), 2);
    }
}
