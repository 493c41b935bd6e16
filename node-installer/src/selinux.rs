//! SELinux labels of installed files: the shim gets the label of the host's own containerd binaries, so that the
//! policy that lets containerd execute its shims lets it execute this one.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

use crate::error::{Error, Result};

const LABEL: &std::ffi::CStr = c"security.selinux";
/// Longer labels than any policy has.
const MAX_LABEL: usize = 4096;

/// Copies the label of `from` to `to`. A file without label, or a file system without labels, is fine.
pub fn copy_label(from: &Path, to: &Path) -> Result<()> {
    let Some(label) = label(from).map_err(Error::io("read the SELinux label of", from))? else {
        return Ok(());
    };
    let path = c_path(to).map_err(Error::io("label", to))?;
    // SAFETY: both strings end in NUL and outlive the call; the length is the buffer's own.
    let set = unsafe { libc::lsetxattr(path.as_ptr(), LABEL.as_ptr(), label.as_ptr().cast(), label.len(), 0) };
    if set == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Without SELinux the kernel lets only CAP_SYS_ADMIN write the attribute, and nobody reads it.
    if matches!(error.raw_os_error(), Some(libc::ENOTSUP)) || !Path::new("/sys/fs/selinux/enforce").exists() {
        return Ok(());
    }
    Err(Error::io("label", to)(error))
}

fn label(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let path = c_path(path)?;
    let mut buffer = vec![0u8; MAX_LABEL];
    // SAFETY: the strings end in NUL, and the buffer is as long as said.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), LABEL.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    match usize::try_from(length) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(_) => match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::ENOTSUP | libc::ENOENT)) => Ok(None),
            error => Err(error),
        },
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_label_is_copied_where_the_kernel_keeps_labels() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("containerd"), dir.path().join("shim"));
        fs::write(&from, "").unwrap();
        fs::write(&to, "").unwrap();
        copy_label(&from, &to).unwrap();
        assert_eq!(label(&to).unwrap(), label(&from).unwrap());

        let wanted = b"system_u:object_r:container_runtime_exec_t:s0\0";
        let path = c_path(&from).unwrap();
        // SAFETY: as above.
        let set = unsafe { libc::lsetxattr(path.as_ptr(), LABEL.as_ptr(), wanted.as_ptr().cast(), wanted.len(), 0) };
        if set == 0 {
            copy_label(&from, &to).unwrap();
            assert_eq!(label(&to).unwrap().unwrap(), wanted);
        }
    }
}
