//! The images of ordinary containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use tandem_integration::{
    Error, Result, guests,
    image::{Compression, ImageBuilder, Layout, Rootfs, busybox, linux_static},
};

use crate::{name, read};

/// The sandboxes' image, one with a shell, and a database.
pub fn images() -> impl Iterator<Item = Result<Layout>> {
    let pause = || linux_static(&name("pause", "1"), &guests::path("linux-pause")?);
    let images: [fn() -> Result<Layout>; 3] = [pause, || busybox(&name("busybox", "1")), redis];
    images.into_iter().map(|image| image())
}

/// Debian's Redis with the libraries that it is linked with.
fn redis() -> Result<Layout> {
    // One program: which part it plays its name says.
    let programs = [
        ("/usr/bin/redis-server", "/usr/bin/redis-check-rdb"),
        ("/usr/bin/redis-cli", "/usr/bin/redis-cli"),
    ];
    let mut files = BTreeMap::new();
    for (path, program) in programs {
        let program = Path::new(program);
        files.insert(PathBuf::from(path), program.to_owned());
        for library in libraries(program)? {
            files.insert(library.clone(), library);
        }
    }
    let mut rootfs = Rootfs::new().dir("data", 0o777);
    let mut made = BTreeSet::new();
    for (path, file) in &files {
        let path = path.strip_prefix("/").unwrap_or(path);
        let above: Vec<_> = path.ancestors().skip(1).filter(|dir| dir.parent().is_some()).collect();
        for dir in above.into_iter().rev() {
            if made.insert(dir.to_owned()) {
                rootfs = rootfs.dir(&dir.to_string_lossy(), 0o755);
            }
        }
        rootfs = rootfs.file(&path.to_string_lossy(), 0o755, &read(file)?);
    }
    let image = ImageBuilder::new(&name("redis", "1")).files(&rootfs, Compression::None)?;
    // As the well-known image has it: arguments are the server's, and others than the pod itself may connect.
    Ok(image
        .entrypoint(["/usr/bin/redis-server", "--protected-mode", "no"])
        .env(["PATH=/usr/bin"])
        .build())
}

/// The files that the dynamic linker would load with a program, itself among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.map_err(Error::system("cannot ask ldd for the libraries of", program))?;
    if !output.status.success() {
        return Err(Error::Setup(format!(
            "ldd cannot tell the libraries of {}: {}; integration/setup kubernetes installs it",
            program.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(PathBuf::from).collect())
}
