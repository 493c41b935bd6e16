//! Guarding a container's devices on cgroup v2, where the kernel asks a program at each `open` and `mknod` of one.
//! Source: kernel `cgroup-v2.rst`, "Device controller"; `include/uapi/linux/bpf.h`.

mod attach;
mod program;

use std::path::Path;

use crate::Error;
use crate::device_rules::Rule;

/// Attaches the program for `rules` to the cgroup at `dir`. It goes with the cgroup.
pub fn guard(dir: &Path, rules: &[Rule]) -> Result<(), Error> {
    attach::attach(dir, &program::assemble(rules)).map_err(Error::io("attach the device rules to", dir))
}
