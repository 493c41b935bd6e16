//! Specs made by chance: each field drawn for itself, so that what is right alone is tried together. A spec in which the
//! runtimes differ is made smaller until only what makes them differ is left.

use std::env;

use proptest::{
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use serde_json::{Value, json};
use tandem_integration::Result;
use tokio::runtime::Handle;

use crate::{
    case::{Case, case, mount, push, remove},
    compare,
    subject::{Bench, Subject},
    verdict::Verdict,
};

/// Seed and number of the specs that every run of the tests draws. `make differential` draws others, and more.
const SEED: u64 = 11;
const SPECS: u32 = 12;
/// How often a spec is made smaller at most: each time three containers run.
const SHRINKS: u32 = 60;

const CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
const VARIABLES: [&str; 8] = [
    "Z=1",
    "A=",
    "M=x y",
    "HOME=/h",
    "A=again",
    "PATH=/bin",
    "PATH=/usr/bin",
    "LANG=C",
];
const DIRECTORIES: [&str; 6] = ["/", "/data", "/data/sub", "/new/deep", "/v/new", "/tmp"];
const TARGETS: [&str; 7] = [
    "/v",
    "/v/deep/er",
    "/data",
    "/to-data/x",
    "/made/by/runtime",
    "/tmp",
    "/var/run/x",
];
const SOURCES: [&str; 6] = ["dir", "out", "flagged", "shared", "link", "tmpfs"];
const OPTIONS: [&str; 12] = [
    "ro",
    "nosuid",
    "nodev",
    "noexec",
    "noatime",
    "nodiratime",
    "nosymfollow",
    "rprivate",
    "rslave",
    "rshared",
    "rro",
    "strictatime",
];
const PATHS: [&str; 8] = [
    "/proc/sys",
    "/proc/kcore",
    "/sys/firmware",
    "/data",
    "/data/seed",
    "/etc",
    "/no/such",
    "/to-data",
];
const NAMESPACES: [&str; 4] = ["pid", "ipc", "uts", "network"];
const LIMITS: [&str; 4] = ["RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_MEMLOCK"];

/// What a spec is made of.
#[derive(Clone, Debug)]
struct Drawn {
    user: (u32, u32, Vec<u32>, Option<u32>),
    sets: [Vec<&'static str>; 5],
    env: Vec<&'static str>,
    cwd: &'static str,
    may_gain: bool,
    read_only: bool,
    mounts: Vec<(&'static str, &'static str, Vec<&'static str>)>,
    masked: Vec<&'static str>,
    readonly: Vec<&'static str>,
    without: Vec<&'static str>,
    limits: Vec<(&'static str, u64, u64)>,
    oom_score: Option<i32>,
    host_name: bool,
    seccomp: bool,
    resources: (Option<i64>, Option<i64>, Option<u64>),
    device: Option<u32>,
}

/// Bounding, permitted, effective, inheritable and ambient set, as the kernel takes them: what is in effect is permitted,
/// what is ambient is permitted and inheritable.
fn sets() -> impl Strategy<Value = [Vec<&'static str>; 5]> {
    prop::collection::vec(any::<[bool; 5]>(), CAPABILITIES.len()).prop_map(|drawn| {
        let mut sets = <[Vec<&str>; 5]>::default();
        for (name, [bounding, permitted, effective, inheritable, ambient]) in CAPABILITIES.iter().zip(drawn) {
            let permitted = bounding && permitted;
            let inheritable = bounding && inheritable;
            let has = [
                bounding,
                permitted,
                permitted && effective,
                inheritable,
                permitted && inheritable && ambient,
            ];
            for (set, _) in sets.iter_mut().zip(has).filter(|(_, has)| *has) {
                set.push(name);
            }
        }
        sets
    })
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let id = || select(vec![0_u32, 1000, 2000, 4242]);
    let groups = subsequence(vec![0_u32, 5, 1000, 3000, 70_000], 0..=4);
    let a_mount = (
        select(TARGETS.to_vec()),
        select(SOURCES.to_vec()),
        subsequence(OPTIONS.to_vec(), 0..=4),
    );
    let limit =
        (select(LIMITS.to_vec()), 16_u64..2000, 0_u64..2000).prop_map(|(kind, soft, more)| (kind, soft, soft + more));
    let process = (
        (id(), id(), groups, prop::option::of(select(vec![0_u32, 0o22, 0o77]))),
        sets(),
        subsequence(VARIABLES.to_vec(), 0..=8).prop_shuffle(),
        select(DIRECTORIES.to_vec()),
        any::<bool>(),
        prop::collection::vec(limit, 0..3),
        prop::option::of(100..1000),
        prop::bool::weighted(0.3),
    );
    let files = (
        prop::bool::weighted(0.3),
        prop::collection::vec(a_mount, 0..4),
        subsequence(PATHS.to_vec(), 0..=4),
        subsequence(PATHS.to_vec(), 0..=4),
        prop::option::weighted(0.3, select(vec![0o600_u32, 0o644, 0o666])),
    );
    let kernel = (
        subsequence(NAMESPACES.to_vec(), 0..=2),
        any::<bool>(),
        (
            prop::option::of(select(vec![32_i64 << 20, 100 << 20])),
            prop::option::of(10_i64..100),
            prop::option::of(2_u64..2000),
        ),
    );
    (process, files, kernel).prop_map(|(process, files, kernel)| {
        let (user, sets, env, cwd, may_gain, limits, oom_score, seccomp) = process;
        let (read_only, mounts, masked, readonly, device) = files;
        let (without, host_name, resources) = kernel;
        Drawn {
            user,
            sets,
            env,
            cwd,
            may_gain,
            read_only,
            mounts,
            masked,
            readonly,
            without,
            limits,
            oom_score,
            host_name,
            seccomp,
            resources,
            device,
        }
    })
}

impl Drawn {
    fn case(&self) -> Case {
        let drawn = self.clone();
        case("generated")
            .look(&["/v", "/data", "/data/seed", "/etc", "/tmp"])
            .edit(move |spec, stage| {
                drawn.process(&mut spec["process"]);
                drawn.linux(spec);
                for (target, source, options) in &drawn.mounts {
                    let path = stage.path(source).to_string_lossy().into_owned();
                    let entry = match *source {
                        "tmpfs" => mount(target, "tmpfs", "tmpfs", options),
                        _ => mount(target, "bind", &path, &[&["rbind"], options.as_slice()].concat()),
                    };
                    push(spec, "/mounts", entry);
                }
            })
    }

    fn process(&self, process: &mut Value) {
        let (uid, gid, groups, umask) = &self.user;
        process["user"] = json!({ "uid": uid, "gid": gid, "additionalGids": groups });
        if let Some(umask) = umask {
            process["user"]["umask"] = (*umask).into();
        }
        let names = ["bounding", "permitted", "effective", "inheritable", "ambient"];
        process["capabilities"] = json!({});
        for (name, set) in names.iter().zip(&self.sets) {
            process["capabilities"][name] = json!(set);
        }
        process["env"] = json!(self.env);
        process["cwd"] = self.cwd.into();
        process["noNewPrivileges"] = (!self.may_gain).into();
        let mut seen = Vec::new();
        process["rlimits"] = json!([]);
        for (kind, soft, hard) in &self.limits {
            if !seen.contains(kind) {
                seen.push(*kind);
                push(process, "/rlimits", json!({ "type": kind, "soft": soft, "hard": hard }));
            }
        }
        if let Some(score) = self.oom_score {
            process["oomScoreAdj"] = score.into();
        }
    }

    fn linux(&self, spec: &mut Value) {
        spec["root"]["readonly"] = self.read_only.into();
        spec["linux"]["maskedPaths"] = json!(self.masked);
        spec["linux"]["readonlyPaths"] = json!(self.readonly);
        for kind in &self.without {
            remove(spec, "/linux/namespaces", "type", kind);
        }
        if self.host_name && !self.without.contains(&"uts") {
            spec["hostname"] = "drawn".into();
        }
        if self.seccomp {
            spec["linux"]["seccomp"] = tandem_integration::spec::seccomp();
        }
        let (memory, pids, shares) = self.resources;
        if let Some(limit) = memory {
            spec["linux"]["resources"]["memory"] = json!({ "limit": limit });
        }
        if let Some(limit) = pids {
            spec["linux"]["resources"]["pids"] = json!({ "limit": limit });
        }
        if let Some(shares) = shares {
            spec["linux"]["resources"]["cpu"] = json!({ "shares": shares });
        }
        if let Some(mode) = self.device {
            let device = json!({ "path": "/dev/some/thing", "type": "c", "major": 1, "minor": 3, "fileMode": mode });
            push(spec, "/linux/devices", device);
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn runner() -> TestRunner {
    let seed = number("TANDEM_DIFFERENTIAL_SEED", SEED);
    let specs = number("TANDEM_DIFFERENTIAL_SPECS", SPECS.into());
    println!("{specs} specs of seed {seed}");
    let config = Config {
        cases: u32::try_from(specs).unwrap_or(SPECS),
        max_shrink_iters: SHRINKS,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Some specs, as they come.
pub fn some() -> Vec<Case> {
    let mut runner = runner();
    let count = runner.config().cases.div_ceil(4);
    let mut named = |number: u32| {
        let drawn = drawn().new_tree(&mut runner).unwrap().current();
        drawn.case().named(&format!("generated/{number}"))
    };
    (0..count).map(&mut named).collect()
}

/// Draws specs, runs each with every subject, and panics with the smallest one in which they differ.
///
/// # Errors
/// Where the harness fails to start or to stop.
pub async fn run() -> Result<()> {
    let bench = Bench::start().await?;
    let outcome = tokio::task::block_in_place(|| {
        runner()
            .run(&drawn(), |drawn| {
                let found = Handle::current().block_on(compare::one(&bench, &drawn.case(), Subject::TANDEM));
                let found = found.map_err(|error| TestCaseError::fail(error.to_string()))?;
                match Verdict::of(&found, false).text() {
                    text if text.is_empty() => Ok(()),
                    text => Err(TestCaseError::fail(text)),
                }
            })
            .map_err(Box::new)
    });
    bench.stop().await?;
    match outcome.map_err(|failed| *failed) {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, drawn)) => panic!("{reason}\n{drawn:#?}"),
        Err(other) => panic!("{other}"),
    }
}
