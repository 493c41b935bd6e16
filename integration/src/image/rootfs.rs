//! The files of a layer.

use std::io::{self, Write};

use flate2::{Compression as Level, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::{Blob, media};
use crate::{Error, Result};

/// How a layer is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is: the quickest to make and to unpack.
    #[default]
    None,
    /// As registries mostly hold layers.
    Gzip,
}

#[derive(Clone, Debug)]
enum Entry {
    Directory,
    File(Vec<u8>),
    Link(String),
    HardLink(String),
}

/// Files, directories and links of a layer, owned by root and without times, so that equal content has an equal
/// digest.
#[derive(Clone, Debug, Default)]
pub struct Rootfs {
    entries: Vec<(String, u32, Entry)>,
}

impl Rootfs {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory; a leading slash of `path` does not count.
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.with(path, mode, Entry::Directory)
    }

    /// Adds a file.
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.with(path, mode, Entry::File(content.to_vec()))
    }

    /// Adds a symbolic link.
    pub fn link(self, path: &str, to: &str) -> Self {
        self.with(path, 0o777, Entry::Link(to.into()))
    }

    /// Adds another name of the file `of`, which must have been added before.
    pub fn hard_link(self, path: &str, of: &str) -> Self {
        let of = of.trim_start_matches('/').to_owned();
        self.with(path, 0o755, Entry::HardLink(of))
    }

    fn with(mut self, path: &str, mode: u32, entry: Entry) -> Self {
        let path = path.trim_start_matches('/').to_owned();
        self.entries.push((path, mode, entry));
        self
    }

    /// As a tar archive.
    ///
    /// # Errors
    /// Where a path cannot be written into a tar archive.
    pub fn tar(&self) -> Result<Vec<u8>> {
        self.write().map_err(Error::system("cannot archive", "a layer"))
    }

    fn write(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, mode, entry) in &self.entries {
            let mut header = Header::new_gnu();
            header.set_mode(*mode);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            match entry {
                Entry::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    archive.append_data(&mut header, path, io::empty())?;
                }
                Entry::File(content) => {
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Link(to) => {
                    header.set_entry_type(EntryType::Symlink);
                    archive.append_link(&mut header, path, to)?;
                }
                Entry::HardLink(of) => {
                    header.set_entry_type(EntryType::Link);
                    archive.append_link(&mut header, path, of)?;
                }
            }
        }
        archive.into_inner()
    }

    /// As a layer, with its diff id: the digest of the archive before compression.
    ///
    /// # Errors
    /// As [`Rootfs::tar`].
    pub fn layer(&self, compression: Compression) -> Result<(Blob, String)> {
        let tar = Blob::new(media::TAR, self.tar()?);
        let diff_id = tar.digest.clone();
        let layer = match compression {
            Compression::None => tar,
            Compression::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), Level::fast());
                let bytes = gzip.write_all(&tar.data).and_then(|()| gzip.finish());
                let bytes = bytes.map_err(Error::system("cannot compress", "a layer"))?;
                Blob::new(media::TAR_GZIP, bytes)
            }
        };
        Ok((layer, diff_id))
    }
}
