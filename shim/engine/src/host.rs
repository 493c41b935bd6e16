//! The warm part: an engine, and the host functions that guests import.

use crate::ctx::{ComponentState, CoreState};
use crate::error::PrepareError;
use crate::guest::Guest;
use crate::{p1, p2, prepare};
use std::sync::OnceLock;
use wasmtime::component::Component;
use wasmtime::{Engine, Linker, Module};

/// Compiled code to run, of the engine that the [`Host`] has.
#[derive(Clone)]
pub enum Code {
    /// A core module: WASI preview 1, or no imports at all.
    Core(Module),
    /// A component: WASI 0.2.
    Component(Component),
}

/// What kinds of guest have host functions of their own.
///
/// Commands and HTTP servers share the component kind: HTTP guests of most languages import all of `wasi:cli`, and
/// commands may send HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Core modules.
    Core,
    /// Components, commands and HTTP servers alike.
    Component,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Core => "core module",
            Kind::Component => "component",
        }
    }
}

/// An engine and the host functions, shared by all guests that are prepared from it.
pub struct Host {
    engine: Engine,
    core: OnceLock<Linker<CoreState>>,
    component: OnceLock<wasmtime::component::Linker<ComponentState>>,
}

impl Host {
    /// A host without host functions yet: they are set up by the first [`Host::prepare`] that needs them, or ahead of
    /// it by [`Host::warm`]. Starts no thread.
    ///
    /// The engine must have epoch interruption enabled: without it, one request of an HTTP guest that only computes
    /// would hold up the others.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            core: OnceLock::new(),
            component: OnceLock::new(),
        }
    }

    /// The engine that code for this host must be compiled by.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Sets up the host functions for guests of a kind, so that the first of them need not wait for it.
    ///
    /// # Errors
    /// Fails only by a fault of this crate.
    pub fn warm(&self, kind: Kind) -> Result<(), PrepareError> {
        match kind {
            Kind::Core => self.core_linker().map(drop),
            Kind::Component => self.component_linker().map(drop),
        }
    }

    /// Checks that the code can run here, and gets it ready to. Starts no thread.
    ///
    /// `entry` names the function to run. Without it that is `_start` of a core module, and of a component its
    /// `wasi:cli/run`, else its `wasi:http/incoming-handler`. A component that exports both is thus a command, unless
    /// `entry` is `wasi:http/incoming-handler`. Other functions of a component are named `function` or
    /// `package:name/interface#function`; the interface's version may be left out.
    ///
    /// # Errors
    /// See [`PrepareError`]: each says what is wrong with which part of the guest.
    pub fn prepare(&self, code: &Code, entry: Option<&str>) -> Result<Guest, PrepareError> {
        match code {
            Code::Core(module) => {
                self.check_engine(module.engine())?;
                prepare::core(self.core_linker()?, module, entry)
            }
            Code::Component(component) => {
                self.check_engine(component.engine())?;
                prepare::component(self.component_linker()?, component, entry)
            }
        }
    }

    fn check_engine(&self, engine: &Engine) -> Result<(), PrepareError> {
        if Engine::same(engine, &self.engine) {
            Ok(())
        } else {
            Err(PrepareError::ForeignEngine)
        }
    }

    fn core_linker(&self) -> Result<&Linker<CoreState>, PrepareError> {
        if let Some(linker) = self.core.get() {
            return Ok(linker);
        }
        let mut linker = Linker::new(&self.engine);
        p1::add_to_linker(&mut linker).map_err(|error| linker_error(Kind::Core, &error))?;
        Ok(self.core.get_or_init(|| linker))
    }

    fn component_linker(&self) -> Result<&wasmtime::component::Linker<ComponentState>, PrepareError> {
        if let Some(linker) = self.component.get() {
            return Ok(linker);
        }
        let mut linker = wasmtime::component::Linker::new(&self.engine);
        p2::add_to_linker(&mut linker)
            .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
            .map_err(|error| linker_error(Kind::Component, &error))?;
        Ok(self.component.get_or_init(|| linker))
    }
}

fn linker_error(kind: Kind, error: &wasmtime::Error) -> PrepareError {
    PrepareError::Linker {
        kind: kind.name(),
        reason: format!("{error:#}"),
    }
}
