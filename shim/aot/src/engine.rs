//! The one place that decides what affects generated code.
//!
//! Every process of Tandem makes its engine from [`engine_config`]. A caller may still tune what only matters at
//! run time (allocation strategy, stack sizes); a change of anything that shapes the code is not wrong either, it
//! merely gives another [`Fingerprint`] and with it entries of its own.

use std::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};
use tandem_digest::hex;
use wasmtime::{Config, Engine, OptLevel, Strategy, WasmBacktraceDetails};

/// Largest initial memory content that may be mostly zeros and still be kept as an image: one page of Wasm.
const SPARSE_IMAGE_BYTES: u64 = 64 << 10;

/// The settings of every engine in Tandem.
pub fn engine_config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed);
    // The way to end a guest that never calls the host. Fuel would count every block and cost twice as much.
    config.epoch_interruption(true);
    // A trap prints the guest's own stack, with source lines where the module brings DWARF. The address map and
    // the DWARF live in the mapped file and cost memory only when a trap reads them. Said explicitly, because the
    // default asks an environment variable and so could differ from process to process.
    config
        .generate_address_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    // Wasmtime's own backtraces do not need .eh_frame, only debuggers of the host would; registering it costs time
    // and private memory at every load, in proportion to the size of the module.
    config.native_unwind_info(false);
    // Initial memory contents are mapped from the entry's file and shared until they are written.
    config.memory_init_cow(true);
    // Such an image spans everything between a memory's first and last data, so a few bytes at both ends of 16 MiB, the
    // default, make an image of 16 MiB, for each of a hundred memories. Beyond this size an image is made only where at
    // least half of it is data that the module brings along; other memories are filled segment by segment.
    config.memory_guaranteed_dense_image_size(SPARSE_IMAGE_BYTES);
    config.wasm_component_model(true);
    // WASI 0.2 is synchronous in the guest and needs fibers only. The tasks, streams and futures of 0.3 would add
    // state to every store and book-keeping to every call between components.
    config.concurrency_support(false);
    // One guest per process: compiling in parallel is for the worker's process alone.
    config.parallel_compilation(true);
    config
}

/// What has to be the same for compiled code to be reusable: wasmtime's exact version, the target, the compiler's
/// flags, the CPU features in use, the tunables and the enabled Wasm features.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `engine`.
    pub fn of(engine: &Engine) -> Self {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Enough of the hash for a file name: 64 bits tell the few engines of a node apart, and the entry itself
    /// holds all 256.
    pub(crate) fn short(&self) -> String {
        hex(&self.0[..8])
    }
}

/// Collects what is hashed with SHA-256, so that equal fingerprints mean equal engines.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash: [u8; 32] = self.0.clone().finalize().into();
        u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_settings_have_equal_fingerprints() {
        let first = Engine::new(&engine_config()).unwrap();
        let second = Engine::new(&engine_config()).unwrap();
        assert_eq!(Fingerprint::of(&first), Fingerprint::of(&second));
    }

    #[test]
    fn a_setting_that_changes_code_changes_the_fingerprint() {
        let ours = Engine::new(&engine_config()).unwrap();
        let mut without_epochs = engine_config();
        without_epochs.epoch_interruption(false);
        let mut unoptimised = engine_config();
        unoptimised.cranelift_opt_level(OptLevel::None);
        for config in [without_epochs, unoptimised] {
            assert_ne!(Fingerprint::of(&ours), Fingerprint::of(&Engine::new(&config).unwrap()));
        }
    }

    #[test]
    fn a_setting_of_the_run_time_keeps_the_fingerprint() {
        let ours = Engine::new(&engine_config()).unwrap();
        let mut config = engine_config();
        config.max_wasm_stack(256 * 1024).async_stack_size(1 << 20);
        assert_eq!(Fingerprint::of(&ours), Fingerprint::of(&Engine::new(&config).unwrap()));
    }
}
