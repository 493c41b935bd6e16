//! Files of `integration/cluster/manifests`, with names put in.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tandem_integration::{Error, Result};

/// Where the manifests are.
pub fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/manifests")
}

/// The manifest of a name, with every `${NAME}` replaced by its value.
///
/// # Errors
/// Where there is no such file, or a name without a value is left in it.
pub fn read<'a>(name: &str, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<String> {
    let file = dir().join(format!("{name}.yaml"));
    let text = fs::read_to_string(&file).map_err(Error::system("cannot read", &file))?;
    let text = values
        .into_iter()
        .fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
    match text.split_once("${").and_then(|(_, rest)| rest.split_once('}')) {
        Some((unknown, _)) => Err(Error::Setup(format!("{}: no value for ${{{unknown}}}", file.display()))),
        None => Ok(text),
    }
}
