//! Creating a container, and executing in one, in a worker of the zygote.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Process;
use tandem_confine::hooks::{self, State};
use tandem_confine::{NewContainer, NewProcess};

use super::modules::{Labels, Modules};
use super::wire::{Create, Exec, Op, Report};
use super::workload::Workload;
use super::{Answered, Zygote};
use crate::bundle::Bundle;
use crate::fault::{Fault, Result};

/// Longest process section that is read.
const MAX_PROCESS_BYTES: u64 = 8 * 1024 * 1024;

/// What a request brings besides its message, in this order.
struct Brought {
    modules: OwnedFd,
    memory: OwnedFd,
    streams: Option<[OwnedFd; 3]>,
}

impl Brought {
    fn of(fds: impl IntoIterator<Item = OwnedFd>) -> Result<Self> {
        let mut fds = fds.into_iter();
        let missing = || Fault::internal("zygote: a request came without its descriptors");
        let (modules, memory) = (fds.next().ok_or_else(missing)?, fds.next().ok_or_else(missing)?);
        let streams: Vec<OwnedFd> = fds.collect();
        let streams = match streams.len() {
            0 => None,
            _ => Some(<[OwnedFd; 3]>::try_from(streams).map_err(|_| missing())?),
        };
        Ok(Self {
            modules,
            memory,
            streams,
        })
    }
}

/// Creates the container up to the point where its confined first process waits for Start.
pub fn create(zygote: &Zygote, op: Op, create: &Create, fds: Vec<OwnedFd>) -> Result<Answered> {
    let bundle = Bundle::load(&create.bundle)?;
    let brought = Brought::of(fds)?;
    let rootfs = bundle.rootfs();
    let new = NewContainer {
        id: &create.id,
        bundle: &create.bundle,
        spec: bundle.spec(),
        rootfs: &rootfs,
        systemd: create.systemd_cgroup,
        streams: brought.streams,
        private: private_fds(zygote, &brought.modules),
    };
    let workload = Workload::new(zygote, brought.memory, create.http_limits.clone(), true);
    let labels = Labels::of(None, bundle.spec());
    let mut modules = Modules::new(zygote, brought.modules, labels);
    let created = tandem_confine::create(new, workload, &mut |question, fds| modules.answer(question, fds));
    let created = created.map_err(|error| about(&format!("cannot create container {}", create.id), error))?;
    Ok(Answered {
        report: Report::Created { op, pid: created.pid },
        fds: [Some(created.start), created.terminal].into_iter().flatten().collect(),
    })
}

/// Executes the process; it runs when this returns.
pub fn exec(zygote: &Zygote, op: Op, exec: &Exec, fds: Vec<OwnedFd>) -> Result<Answered> {
    let bundle = Bundle::load(&exec.bundle)?;
    let mut fds = fds.into_iter();
    let process = read_process(fds.next())?;
    let brought = Brought::of(fds)?;
    let labels = Labels::of(Some(&process), bundle.spec());
    let new = NewProcess {
        id: &exec.id,
        bundle: &exec.bundle,
        spec: bundle.spec(),
        init: exec.init,
        process,
        streams: brought.streams,
        private: private_fds(zygote, &brought.modules),
    };
    let workload = Workload::new(zygote, brought.memory, exec.http_limits.clone(), false);
    let mut modules = Modules::new(zygote, brought.modules, labels);
    let executed = tandem_confine::exec(new, workload, &mut |question, fds| modules.answer(question, fds));
    let executed = executed.map_err(|error| about(&format!("cannot execute in container {}", exec.id), error))?;
    Ok(Answered {
        report: Report::Created { op, pid: executed.pid },
        fds: executed.terminal.into_iter().collect(),
    })
}

/// Runs the hooks of a container that was started.
pub fn post_start(id: &str, bundle: &Path, pid: i32) -> Result<()> {
    let bundle = Bundle::load(bundle)?;
    let state = State::new(bundle.spec(), id, bundle.path(), "running", Some(pid));
    let all = bundle.spec().hooks().as_ref();
    hooks::run("poststart", all.and_then(|hooks| hooks.poststart().as_ref()), &state)
        .map_err(|error| about(&format!("cannot start container {id}"), error))
}

fn about(what: &str, error: tandem_confine::Error) -> Fault {
    let fault = Fault::from(error);
    Fault {
        message: format!("{what}: {}", fault.message),
        ..fault
    }
}

fn private_fds(zygote: &Zygote, modules: &OwnedFd) -> Vec<i32> {
    let mut private = zygote.private_fds();
    private.push(modules.as_raw_fd());
    private
}

fn read_process(carried: Option<OwnedFd>) -> Result<Process> {
    let carried = carried.ok_or_else(|| Fault::internal("zygote: an exec came without its process section"))?;
    let mut file = File::from(carried);
    let fault = |why: String| Fault::internal(format!("zygote: process section: {why}"));
    file.rewind().map_err(|error| fault(error.to_string()))?;
    serde_json::from_reader(BufReader::new(file.take(MAX_PROCESS_BYTES))).map_err(|error| fault(error.to_string()))
}
