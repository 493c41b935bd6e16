//! Compiles the probe, the guest that a node must run before it is given pods, from its source.

use std::{env, error::Error, fs, path::Path};

const SOURCE: &str = "src/cri/probe/probe.wat";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={SOURCE}");
    let wasm = wat::parse_file(SOURCE)?;
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("probe.wasm"), wasm)?;
    Ok(())
}
