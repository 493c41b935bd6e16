//! `containerd-shim-baseline-v1`: the peer that Tandem's benchmarks compare with.
//!
//! A plain shim as one gets by following the documentation of `containerd-shim-wasm` (runwasi) 1.0 with wasmtime
//! as its engine: the crate owns the Task service, the processes, the container and the cache of compiled code;
//! this program adds only what an engine must. Where runwasi's own wasmtime shim has made a choice (pooling
//! allocator, which components are served over HTTP, what the guest may reach), the choice here is the same, so
//! that the comparison is fair. It is not a product.
//!
//! - [`Baseline`]: what the crate asks a shim for
//! - [`guest`]: runs a p1 module or a component
//! - [`http`]: serves a `wasi:http` component

mod guest;
mod http;

use std::hash::Hash;

use anyhow::Result;
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{RuntimeContext, WasmBinaryType, WasmLayer};
use containerd_shim_wasm::shim::{Cli, Compiler, Shim, Version, version};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

fn main() {
    Baseline::run(None);
}

/// The shim.
struct Baseline;

impl Shim for Baseline {
    type Sandbox = Guest;

    /// Also the key under which containerd-shim-wasm labels compiled code in the content store.
    fn name() -> &'static str {
        "baseline"
    }

    fn version() -> Version {
        version!()
    }

    async fn compiler() -> Option<impl Compiler> {
        match Engine::new(&Config::new()) {
            Ok(engine) => Some(Precompiler(engine)),
            Err(error) => {
                log::error!("no cache of compiled code: wasmtime's engine cannot be made: {error:#}");
                None
            }
        }
    }
}

/// Compiles the layers of an image, once per engine; the crate keeps the result in containerd's content store.
struct Precompiler(Engine);

impl Compiler for Precompiler {
    fn cache_key(&self) -> impl Hash {
        self.0.precompile_compatibility_hash()
    }

    async fn compile(&self, layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        let compile = |layer: &WasmLayer| -> Result<Option<Vec<u8>>> {
            Ok(match WasmBinaryType::from_bytes(&layer.layer) {
                Some(WasmBinaryType::Module) => Some(self.0.precompile_module(&layer.layer)?),
                Some(WasmBinaryType::Component) => Some(self.0.precompile_component(&layer.layer)?),
                None => None,
            })
        };
        layers.iter().map(compile).collect()
    }
}

/// The process of one container, in which its guest runs.
#[derive(Default)]
struct Guest;

impl Sandbox for Guest {
    async fn run_wasi(&self, ctx: &impl RuntimeContext) -> Result<i32> {
        guest::run(&engine()?, ctx).await
    }
}

/// The engine of a container: with the pooling allocator where the machine has the address space for it.
fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::default()));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            log::info!("no pooling allocator: {error:#}");
            Ok(Engine::new(&Config::new())?)
        }
    }
}
