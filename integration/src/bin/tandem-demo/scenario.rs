//! The demo itself: four images, each started with an empty cache and then with a warm one, at the end all at once.

use std::{fs, time::Duration};

use tandem_integration::{Containerd, Error, Result, Task, image::Image};

use crate::{
    held::Held,
    memory,
    run::Running,
    table::{self, Column},
    terminal,
    workload::{Course, Workload},
};

/// Starts with a warm cache, of which the median is shown.
const WARM_STARTS: usize = 5;
/// For the table's number of bytes in a mebibyte.
const MIB: f64 = 1024.0 * 1024.0;

const fn text(heading: &'static str) -> Column {
    Column {
        heading: [heading, ""],
        number: false,
        bright: false,
    }
}

const fn number(first: &'static str, second: &'static str) -> Column {
    Column {
        heading: [first, second],
        number: true,
        bright: false,
    }
}

const COLUMNS: [Column; 7] = [
    text("image"),
    text("packaged as"),
    text("kind"),
    Column {
        bright: true,
        ..text("answer")
    },
    number("first", "start, ms"),
    number("next", "starts, ms"),
    number("memory", "MiB"),
];

/// What was seen of a workload.
struct Seen {
    answer: String,
    first: Duration,
    next: Duration,
    memory: u64,
}

/// A container that lives while the memory of all of them is measured.
enum Alive {
    /// It stays by itself.
    Staying(Running),
    /// It would have ended.
    Held(Held),
}

impl Alive {
    fn task(&self) -> &Task {
        match self {
            Self::Staying(running) => &running.task,
            Self::Held(held) => &held.task,
        }
    }

    async fn end(self) -> Result<()> {
        match self {
            Self::Staying(running) => running.end().await,
            Self::Held(held) => held.end().await,
        }
    }
}

/// Imports, runs, measures, prints and ends everything.
///
/// # Errors
/// The first failure, with the image it is about.
pub async fn show(ctd: &Containerd, workloads: &[Workload]) -> Result<()> {
    terminal::step(&format!("importing {} images built here", workloads.len()));
    let mut images = Vec::new();
    for workload in workloads {
        images.push(about(workload, ctd.import(&workload.layout).await)?);
    }

    let mut seen = Vec::new();
    let mut kept = Vec::new();
    for (workload, image) in workloads.iter().zip(&images) {
        let (one, running) = about(workload, measure(ctd, workload, image).await)?;
        seen.push(one);
        kept.push(running);
    }

    terminal::step("running all of them at once, for their memory");
    let mut alive = Vec::new();
    for ((workload, image), running) in workloads.iter().zip(&images).zip(kept) {
        alive.push(match running {
            Some(running) => Alive::Staying(running),
            None => Alive::Held(about(workload, Held::start(ctd, workload, image).await)?),
        });
    }
    for ((workload, seen), alive) in workloads.iter().zip(&mut seen).zip(&alive) {
        seen.memory = about(workload, memory::of(alive.task()).await)?;
    }
    for (workload, alive) in workloads.iter().zip(alive) {
        about(workload, alive.end().await)?;
    }
    print(ctd, workloads, &seen).await
}

/// Starts a workload for the first time and then some more times. One that stays is left running the last time.
async fn measure(ctd: &Containerd, workload: &Workload, image: &Image) -> Result<(Seen, Option<Running>)> {
    let compiled = if workload.course == Course::Daemon {
        ""
    } else {
        " with its compilation"
    };
    terminal::step(&format!(
        "{} ({}): a first start{compiled}, then {WARM_STARTS} more",
        workload.name(),
        workload.kind
    ));
    let running = Running::start(ctd, workload, image).await?;
    let (first, answer) = (running.latency, running.answer.clone());
    running.end().await?;
    let mut next = Vec::new();
    let mut kept = None;
    for start in 1..=WARM_STARTS {
        let running = Running::start(ctd, workload, image).await?;
        next.push(running.latency);
        if start == WARM_STARTS && workload.course != Course::Command {
            kept = Some(running);
        } else {
            running.end().await?;
        }
    }
    next.sort();
    let next = next.get(WARM_STARTS / 2).copied().unwrap_or_default();
    Ok((
        Seen {
            answer,
            first,
            next,
            memory: 0,
        },
        kept,
    ))
}

async fn print(ctd: &Containerd, workloads: &[Workload], seen: &[Seen]) -> Result<()> {
    let row = |(workload, seen): (&Workload, &Seen)| {
        vec![
            workload.name().to_owned(),
            workload.form.to_owned(),
            workload.kind.to_owned(),
            seen.answer.clone(),
            milliseconds(seen.first),
            milliseconds(seen.next),
            mebibytes(seen.memory),
        ]
    };
    let rows: Vec<Vec<String>> = workloads.iter().zip(seen).map(row).collect();
    let request = ctd.session().request(());
    let mut client = ctd.session().client().version();
    let version = ctd
        .session()
        .call("version", "", client.version(request))
        .await?
        .version;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\n{}", table::draw(&COLUMNS, &rows, terminal::colours()));
    println!("  start   from the call that creates the task to the first byte of output or the HTTP response;");
    println!("          first: no compiled code in the cache, next: the median of {WARM_STARTS} starts with it");
    println!("  memory  PSS of the container's processes and of its shim, with all of them running");
    println!(
        "  here    containerd {version}, Linux {}, {processors} processors\n",
        kernel.trim()
    );
    Ok(())
}

/// Names the image in what failed.
fn about<T>(workload: &Workload, result: Result<T>) -> Result<T> {
    result.map_err(|error| Error::Setup(format!("{} ({}): {error}", workload.image, workload.kind)))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// A container's memory is far below 2^53 bytes, up to which an `f64` is exact.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_digit_after_the_point() {
        assert_eq!(milliseconds(Duration::from_micros(12_340)), "12.3");
        assert_eq!(mebibytes(3 << 19), "1.5");
    }
}
