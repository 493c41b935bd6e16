//! Many tasks of every kind, ended in every way, some of them at the same time: after them the node is as before.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tandem_integration::deadline::{SOON, until};
use tandem_integration::image::Image;
use tandem_integration::{
    Code, Container, ContainerBuilder, Containerd, Error, Generation, NetNs, Result, on_both_generations,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::shim::{Held, Shim, held};
use super::support::{import_guest, tandem, with_busybox};

/// Tasks of one soak; the two generations share a thousand.
const TASKS: usize = 500;
/// Pods (or lone containers) at the same time.
const AT_ONCE: usize = 12;
/// Replays a run: the seed that a failed one printed.
const SEED: &str = "TANDEM_SOAK_SEED";

/// A number sequence that a seed decides (splitmix64).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let clock = || {
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .subsec_nanos()
                .into()
        };
        let seed = seed.unwrap_or_else(clock);
        println!("{SEED}={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What a task is and how it ends.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// Runs to its own end, with this exit code.
    Exits(&'static str, u32),
    /// Runs until it is killed with this signal, after this many milliseconds.
    Killed(&'static str, u32, u64),
    /// Is created and deleted.
    NeverStarted(&'static str),
    /// Its client gives up on Create after this many milliseconds.
    GivenUp(&'static str, u64),
    /// Answers requests until SIGTERM.
    Serves,
}

impl Life {
    fn any(dice: &mut Dice) -> Self {
        const ENDLESS: [&str; 2] = ["spin.wasm", "sleep"];
        let endless = ENDLESS[usize::try_from(dice.below(2)).unwrap()];
        let ms = dice.below(30);
        match dice.below(14) {
            0 | 1 => Self::Exits("hello.wasm", 0),
            2 => Self::Exits("exit7.wasm", 7),
            3 => Self::Exits("trap.wasm", 134),
            4 | 5 => Self::Exits("hello-component.wasm", 0),
            6 | 7 => Self::Exits("true", 0),
            8 => Self::Exits("false", 1),
            9 | 10 => Self::Killed(endless, 9, ms),
            11 => Self::Killed("spin.wasm", 15, ms),
            12 => Self::NeverStarted(endless),
            _ if dice.below(2) == 0 => Self::GivenUp(endless, ms),
            _ => Self::Serves,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Exits(program, _) | Self::Killed(program, ..) => program,
            Self::NeverStarted(program) | Self::GivenUp(program, _) => program,
            Self::Serves => "http-hello.wasm",
        }
    }
}

const GUESTS: [&str; 6] = [
    "hello.wasm",
    "exit7.wasm",
    "trap.wasm",
    "hello-component.wasm",
    "spin.wasm",
    "http-hello.wasm",
];

struct Node {
    ctd: Containerd,
    linux: Image,
    guests: Vec<(&'static str, Image)>,
}

impl Node {
    async fn start(generation: Generation) -> Result<Self> {
        let (ctd, linux) = with_busybox(generation).await?;
        let mut guests = Vec::new();
        for guest in GUESTS {
            guests.push((guest, import_guest(&ctd, guest).await?));
        }
        let node = Self { ctd, linux, guests };
        for guest in GUESTS {
            // Compiled once, so that what follows is about tasks and not about the compiler.
            let container = node.container(guest).create().await?;
            container.task().await?.delete_only().await?;
            container.remove().await?;
        }
        Ok(node)
    }

    fn container(&self, program: &str) -> ContainerBuilder {
        match self.guests.iter().find(|(name, _)| *name == program) {
            Some((_, image)) => tandem(&self.ctd, image),
            None if program == "sleep" => tandem(&self.ctd, &self.linux).args(["sleep", "1000"]),
            None => tandem(&self.ctd, &self.linux).args([program]),
        }
    }

    /// A pod of several containers, or one container without a pod.
    async fn pod(&self, lives: Vec<Life>) -> Result<()> {
        let netns = NetNs::new(&self.ctd)?;
        let [life] = lives.as_slice() else {
            let sandbox = self.container("sleep").netns(netns.path()).sandbox().create().await?;
            let mut pause = sandbox.task().await?;
            pause.start().await?;
            let live = lives.iter().map(|life| {
                let builder = self
                    .container(life.program())
                    .netns(netns.path())
                    .in_sandbox(sandbox.id());
                // Two servers of a pod cannot have one port.
                live(
                    *life,
                    builder,
                    (lives.iter().filter(|life| matches!(life, Life::Serves)).count() < 2).then_some(&netns),
                )
            });
            // The first failure is what counts; the pod is taken away in any case.
            let results = futures(live.collect()).await;
            pause.kill_and_delete().await?;
            sandbox.remove().await?;
            return results.into_iter().collect();
        };
        live(*life, self.container(life.program()).netns(netns.path()), Some(&netns)).await
    }
}

/// Runs all at the same time.
async fn futures(all: Vec<impl Future<Output = Result<()>>>) -> Vec<Result<()>> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut results = Vec::new();
    std::future::poll_fn(|context| {
        all.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results
}

/// The life of one task, and the removal of its container.
async fn live(life: Life, builder: ContainerBuilder, netns: Option<&NetNs>) -> Result<()> {
    let container = builder.create().await?;
    let lived = life_of(life, &container, netns).await;
    let id = container.id().to_owned();
    lived.map_err(|error| Error::Setup(format!("{life:?} of {id}: {error}")))?;
    container.remove().await
}

async fn life_of(life: Life, container: &Container, netns: Option<&NetNs>) -> Result<()> {
    if let Life::GivenUp(_, ms) = life {
        if let Ok(task) = timeout(Duration::from_millis(ms), container.task()).await {
            task?.delete_only().await?;
            return Ok(());
        }
        return super::races::remove_abandoned(container).await;
    }
    let mut task = container.task().await?;
    if let Life::NeverStarted(_) = life {
        assert_eq!(task.delete_only().await?.code, 137);
        return Ok(());
    }
    task.start().await?;
    let code = match life {
        Life::Killed(_, signal, after) => {
            sleep(Duration::from_millis(after)).await;
            task.kill(signal).await?;
            128 + signal
        }
        Life::Serves => match netns {
            Some(netns) => {
                let answer = netns.get_soon(([127, 0, 0, 1], 8080).into(), "/").await?;
                assert_eq!(answer.text(), "hello from tandem\n");
                task.kill(15).await?;
                0
            }
            None => {
                // The server whose port was another's may have ended by itself.
                super::races::allowed(task.kill(9).await, &[Code::NotFound]);
                137
            }
        },
        Life::Exits(_, code) => code,
        Life::NeverStarted(_) | Life::GivenUp(..) => 0,
    };
    let exit = task.wait().await?;
    // Without the port that another server has, a server's end is its own.
    if netns.is_some() || !matches!(life, Life::Serves) {
        assert_eq!(exit.code, code, "{life:?}");
    }
    assert_eq!(task.delete().await?.code, exit.code);
    Ok(())
}

/// Memory of all processes that serve and run `tasks`, in KiB, by the kernel's fair shares.
fn memory_kib(ctd: &Containerd) -> u64 {
    let name = ctd.home().dir.to_string_lossy().into_owned();
    let mut total = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains(&name) && line.contains("containerd-shim-tandem-v1") {
            let rollup = std::fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
            let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            total += share.map_or(0, |kib| kib.trim().trim_end_matches(" kB").parse().unwrap());
        }
    }
    total
}

on_both_generations! {
    async fn a_thousand_tasks_of_all_kinds_leave_the_node_as_it_was(generation: Generation) -> Result<()> {
        let mut dice = Dice::new();
        let node = Arc::new(Node::start(generation).await?);
        node.ctd.assert_clean().await?;
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut pods = JoinSet::new();
        let mut tasks = 0;
        while tasks < TASKS {
            let size = [1, 1, 2, 3, 5][usize::try_from(dice.below(5)).unwrap()];
            let lives: Vec<Life> = (0..size).map(|_| Life::any(&mut dice)).collect();
            // What holds a pod is a task too.
            tasks += if size == 1 { 1 } else { size + 1 };
            let place = room.clone().acquire_owned().await.unwrap();
            let node = node.clone();
            pods.spawn(async move {
                let result = node.pod(lives).await;
                drop(place);
                result
            });
            while let Some(done) = pods.try_join_next() {
                done.unwrap()?;
            }
        }
        while let Some(done) = pods.join_next().await {
            done.unwrap()?;
        }
        let Some(node) = Arc::into_inner(node) else { panic!("a pod is still at it") };
        node.ctd.stop().await
    }

    async fn two_hundred_creates_at_once_all_run_within_their_memory(generation: Generation) -> Result<()> {
        const EACH: usize = 100;
        let node = Node::start(generation).await?;
        let sandbox = node.container("sleep").sandbox().create().await?;
        let mut pause = sandbox.task().await?;
        pause.start().await?;
        let alone = memory_kib(&node.ctd);
        let mut creates = JoinSet::new();
        for number in 0..2 * EACH {
            let builder = node.container(if number % 2 == 0 { "spin.wasm" } else { "sleep" });
            // Half of them in one pod, half with a shim of their own. They wait, so as not to spin on the node's cores.
            let builder = if number < EACH { builder.in_sandbox(sandbox.id()) } else { builder };
            creates.spawn(async move {
                let container = builder.create().await?;
                let task = container.task().await?;
                Ok::<_, Error>((number, container, task))
            });
        }
        let mut all = Vec::new();
        while let Some(created) = creates.join_next().await {
            all.push(created.unwrap()?);
        }
        let each = (memory_kib(&node.ctd) - alone) / (2 * EACH as u64);
        assert!(each < 3 * 1024, "{each} KiB for each");
        let mut ends = JoinSet::new();
        for (number, container, mut task) in all {
            ends.spawn(async move {
                if number % 4 == 1 {
                    task.start().await?;
                }
                task.kill_and_delete().await?;
                container.remove().await
            });
        }
        while let Some(ended) = ends.join_next().await {
            ended.unwrap()?;
        }
        pause.kill_and_delete().await?;
        sandbox.remove().await?;
        node.ctd.stop().await
    }

    async fn the_shim_of_a_long_lived_pod_does_not_grow(generation: Generation) -> Result<()> {
        const CYCLES: usize = 40;
        let node = Node::start(generation).await?;
        let sandbox = node.container("sleep").sandbox().create().await?;
        let mut pause = sandbox.task().await?;
        pause.start().await?;
        let shim = Shim::of(&pause);
        let mut before = None;
        for cycle in 0..3 * CYCLES {
            let life = [Life::Exits("hello.wasm", 0), Life::Exits("true", 0), Life::NeverStarted("spin.wasm")][cycle % 3];
            live(life, node.container(life.program()).in_sandbox(sandbox.id()), None).await?;
            // What a process grows to by its first uses is not a leak.
            if cycle == CYCLES {
                // Of each of the two one child stays: the zygote, and the pause.
                until("the last worker's end", SOON, || shim.both().iter().all(|pid| held(*pid).children == 1).then_some(())).await?;
                before = Some(shim.both().map(held));
            }
        }
        let before = before.unwrap();
        // What watched a container ends a moment after its Delete was answered.
        until("as few descriptors and children as before", SOON, || {
            let as_before = |(before, pid): (&Held, i32)| held(pid).fds <= before.fds && held(pid).children == 1;
            before.iter().zip(shim.both()).all(as_before).then_some(())
        })
        .await?;
        for (before, after) in before.iter().zip(shim.both().map(held)) {
            // The heap settles for some hundred cycles; 2 KiB that each of them kept would show.
            let growth = after.anonymous_kib.saturating_sub(before.anonymous_kib);
            assert!(growth < 160, "{} cycles cost {growth} KiB: {before:?}, {after:?}", 2 * CYCLES);
        }
        pause.kill_and_delete().await?;
        sandbox.remove().await?;
        node.ctd.stop().await
    }
}
