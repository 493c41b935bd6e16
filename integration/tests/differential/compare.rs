//! Runs every case with every subject and finds where they differ.

use std::sync::Arc;

use tandem_integration::Result;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    case::Case,
    observe::observe,
    report::Report,
    subject::{Bench, Subject},
};

/// So many specs run at the same time: a run mostly waits.
const AT_A_TIME: usize = 4;

/// What a guest can tell of itself in the words of a Linux program.
const OF_GUESTS: [&str; 2] = ["process.env", "process.cwd"];

/// A field in which Tandem differs from runc.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub case: String,
    pub subject: &'static str,
    pub field: String,
    pub runc: String,
    pub tandem: String,
    /// What the runtimes said, where one refused.
    pub words: String,
}

/// All differences of `cases` between runc and `subjects`, by name.
///
/// # Errors
/// Where the harness fails.
pub async fn all(bench: &Bench, cases: Vec<Case>, subjects: &'static [Subject]) -> Result<Vec<Difference>> {
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let bench = Arc::new(bench.clone());
    let mut running = JoinSet::new();
    for case in cases {
        let (bench, turns) = (bench.clone(), turns.clone());
        running.spawn(async move {
            let _turn = turns.acquire().await;
            one(&bench, &case, subjects).await
        });
    }
    let mut found = Vec::new();
    while let Some(done) = running.join_next().await {
        found.extend(done.unwrap()?);
    }
    found.sort();
    Ok(found)
}

/// The differences of one case.
///
/// # Errors
/// As [`all`].
pub async fn one(bench: &Bench, case: &Case, subjects: &[Subject]) -> Result<Vec<Difference>> {
    let runc = observe(bench, case, Subject::Runc).await?;
    let mut found = Vec::new();
    for subject in subjects
        .iter()
        .copied()
        .filter(|subject| case.wasm || *subject != Subject::Wasm)
    {
        let seen = observe(bench, case, subject).await?;
        // With `--nocapture`: how each ended, also where both refused in words of their own.
        println!("{}: runc {}; {} {}", case.name, runc.end(), subject.name(), seen.end());
        found.extend(between(case, subject, &runc, &seen));
    }
    Ok(found)
}

fn between(case: &Case, subject: Subject, runc: &Report, seen: &Report) -> Vec<Difference> {
    const ABSENT: &str = "(absent)";
    const EXECUTED: &str = "exec outcome";
    let value = |report: &Report, name: &str| report.fields.get(name).cloned();
    let ran = |report: &Report| value(report, "outcome").as_deref() == Some("runs");
    let names = runc.fields.keys().chain(seen.fields.keys());
    let mut names: Vec<&String> = names
        .filter(|name| subject != Subject::Wasm || of_any_kind(name))
        .collect();
    // A Linux program has told of its mounts itself.
    names.retain(|name| subject == Subject::Wasm || !name.starts_with("host mounts"));
    // Where only one of them ran, that is the difference.
    if ran(runc) != ran(seen) {
        names.retain(|name| name.starts_with("outcome"));
    }
    if value(runc, EXECUTED) != value(seen, EXECUTED) {
        names.retain(|name| !name.starts_with("exec ") || name.starts_with(EXECUTED));
    }
    // Who did not refuse has no error to name anything.
    names.retain(|name| !name.contains(" names ") || seen.fields.contains_key(*name));
    names.sort();
    names.dedup();
    let differ = names.into_iter().filter_map(|name| {
        let asked = asked(name).filter(|_| subject != Subject::Runc);
        let expected = asked.map(str::to_owned).or_else(|| value(runc, name));
        let tandem = value(seen, name);
        (expected != tandem && !is_less(subject, name, &expected, &tandem)).then(|| Difference {
            case: case.name.clone(),
            subject: subject.name(),
            field: name.clone(),
            runc: expected.unwrap_or_else(|| ABSENT.into()),
            tandem: tandem.unwrap_or_else(|| ABSENT.into()),
            words: match name.contains("outcome") {
                true => format!("\n        runc   {:?}\n        tandem {:?}", runc.errors, seen.errors),
                false => String::new(),
            },
        })
    });
    differ.collect()
}

/// What is asked of Tandem, whatever runc does: that an error names its object, and that no process begins with signals
/// ignored or blocked because whoever started containerd had them so.
fn asked(name: &str) -> Option<&'static str> {
    match name {
        _ if name.contains(" names ") => Some("yes"),
        "signals.ignored" | "signals.blocked" | "exec signals.ignored" | "exec signals.blocked" => Some("[]"),
        _ => None,
    }
}

/// A guest is started without an execve, at which the kernel gives root's process all that is in the bounding set: it may
/// have fewer capabilities than a program, never others.
fn is_less(subject: Subject, name: &str, runc: &Option<String>, tandem: &Option<String>) -> bool {
    if subject != Subject::Wasm || !matches!(name, "host status CapPrm" | "host status CapEff") {
        return false;
    }
    let set = |value: &Option<String>| u64::from_str_radix(value.as_deref().unwrap_or_default(), 16).ok();
    matches!((set(runc), set(tandem)), (Some(theirs), Some(ours)) if ours & !theirs == 0)
}

/// Whether a field can be compared of a guest too.
fn of_any_kind(name: &str) -> bool {
    name.starts_with("host ") || name.starts_with("outcome") || OF_GUESTS.contains(&name)
}

#[test]
fn a_guest_may_have_fewer_capabilities_than_a_program_and_no_others() {
    let less = |subject, runc: &str, ours: &str| {
        is_less(subject, "host status CapEff", &Some(runc.into()), &Some(ours.into()))
    };
    assert!(less(Subject::Wasm, "0000000000000401", "0000000000000001"));
    assert!(!less(Subject::Wasm, "0000000000000401", "0000000000000002"));
    assert!(!less(Subject::Linux, "0000000000000401", "0000000000000001"));
}
