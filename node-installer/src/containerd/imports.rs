//! The `imports` of a root file: the drop-in files that containerd merges.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml_edit::{Array, Item, value};

use super::format::parse;
use crate::{error::Result, host::Host};

/// The patterns, in order.
///
/// # Errors
/// What is not TOML.
pub fn patterns(path: &Path, text: &str) -> Result<Vec<String>> {
    let document = parse(path, text)?;
    let array = document.get("imports").and_then(Item::as_array);
    let strings = array.into_iter().flatten().filter_map(|value| value.as_str());
    Ok(strings.map(str::to_owned).collect())
}

/// The directory of the first pattern that takes every `.toml` file of one: a drop-in can go there.
pub fn drop_in_dir(patterns: &[String]) -> Option<PathBuf> {
    let dirs = patterns.iter().filter_map(|pattern| pattern.strip_suffix("/*.toml"));
    dirs.map(PathBuf::from)
        .find(|dir| dir.is_absolute() && !dir.to_string_lossy().contains(['*', '?', '[']))
}

/// The text with one more import. It must be a pattern, never a file: an import of a file that is missing stops the
/// daemon, a pattern without matches does not.
///
/// # Errors
/// What is not TOML.
pub fn add(path: &Path, text: &str, pattern: &str) -> Result<String> {
    let mut document = parse(path, text)?;
    match document.get_mut("imports").and_then(Item::as_array_mut) {
        Some(array) => array.push(pattern),
        None => {
            document.insert("imports", value(Array::from_iter([pattern])));
        }
    }
    Ok(document.to_string())
}

/// The text without an import.
///
/// # Errors
/// What is not TOML.
pub fn remove(path: &Path, text: &str, pattern: &str) -> Result<String> {
    let mut document = parse(path, text)?;
    let Some(array) = document.get_mut("imports").and_then(Item::as_array_mut) else {
        return Ok(text.to_owned());
    };
    array.retain(|value| value.as_str() != Some(pattern));
    if array.is_empty() {
        document.remove("imports");
    }
    Ok(document.to_string())
}

/// The files that a pattern matches, as the host names them. As in containerd, a pattern that is not absolute counts
/// from the directory of the root file, and only the last component may hold `*` or `?` here.
pub fn matches(host: &Host, root: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = root.parent().unwrap_or(Path::new("/")).join(pattern);
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    if !name.contains(['*', '?']) {
        return if host.exists(&pattern) {
            vec![pattern.clone()]
        } else {
            Vec::new()
        };
    }
    let Ok(here) = host.path(dir) else { return Vec::new() };
    let entries = fs::read_dir(here).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut found: Vec<PathBuf> = names
        .filter(|file| fits(name.as_bytes(), file.as_bytes()))
        .map(|file| dir.join(file))
        .collect();
    found.sort();
    found
}

/// Whether a name fits a pattern of `*` and `?`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => fits(&pattern[1..], name) || (!name.is_empty() && fits(pattern, &name[1..])),
        (Some(b'?'), Some(_)) => fits(&pattern[1..], &name[1..]),
        (Some(one), Some(other)) => one == other && fits(&pattern[1..], &name[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: &str = "c.toml";

    #[test]
    fn an_import_is_added_above_the_tables_and_comments_stay() {
        let text = "# head\nversion = 2\n\n# tables\n[plugins]\n  [plugins.x] # tail\n";
        let with = add(Path::new(P), text, "/etc/containerd/conf.d/*.toml").unwrap();
        assert_eq!(
            with,
            "# head\nversion = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n\n# tables\n[plugins]\n  [plugins.x] # tail\n"
        );
        assert_eq!(
            remove(Path::new(P), &with, "/etc/containerd/conf.d/*.toml").unwrap(),
            text
        );
    }

    #[test]
    fn other_imports_stay() {
        let text = "imports = [\n  \"/a.toml\", # first\n]\n";
        let with = add(Path::new(P), text, "/b/*.toml").unwrap();
        assert_eq!(patterns(Path::new(P), &with).unwrap(), ["/a.toml", "/b/*.toml"]);
        let back = remove(Path::new(P), &with, "/b/*.toml").unwrap();
        assert_eq!(patterns(Path::new(P), &back).unwrap(), ["/a.toml"]);
        assert!(back.contains("# first"));
    }

    #[test]
    fn a_directory_that_is_imported_whole_takes_our_file() {
        let patterns = [
            "/one.toml".to_owned(),
            "/etc/c*/x/*.toml".into(),
            "/etc/containerd/config.d/*.toml".into(),
        ];
        assert_eq!(drop_in_dir(&patterns).unwrap(), Path::new("/etc/containerd/config.d"));
        assert_eq!(drop_in_dir(&["relative/*.toml".into()]), None);
    }

    #[test]
    fn patterns_match_as_in_containerd() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/containerd/d")).unwrap();
        for name in ["b.toml", "a.toml", ".hidden.toml", "c.conf"] {
            fs::write(root.path().join("etc/containerd/d").join(name), "").unwrap();
        }
        let host = Host::tree(root.path());
        let found = matches(&host, Path::new("/etc/containerd/config.toml"), "d/*.toml");
        let names: Vec<_> = found
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, [".hidden.toml", "a.toml", "b.toml"]);
        assert!(matches(&host, Path::new("/etc/containerd/config.toml"), "/no/x.toml").is_empty());
    }
}
