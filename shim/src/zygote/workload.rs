//! What a container's process runs: a Linux program or a Wasm guest, which its entrypoint's file decides. It is looked for
//! by the confined process itself, in the tree that it will run in, as its user.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use tandem_confine::{Class, Confined, Error, Program, Result};
use tandem_engine::http::HttpLimits;

use super::handover::Handover;
use super::linux;
use super::modules::{Found, Wanted};
use super::wasm::{Prepared, Wasm};
use super::{Zygote, as_execve};
use crate::entry::{self, Entry};

/// A process's workload, not known before it is confined.
pub struct Workload<'a> {
    zygote: &'a Zygote,
    memory: Option<OwnedFd>,
    http_limits: HttpLimits,
    /// Whether it is a container's first process: a name that stands for nothing is then an error of the image.
    is_first: bool,
    guest: Option<Prepared>,
}

impl<'a> Workload<'a> {
    /// With the cell of the guest's memory limit.
    pub fn new(zygote: &'a Zygote, memory: OwnedFd, http_limits: HttpLimits, is_first: bool) -> Self {
        Self {
            zygote,
            memory: Some(memory),
            http_limits,
            is_first,
            guest: None,
        }
    }

    /// Gets code for a module, and loads and links it, in this process.
    fn prepare_guest(
        &mut self,
        confined: &mut Confined,
        wanted: &Wanted,
        file: Option<OwnedFd>,
        export: Option<String>,
    ) -> Result<bool> {
        let question = serde_json::to_value(wanted).map_err(|error| Error::invalid("question", error.to_string()))?;
        let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        let (answer, fds) = confined.ask(question, &fds)?;
        drop(file);
        let found = serde_json::from_value(answer).map_err(|error| Error::invalid("answer", error.to_string()))?;
        let code = match found {
            Found::Code(code) => code,
            Found::Nothing => return Ok(false),
        };
        let missing = || Error::new(Class::Internal, "the module's code", "its descriptors did not come");
        let mut fds = fds.into_iter();
        let file = fds.next().ok_or_else(missing)?;
        let memory = self.memory.take().ok_or_else(missing)?;
        let http_limits = self.http_limits.clone();
        let wasm = Wasm {
            code,
            export,
            memory,
            http_limits,
        };
        match (fds.next(), fds.next()) {
            (Some(binary), Some(job)) => {
                let code = file;
                return Err(wasm.hand_over(Handover { code, binary, job }, confined));
            }
            _ => self.guest = Some(wasm.prepare(self.zygote, file.into(), confined)?),
        }
        Ok(true)
    }
}

impl Program for Workload<'_> {
    /// The memory limit's cell, and what the engine has open.
    fn descriptors(&self) -> Vec<RawFd> {
        let memory = self.memory.iter().map(AsRawFd::as_raw_fd);
        memory.chain(self.zygote.engine_fds.iter().copied()).collect()
    }

    fn prepare(&mut self, confined: &mut Confined) -> Result<()> {
        // What an execve would take away must not help to find and read what is executed.
        as_execve::reduce_capabilities()
            .map_err(|error| Error::new(Class::Internal, "reduce the capabilities", error.to_string()))?;
        let is_guest = match entry::find(&confined.process, &confined.env)? {
            Entry::Linux => false,
            Entry::Wasm { file, name, export } => {
                self.prepare_guest(confined, &Wanted::File { name }, Some(file.into()), export)?
            }
            Entry::Missing { name, export } => self.prepare_guest(confined, &Wanted::Layer { name }, None, export)?,
        };
        if is_guest {
            return Ok(());
        }
        linux::check(&confined.process, &confined.env, self.is_first)
    }

    fn run(self, confined: Confined) -> Result<Infallible> {
        match self.guest {
            Some(guest) => guest.run(confined),
            None => linux::execute(&confined),
        }
    }
}
