//! Makes components of Go programs, as componentize-go does: with its generator of bindings, and with the adapter by
//! which a module of preview 1 becomes a component.
//!
//!     componentize bindings WIT WORLD DIR
//!     componentize new WIT WORLD MODULE COMPONENT

use std::path::Path;

use anyhow::{Context, Result, bail};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::Files;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["bindings", wit, world, dir] => bindings(wit, world, Path::new(dir)),
        ["new", wit, world, module, component] => new(wit, world, Path::new(module), Path::new(component)),
        _ => bail!("usage: componentize bindings WIT WORLD DIR, or componentize new WIT WORLD MODULE COMPONENT"),
    }
}

fn world(wit: &str, name: &str) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(name))?;
    Ok((resolve, world))
}

fn bindings(wit: &str, name: &str, dir: &Path) -> Result<()> {
    let (mut resolve, world) = world(wit, name)?;
    let mut files = Files::default();
    let options = wit_bindgen_go::Opts {
        format: wit_bindgen_go::Format::False,
        ..Default::default()
    };
    options.build().generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        let path = dir.join(name);
        let parent = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, content))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn new(wit: &str, name: &str, module: &Path, component: &Path) -> Result<()> {
    let (resolve, world) = world(wit, name)?;
    let mut bytes = std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)?;
    let encoded = ComponentEncoder::default()
        .module(&bytes)?
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )?
        .validate(true)
        .encode()?;
    std::fs::write(component, encoded).with_context(|| format!("cannot write {}", component.display()))
}
