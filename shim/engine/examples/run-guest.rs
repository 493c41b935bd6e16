//! Runs a Wasm file the way a container would: `run-guest [options] file.wasm [args]`.
//!
//! ```text
//! --entry NAME        the function to run
//! --root DIR          the directory that it sees as `/`
//! --env NAME=VALUE    a variable of its environment
//! --cwd PATH          its working directory
//! --max-memory BYTES  its limit of linear memory
//! --http-limits JSON  what clients of a server may cost it
//! --pooling           instances from a pool
//! --times             prints how long each step took to stderr, and how many threads there were before the run
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;
use tandem_engine::{Code, GuestSpec, Host, Kind, MemoryBudget};
use wasmtime::component::Component;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, Module};

#[derive(Default)]
struct Options {
    file: String,
    entry: Option<String>,
    spec: GuestSpec,
    pooling: bool,
    times: bool,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--entry" => options.entry = Some(value()?),
            "--cwd" => options.spec.cwd = value()?,
            "--max-memory" => {
                let limit = value()?.parse()?;
                options.spec.memory = MemoryBudget::new(move || Some(limit));
            }
            "--http-limits" => options.spec.http_limits = serde_json::from_str(&value()?)?,
            "--pooling" => options.pooling = true,
            "--times" => options.times = true,
            "--env" => {
                let pair = value()?;
                let (name, value) = pair.split_once('=').ok_or("--env needs NAME=VALUE")?;
                options.spec.env.push((name.into(), value.into()));
            }
            "--root" => {
                options.spec.root = value()?.into();
            }
            _ => {
                options.spec.args = std::iter::once(arg.clone()).chain(args.by_ref()).collect();
                options.file = arg;
            }
        }
    }
    if options.file.is_empty() {
        Err("name a Wasm file to run".into())
    } else {
        Ok(options)
    }
}

fn threads() -> std::io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Private memory that was written to, in KiB.
fn dirty() -> std::io::Result<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:"));
    Ok(line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0))
}

struct Clock {
    shown: bool,
    last: Instant,
    dirty: u64,
}

impl Clock {
    fn lap(&mut self, what: &str) -> std::io::Result<()> {
        if self.shown {
            let (elapsed, dirty) = (self.last.elapsed(), dirty()?);
            let grown = dirty.saturating_sub(self.dirty);
            eprintln!(
                "{what:20} {elapsed:>10.1?} {grown:>6} KiB dirty, {} threads",
                threads()?
            );
            self.dirty = dirty;
            self.last = Instant::now();
        }
        Ok(())
    }
}

fn run() -> Result<i32, Box<dyn Error>> {
    let options = options()?;
    let mut config = Config::new();
    // No compiler threads: what is counted here is what a zygote would have.
    config.epoch_interruption(true).parallel_compilation(false);
    if options.pooling {
        config.allocation_strategy(InstanceAllocationStrategy::pooling());
    }
    let mut clock = Clock {
        shown: options.times,
        last: Instant::now(),
        dirty: dirty()?,
    };
    let engine = Engine::new(&config)?;
    clock.lap("engine")?;
    let bytes = std::fs::read(&options.file)?;
    let bytes = wat::parse_bytes(&bytes)?;
    let code = if wasmtime::Engine::detect_precompiled(&bytes).is_some() {
        return Err("precompiled files are not for this tool".into());
    } else if bytes.get(4..8) == Some(&[0x0d, 0, 1, 0]) {
        Code::Component(Component::new(&engine, &bytes)?)
    } else {
        Code::Core(Module::new(&engine, &bytes)?)
    };
    clock.lap("compile")?;
    let host = Host::new(engine);
    host.warm(Kind::Core)?;
    clock.lap("core linker")?;
    host.warm(Kind::Component)?;
    clock.lap("component linker")?;
    let guest = host.prepare(&code, options.entry.as_deref())?;
    clock.lap("prepare")?;
    let code = guest.run(options.spec);
    clock.lap("run")?;
    Ok(code)
}

fn main() -> ExitCode {
    match run() {
        // The exit code of a guest has eight bits already.
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("run-guest: {error}");
            ExitCode::from(2)
        }
    }
}
