//! The state that a store carries, and how it is built from a [`GuestSpec`].

use crate::error::HostError;
use crate::fs::View;
use crate::limits::MemoryLimit;
use crate::p1::Preview1;
use crate::p2::Files;
use crate::spec::GuestSpec;
use crate::stdio::Output;
use std::sync::Arc;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Epoch ticks (see [`crate::signals`]) that a guest may run for before it lets others of its thread run.
const TICKS_PER_TURN: u64 = 1;

/// State of a core module's store.
pub(crate) struct CoreState {
    pub(crate) wasi: Preview1,
    limit: MemoryLimit,
}

/// State of a component's store.
pub(crate) struct ComponentState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    view: Arc<View>,
    limit: MemoryLimit,
}

impl ComponentState {
    /// What `wasi:filesystem` works on.
    pub(crate) fn files(&mut self) -> Files<'_> {
        Files {
            view: &self.view,
            table: &mut self.table,
        }
    }
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for ComponentState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: Default::default(),
        }
    }
}

/// A store for the one run of a core module.
pub(crate) fn core_store(engine: &Engine, spec: &GuestSpec) -> Result<Store<CoreState>, HostError> {
    let state = CoreState {
        wasi: Preview1::new(view(spec, true)?, &spec.args, &spec.environment()),
        limit: MemoryLimit::new(&spec.memory),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limit);
    // The guest is alone in its process, and nothing counts the epoch up.
    store.set_epoch_deadline(u64::from(u32::MAX));
    Ok(store)
}

/// A store for the one run of a component as a command.
pub(crate) fn component_store(engine: &Engine, spec: &GuestSpec) -> Result<Store<ComponentState>, HostError> {
    let mut builder = builder(spec, &spec.environment());
    builder.inherit_stdin();
    Ok(store_with(engine, builder.build(), view(spec, true)?, spec))
}

/// Makes the stores of an HTTP server, one for each request.
pub(crate) struct StoreFactory {
    spec: GuestSpec,
    env: Vec<(String, String)>,
    /// The files, the same for all requests.
    view: Arc<View>,
}

impl StoreFactory {
    pub(crate) fn new(spec: GuestSpec) -> Result<Self, HostError> {
        Ok(Self {
            env: spec.environment(),
            // Requests share the threads of the server, so that a file operation of one must not block its thread.
            view: view(&spec, false)?,
            spec,
        })
    }

    pub(crate) fn store(&self, engine: &Engine) -> Store<ComponentState> {
        let wasi = builder(&self.spec, &self.env).build();
        store_with(engine, wasi, Arc::clone(&self.view), &self.spec)
    }
}

fn view(spec: &GuestSpec, patient: bool) -> Result<Arc<View>, HostError> {
    let view = View::new(&spec.root, patient).map_err(|reason| HostError::Root {
        root: spec.root.clone(),
        reason: reason.into(),
    })?;
    Ok(Arc::new(view))
}

fn store_with(engine: &Engine, wasi: WasiCtx, view: Arc<View>, spec: &GuestSpec) -> Store<ComponentState> {
    let state = ComponentState {
        wasi,
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
        view,
        limit: MemoryLimit::new(&spec.memory),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limit);
    take_turns(&mut store);
    store
}

fn take_turns(store: &mut Store<ComponentState>) {
    store.set_epoch_deadline(TICKS_PER_TURN);
    store.epoch_deadline_async_yield_and_update(TICKS_PER_TURN);
}

/// What all components have in common: arguments, environment, output, and the network of the pod.
fn builder(spec: &GuestSpec, env: &[(String, String)]) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .args(&spec.args)
        .envs(env)
        .stdout(Output::Stdout)
        .stderr(Output::Stderr);
    if !spec.cwd.is_empty() {
        builder.initial_cwd(&spec.cwd);
    }
    builder
        .inherit_network()
        .allow_ip_name_lookup(true)
        .allow_tcp(true)
        .allow_udp(true);
    builder
}
