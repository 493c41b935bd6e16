//! The format of a configuration file: its `version` decides the names of its tables. It is taken from the file on
//! disk and from nowhere else: `containerd config dump` prints the newest version whatever the file has, and a drop-in
//! with names of another version is ignored or stops the daemon.

use std::path::Path;

use toml_edit::{DocumentMut, Item, TableLike};

use crate::error::{Error, Result};

/// The version of a configuration file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Format(u8);

impl Format {
    /// The oldest, which a file without `version` has.
    pub const V1: Self = Self(1);
    /// containerd 1.3 to 1.7's.
    pub const V2: Self = Self(2);
    /// containerd 2.0's.
    pub const V3: Self = Self(3);
    /// containerd 2.3's; its names are those of version 3.
    pub const V4: Self = Self(4);

    /// The format of a file's text, which `path` names in errors.
    ///
    /// # Errors
    /// What is not TOML, and a version that is not known: its names are not known then either.
    pub fn of(path: &Path, text: &str) -> Result<Self> {
        let document = parse(path, text)?;
        let refused = |why: String| Error::Config {
            path: path.to_owned(),
            why,
            fix: "versions 1 to 4 are known; use an installer that is as new as this containerd".into(),
        };
        let Some(version) = document.get("version") else {
            return Ok(Self::V1);
        };
        match version.as_integer() {
            // containerd takes 0 for a missing version.
            Some(0 | 1) => Ok(Self::V1),
            Some(2) => Ok(Self::V2),
            Some(3) => Ok(Self::V3),
            Some(4) => Ok(Self::V4),
            _ => Err(refused(format!("its version is{}", version.to_string().trim_end()))),
        }
    }

    /// The table of runtimes, as the keys that lead to it.
    pub fn runtimes(self) -> [&'static str; 4] {
        match self {
            Self::V1 => ["plugins", "cri", "containerd", "runtimes"],
            Self::V2 => ["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"],
            _ => ["plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"],
        }
    }

    /// The names under which the CRI plugin can be switched off.
    pub fn cri_plugins(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["cri"],
            Self::V2 => &["io.containerd.grpc.v1.cri", "cri"],
            _ => &["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"],
        }
    }

    /// The number in the file.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// Parses TOML, with the file's name in the error.
///
/// # Errors
/// [`Error::Config`] with the parser's words.
pub fn parse(path: &Path, text: &str) -> Result<DocumentMut> {
    text.parse().map_err(|error: toml_edit::TomlError| Error::Config {
        path: path.to_owned(),
        why: format!("is not valid TOML: {}", error.to_string().trim().replace('\n', " ")),
        fix: "correct the file; containerd itself would not start with it".into(),
    })
}

/// Follows keys through tables of any notation.
pub fn find<'a>(document: &'a DocumentMut, keys: &[&str]) -> Option<&'a Item> {
    let mut item = document.as_item();
    for key in keys {
        item = item.as_table_like()?.get(key)?;
    }
    Some(item)
}

/// The text without a runtime, wherever its table is.
///
/// # Errors
/// What is not TOML.
pub fn without_runtime(path: &Path, text: &str, format: Format, handler: &str) -> Result<String> {
    let mut document = parse(path, text)?;
    let mut table = Some(document.as_table_mut() as &mut dyn TableLike);
    for key in format.runtimes() {
        table = table.and_then(|table| table.get_mut(key)?.as_table_like_mut());
    }
    if let Some(table) = table {
        table.remove(handler);
    }
    Ok(document.to_string())
}

/// Whether this containerd does not serve the kubelet, because its configuration switches CRI off.
pub fn cri_is_disabled(document: &DocumentMut, format: Format) -> bool {
    let disabled = document.get("disabled_plugins").and_then(Item::as_array);
    let names = disabled.into_iter().flatten().filter_map(|name| name.as_str());
    names.into_iter().any(|name| format.cri_plugins().contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Format> {
        Format::of(Path::new("/etc/containerd/config.toml"), text)
    }

    #[test]
    fn a_file_without_version_is_of_version_1() {
        assert_eq!(of("").unwrap(), Format::V1);
        assert_eq!(of("version = 0").unwrap(), Format::V1);
        assert_eq!(of("version = 2").unwrap(), Format::V2);
        assert_eq!(
            of("version = 4\n").unwrap().runtimes()[1],
            "io.containerd.cri.v1.runtime"
        );
    }

    #[test]
    fn an_unknown_version_and_bad_toml_are_refused_by_name() {
        assert!(of("version = 5").unwrap_err().to_string().contains("its version is 5"));
        assert!(of("version = \"2\"").unwrap_err().to_string().contains("\"2\""));
        assert!(
            of("version = ")
                .unwrap_err()
                .to_string()
                .contains("config.toml: is not valid TOML")
        );
    }

    #[test]
    fn a_containerd_without_cri_is_recognised_as_dockers() {
        let text = "disabled_plugins = [\"cri\"]\n";
        let document = parse(Path::new("x"), text).unwrap();
        assert!(cri_is_disabled(&document, of(text).unwrap()));
        let text = "version = 2\ndisabled_plugins = [\"io.containerd.snapshotter.v1.btrfs\"]";
        assert!(!cri_is_disabled(&parse(Path::new("x"), text).unwrap(), Format::V2));
    }
}
