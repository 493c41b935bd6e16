//! The state that a store carries, and how it is built from a [`GuestSpec`].

use crate::error::HostError;
use crate::limits::MemoryLimit;
use crate::spec::GuestSpec;
use crate::stdio::Output;
use wasmtime::{Engine, Store};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Epoch ticks (see [`crate::signals`]) that a guest may run for before it lets others of its thread run.
const TICKS_PER_TURN: u64 = 1;

/// State of a core module's store.
pub(crate) struct CoreState {
    pub(crate) wasi: WasiP1Ctx,
    limit: MemoryLimit,
}

/// State of a component's store.
pub(crate) struct ComponentState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    limit: MemoryLimit,
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
    let wasi = command_builder(spec)?.build_p1();
    let mut store = Store::new(
        engine,
        CoreState {
            wasi,
            limit: MemoryLimit::new(&spec.memory),
        },
    );
    store.limiter(|state| &mut state.limit);
    take_turns(&mut store);
    Ok(store)
}

/// A store for the one run of a component as a command.
pub(crate) fn component_store(engine: &Engine, spec: &GuestSpec) -> Result<Store<ComponentState>, HostError> {
    let wasi = command_builder(spec)?.build();
    Ok(store_with(engine, wasi, spec))
}

/// Makes the stores of an HTTP server, one for each request.
pub(crate) struct StoreFactory {
    spec: GuestSpec,
    env: Vec<(String, String)>,
    /// The preopens, opened once for all requests.
    filesystem: WasiFilesystemCtx,
}

impl StoreFactory {
    pub(crate) fn new(spec: GuestSpec) -> Result<Self, HostError> {
        // Requests share the threads of the server, so that a file operation of one must not block its thread.
        let mut builder = WasiCtxBuilder::new();
        preopen(&mut builder, &spec)?;
        let filesystem = builder.build().filesystem().clone();
        Ok(Self {
            env: spec.environment(),
            spec,
            filesystem,
        })
    }

    pub(crate) fn store(&self, engine: &Engine) -> Store<ComponentState> {
        let mut builder = builder(&self.spec, &self.env);
        let mut wasi = builder.build();
        *wasi.filesystem() = self.filesystem.clone();
        store_with(engine, wasi, &self.spec)
    }
}

fn store_with(engine: &Engine, wasi: WasiCtx, spec: &GuestSpec) -> Store<ComponentState> {
    let state = ComponentState {
        wasi,
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
        limit: MemoryLimit::new(&spec.memory),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limit);
    take_turns(&mut store);
    store
}

fn take_turns<T>(store: &mut Store<T>) {
    store.set_epoch_deadline(TICKS_PER_TURN);
    store.epoch_deadline_async_yield_and_update(TICKS_PER_TURN);
}

fn command_builder(spec: &GuestSpec) -> Result<WasiCtxBuilder, HostError> {
    let mut builder = builder(spec, &spec.environment());
    builder.inherit_stdin();
    // The guest is alone on its thread: handing its file operations to another one would only cost that thread.
    builder.allow_blocking_current_thread(true);
    preopen(&mut builder, spec)?;
    Ok(builder)
}

/// What all guests have in common: arguments, environment, output, and the network of the pod.
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

fn preopen(builder: &mut WasiCtxBuilder, spec: &GuestSpec) -> Result<(), HostError> {
    for preopen in &spec.preopens {
        let perms = if preopen.read_only {
            FsPerms::ReadOnly
        } else {
            FsPerms::ReadWrite
        };
        builder
            .preopened_dir(&preopen.host_path, &preopen.guest_path, perms)
            .map_err(|error| HostError::Preopen {
                host_path: preopen.host_path.clone(),
                guest_path: preopen.guest_path.clone(),
                reason: format!("{error:#}"),
            })?;
    }
    Ok(())
}
