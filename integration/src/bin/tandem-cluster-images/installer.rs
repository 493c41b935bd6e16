//! The image of the DaemonSet, with the content of `deploy/docker/Dockerfile`: two static programs.

use std::path::Path;

use tandem_integration::{
    Error, Result,
    generation::{tandem_installer, tandem_shim},
    image::{Compression, ImageBuilder, Layout, Rootfs},
};

use crate::{name, read};

/// What a second build of the shim differs in. The kernel and the shim itself do not look behind a program's last
/// segment, but it makes another digest, and so another version.
const REBUILT: &[u8] = b"another build of the same sources\n";
/// The type of the program header that names a dynamic linker (elf(5)).
const PT_INTERP: u32 = 3;

/// The image of this version, and one to upgrade to.
///
/// # Errors
/// Where a program was not built, or needs libraries.
pub fn images() -> Result<impl Iterator<Item = Result<Layout>>> {
    let shim = program(&tandem_shim())?;
    let installer = program(&tandem_installer())?;
    let builds: [(&str, &[u8]); 2] = [(env!("CARGO_PKG_VERSION"), b""), ("next", REBUILT)];
    Ok(builds.into_iter().map(move |(tag, more)| {
        let shim = [&shim[..], more].concat();
        let files = Rootfs::new()
            .dir("usr", 0o755)
            .dir("usr/local", 0o755)
            .dir("usr/local/bin", 0o755)
            .file("usr/local/bin/containerd-shim-tandem-v1", 0o755, &shim)
            .file("usr/local/bin/tandem-node-installer", 0o755, &installer);
        let image = ImageBuilder::new(&name("tandem", tag)).files(&files, Compression::None)?;
        let image = image.entrypoint(["/usr/local/bin/tandem-node-installer"]).cmd(["help"]);
        Ok(image.user("0:0").build())
    }))
}

/// A program that runs in an image of its own.
fn program(file: &Path) -> Result<Vec<u8>> {
    let bytes = read(file)?;
    if needs_libraries(&bytes).unwrap_or_default() {
        let file = file.display();
        return Err(Error::Setup(format!(
            "{file} needs libraries, which its image has not: build it with `make build`"
        )));
    }
    Ok(bytes)
}

/// Whether a 64-bit ELF program names a dynamic linker; nothing where it is no such program.
fn needs_libraries(elf: &[u8]) -> Option<bool> {
    let word = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let headers = usize::try_from(u64::from_le_bytes(elf.get(32..40)?.try_into().ok()?)).ok()?;
    let (size, count) = (usize::from(word(54)?), usize::from(word(56)?));
    let kinds = (0..count).map(|n| elf.get(headers.checked_add(n * size)?..)?.get(..4));
    Some(kinds.flatten().any(|kind| kind == PT_INTERP.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_libraries_is_told_from_one_that_does_not() {
        // Tests are linked dynamically, the guests' process 1 is not.
        let itself = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(needs_libraries(&itself), Some(true));
        let mut header = vec![0; 64];
        header[54..56].copy_from_slice(&56u16.to_le_bytes());
        assert_eq!(needs_libraries(&header), Some(false));
        assert_eq!(needs_libraries(b"#!/bin/sh"), None);
    }
}
