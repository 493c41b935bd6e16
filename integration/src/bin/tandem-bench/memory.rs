//! What one more running pod costs: the slope between a few pods and many, of all their processes.
//!
//! The slope leaves out what is shared by all pods of a node, such as the shim's own code. Memory is counted as PSS
//! (proc_pid_smaps(5)): a page that several processes map counts for each in part.

use std::{fs, net::SocketAddr, time::Duration};

use tandem_integration::{Container, Containerd, Error, Leftover, Leftovers, NetNs, Result, Task, guests, image};

use crate::{runtime::Runtime, settle::settle};

/// Pods at the first look.
pub const FEW: usize = 2;
/// Pods at the second look.
pub const MANY: usize = 10;

/// After the last answer, until memory is looked at: threads and buffers of the start have gone then.
const SETTLE: Duration = Duration::from_secs(2);
/// What a Linux page table counts in, in MiB.
const KIB: f64 = 1.0 / 1024.0;

/// The cost of one more pod.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Whose.
    pub runtime: Runtime,
    /// Proportional set size, in MiB.
    pub pss: f64,
    /// Memory of its own that differs from any file, in MiB.
    pub private_dirty: f64,
    /// Number of processes.
    pub processes: f64,
}

/// What all processes of an instance use, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    processes: u64,
    pss: u64,
    private_dirty: u64,
}

/// A pod that answers HTTP requests.
struct Pod {
    _netns: NetNs,
    container: Container,
    task: Task,
}

/// Measures those of `runtimes` that run Wasm, one after another.
///
/// # Errors
/// A pod that does not start, answer or end.
pub async fn measure(ctd: &Containerd, runtimes: &[Runtime]) -> Result<Vec<Memory>> {
    let mut found = Vec::new();
    for &runtime in runtimes.iter().filter(|runtime| runtime.is_wasm()) {
        eprintln!("  memory of {}", runtime.name());
        let memory = of(ctd, runtime).await;
        found.push(memory.map_err(|error| Error::Setup(format!("{} (HTTP): {error}", runtime.name())))?);
    }
    Ok(found)
}

async fn of(ctd: &Containerd, runtime: Runtime) -> Result<Memory> {
    // As a layer: the only form for which every one of the runtimes keeps compiled code.
    let layout = image::oci_artifact("example.test/http:1", &guests::bytes("http-hello.wasm")?);
    let image = ctd.import(&layout).await?;
    // The first pod fills the cache of compiled code; what the compiler used must not be counted.
    stop(Pod::start(ctd, &image, runtime).await?).await?;
    settle(ctd).await?;

    let mut pods = Vec::new();
    let mut looks = Vec::new();
    for number in [FEW, MANY] {
        while pods.len() < number {
            pods.push(Pod::start(ctd, &image, runtime).await?);
        }
        tokio::time::sleep(SETTLE).await;
        looks.push(usage(ctd).await?);
    }
    for pod in pods {
        stop(pod).await?;
    }
    settle(ctd).await?;

    let per_pod = |part: fn(&Usage) -> u64| {
        let [few, many] = [looks.first(), looks.last()].map(|look| look.map(part).unwrap_or_default());
        (many as f64 - few as f64) / (MANY - FEW) as f64
    };
    Ok(Memory {
        runtime,
        pss: per_pod(|usage| usage.pss) * KIB,
        private_dirty: per_pod(|usage| usage.private_dirty) * KIB,
        processes: per_pod(|usage| usage.processes),
    })
}

impl Pod {
    async fn start(ctd: &Containerd, image: &image::Image, runtime: Runtime) -> Result<Self> {
        let server = SocketAddr::from(([127, 0, 0, 1], 8080));
        let netns = NetNs::new(ctd)?;
        let container = ctd.container(image).runtime(runtime.id()).args(["http-hello.wasm"]);
        let container = container.netns(netns.path()).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        let answer = netns.get_soon(server, "/").await?;
        if answer.status != 200 {
            return Err(Error::Setup(format!(
                "HTTP status {}: {}",
                answer.status,
                answer.text()
            )));
        }
        Ok(Self {
            _netns: netns,
            container,
            task,
        })
    }
}

async fn stop(pod: Pod) -> Result<()> {
    pod.task.kill(9).await?;
    pod.task.wait().await?;
    pod.task.delete_only().await?;
    pod.container.remove().await
}

/// Looks at everything that belongs to the instance but containerd itself.
async fn usage(ctd: &Containerd) -> Result<Usage> {
    let mut usage = Usage::default();
    for leftover in Leftovers::of(ctd).found().await? {
        let Leftover::Process { pid, .. } = leftover else {
            continue;
        };
        // A process that has ended since has no memory.
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
            usage.add(&text);
        }
    }
    Ok(usage)
}

impl Usage {
    /// Adds a process by its `smaps_rollup`.
    fn add(&mut self, rollup: &str) {
        self.processes += 1;
        self.pss += field(rollup, "Pss:");
        self.private_dirty += field(rollup, "Private_Dirty:");
    }
}

fn field(rollup: &str, name: &str) -> u64 {
    let mut lines = rollup.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok());
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_a_process_rollup() {
        let rollup =
            "5587a000-7ffd [rollup]\nRss:  900 kB\nPss:    320 kB\nPss_Dirty:  64 kB\nPrivate_Dirty:   48 kB\n";
        let mut usage = Usage::default();
        usage.add(rollup);
        usage.add(rollup);
        assert_eq!((usage.processes, usage.pss, usage.private_dirty), (2, 640, 96));
    }
}
