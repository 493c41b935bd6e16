//! The machine and the versions that the numbers are of.

use std::{fs, path::Path, process::Command, thread, time::SystemTime};

use nix::sys::utsname::uname;
use tandem_integration::{Containerd, Result};

/// Processor, kernel, cgroups, runc, load and date, as one sentence without its stop.
pub fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = value(&cpus, "model name").unwrap_or(std::env::consts::ARCH);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kernel = uname().map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned());
    // It decides much: moving a process into a container's cgroup is one operation or one per hierarchy.
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let cgroups = if unified { "v2" } else { "v1" };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let now = prost_types::Timestamp::from(SystemTime::now()).to_string();
    let date = now.split('T').next().unwrap_or_default();
    format!(
        "{model}, {cores} cores, Linux {kernel}, cgroup {cgroups}, {}, load {load} before the run, {date}",
        runc()
    )
}

/// The value of the first line `name : value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// Name and version of the runc that containerd's default shim executes.
fn runc() -> String {
    let output = Command::new("runc").arg("--version").output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&output);
    version.lines().next().unwrap_or("no runc").replace("version ", "")
}

/// The version that a containerd says it is.
///
/// # Errors
/// Where it does not answer.
pub async fn containerd_version(ctd: &Containerd) -> Result<String> {
    let session = ctd.session();
    let mut client = session.client().version();
    let call = client.version(session.request(()));
    Ok(session.call("version.Version", "", call).await?.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_as_the_kernel_names_it() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3: fast\n";
        assert_eq!(value(text, "model name"), Some("Some CPU @ 3: fast"));
        assert_eq!(value(text, "flags"), None);
    }
}
