//! The guests: what is called `*.wasm` in each form in which Wasm is published, programs as they are.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tandem_integration::{
    Error, Result, guests,
    image::{Layout, classic, linux_static, oci_artifact, runwasi},
};

use crate::{name, read};

/// The images of all guests.
///
/// # Errors
/// Where the guests were not built.
pub fn images() -> Result<impl Iterator<Item = Result<Layout>>> {
    let files = files(&guests::dir())?;
    Ok(files.into_iter().flat_map(|file| match of(&file) {
        Ok(images) => images.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    }))
}

fn of(file: &Path) -> Result<Vec<Layout>> {
    let guest = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let named = |tag| name(&guest, tag);
    if file.extension().is_none() {
        return Ok(vec![linux_static(&named("1"), file)?]);
    }
    let code = read(file)?;
    let path = format!("/{}", file.file_name().unwrap_or_default().to_string_lossy());
    let mut images = vec![classic(&named("1"), &path, &code, [path.as_str()])?];
    if path.ends_with(".wasm") {
        images.push(oci_artifact(&named("artifact"), &code));
        images.push(runwasi(&named("runwasi"), &code));
    }
    Ok(images)
}

/// What of the directory is a guest, by name: Wasm, text that has no binary form beside it, and programs.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(Error::system("cannot list", dir))?;
    let mut files: Vec<PathBuf> = entries
        .iter()
        .map(fs::DirEntry::path)
        .filter(|file| is_guest(file))
        .collect();
    files.sort();
    Ok(files)
}

fn is_guest(file: &Path) -> bool {
    let hidden = file
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let Ok(about) = fs::metadata(file) else { return false };
    if hidden || !about.is_file() {
        return false;
    }
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("wasm") => true,
        Some("wat") => !file.with_extension("wasm").is_file(),
        None => about.permissions().mode() & 0o111 != 0,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_counts_where_it_has_no_binary_form() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a.wasm", "a.wat", "b.wat", "notes", ".stamp", "c.o"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        fs::write(dir.path().join("tool"), "").unwrap();
        fs::set_permissions(dir.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        let names: Vec<String> = files(dir.path())
            .unwrap()
            .iter()
            .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["a.wasm", "b.wat", "tool"]);
    }
}
