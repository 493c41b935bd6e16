//! Configurations that are left as they are, and what to do about them.

use std::path::Path;

use super::{File, Planner};
use crate::{
    containerd::{Effective, Format, block, format},
    error::{Error, Result},
};

impl Planner<'_> {
    /// Refuses to replace a drop-in of our name that somebody else has written.
    pub(super) fn require_ours(&self, file: &File) -> Result<()> {
        if file.now.as_ref().is_none_or(|now| block::has_mark(now)) {
            return Ok(());
        }
        Err(Error::Config {
            path: file.path.clone(),
            why: "exists and was not written by this installer".into(),
            fix: "rename or remove it".into(),
        })
    }

    pub(super) fn require_free(&self, path: &Path, before: &Effective) -> Result<()> {
        if before.handler(&self.options.handler).is_none() {
            return Ok(());
        }
        Err(Error::Config {
            path: path.to_owned(),
            why: format!(
                "or a file it imports has a runtime named {:?} that this installer did not write",
                self.options.handler
            ),
            fix: "remove its tables, or choose another name with --handler".into(),
        })
    }

    pub(super) fn require_no_damage(&self, path: &Path, text: &str) -> Result<()> {
        if !block::has_mark(text) {
            return Ok(());
        }
        Err(Error::Config {
            path: path.to_owned(),
            why: "has the beginning of a block of this installer's, but not its end".into(),
            fix: "remove the lines between the marks by hand".into(),
        })
    }

    pub(super) fn require_cri(&self, path: &Path, text: &str, format: Format) -> Result<()> {
        if !format::cri_is_disabled(&format::parse(path, text)?, format) {
            return Ok(());
        }
        Err(Error::Refused {
            host: self.detected.preset.into(),
            why: format!(
                "{} disables the CRI plugin, so that this containerd does not serve the kubelet",
                path.display()
            ),
            instead:
                "if it is to serve the kubelet, take \"cri\" out of disabled_plugins; if another one does, name its \
                      files with --config, --containerd and --socket"
                    .into(),
        })
    }
}
