//! One run of one spec by one subject: what its first process reports, what one executed in it reports, what the host
//! sees, or how it is refused.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;
use tandem_integration::{Container, Error, Output, Result, Task};

use crate::{
    case::Case,
    host,
    report::{END, Report},
    stage::Stage,
    subject::{Bench, Subject},
};

/// Runs `case` with `subject`.
///
/// # Errors
/// Where the harness fails; a refusal of the runtime is part of the report.
pub async fn observe(bench: &Bench, case: &Case, subject: Subject) -> Result<Report> {
    let stage = bench.stage()?;
    let mut namespaces = Namespaces::default();
    let mut process = Value::Null;
    let builder = bench.container(subject, &case.paths).edit(|spec| {
        case.apply(spec, &stage);
        namespaces.given = given(spec);
        process = spec["process"].clone();
    });
    let container = builder.create().await?;
    let mut report = Report::default();
    let ran = run(case, subject, &stage, &container, process, &mut report, &mut namespaces).await;
    let id = container.id().to_owned();
    container.remove().await?;
    ran?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    report.replace(&[
        (path(&stage.path("")).trim_end_matches('/').to_owned(), "<stage>"),
        (path(stage.netns.path()), "<netns>"),
        (bench.home(), "<home>"),
        (id, "<id>"),
    ]);
    namespaces.word(&mut report);
    Ok(report)
}

async fn run(
    case: &Case,
    subject: Subject,
    stage: &Stage,
    container: &Container,
    process: Value,
    report: &mut Report,
    namespaces: &mut Namespaces,
) -> Result<()> {
    let created = container.task_with(|request| {
        if case.mapped {
            crate::specs::mapped_rootfs(&mut request.rootfs);
        }
    });
    let mut task = match created.await {
        Ok(task) => task,
        Err(error) => return refused(case, report, "outcome", error),
    };
    let ended = live(case, subject, stage, &mut task, process, report, namespaces).await;
    task.kill_and_delete().await?;
    ended
}

async fn live(
    case: &Case,
    subject: Subject,
    stage: &Stage,
    task: &mut Task,
    process: Value,
    report: &mut Report,
    namespaces: &mut Namespaces,
) -> Result<()> {
    if let Err(error) = task.start().await {
        return refused(case, report, "outcome", error);
    }
    if task.stdout().wait_for(END).await.is_err() {
        let code = task.wait().await?.code;
        report.set("outcome", format!("exits with {code}"));
        let stderr = task.stderr().map(|pipe| pipe.text()).unwrap_or_default();
        report.errors.push(format!("{}{stderr}", task.stdout().text()));
        return Ok(());
    }
    report.set("outcome", "runs");
    host::look(report, task.pid());
    namespaces.of_container(task.pid());
    if subject == Subject::Wasm {
        report.add_guest(&task.stdout().text());
        return Ok(());
    }
    report.add_probe("", &task.stdout().text());
    match execute(case, stage, task, process).await {
        Ok(output) if output.stdout.contains(END) => {
            report.set("exec outcome", "runs");
            report.add_probe("exec ", &output.stdout);
        }
        Ok(output) => {
            report.set("exec outcome", format!("exits with {}", output.code));
            report.errors.push(format!("exec: {}{}", output.stdout, output.stderr));
        }
        Err(error) => refused(case, report, "exec outcome", error)?,
    }
    Ok(())
}

/// Executes the probe in the container, with the container's own process section as the case changes it.
async fn execute(case: &Case, stage: &Stage, task: &Task, mut process: Value) -> Result<Output> {
    let args = ["/probe", "once"]
        .map(str::to_owned)
        .into_iter()
        .chain(case.paths.clone());
    process["args"] = args.collect();
    case.apply_to_exec(&mut process, stage);
    let mut exec = task.exec(Vec::<String>::new());
    if process["terminal"] == true {
        exec = exec.tty();
    }
    for (name, value) in process.as_object().into_iter().flatten() {
        exec = exec.field(name, value.clone());
    }
    exec.run().await
}

/// Notes a runtime's refusal; hands on what the harness itself failed in.
fn refused(case: &Case, report: &mut Report, field: &str, error: Error) -> Result<()> {
    if error.code().is_none() {
        return Err(error);
    }
    report.set(field, "is refused");
    let text = error.message();
    for name in &case.error_names {
        let names = if text.contains(name.as_str()) { "yes" } else { "no" };
        report.set(format!("{field} names {name:?}"), names);
    }
    report.errors.push(text);
    Ok(())
}

/// Namespaces have numbers; what counts is whose they are.
#[derive(Default)]
struct Namespaces {
    given: Vec<String>,
    container: Vec<String>,
}

const KINDS: [&str; 10] = [
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
];

/// What `/proc/PID/ns` would show of the namespaces that the spec joins.
fn given(spec: &Value) -> Vec<String> {
    let list = spec["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
    let named = list.iter().filter_map(|namespace| {
        let kind = match namespace["type"].as_str()? {
            "network" => "net",
            "mount" => "mnt",
            other => other,
        };
        let inode = std::fs::metadata(namespace["path"].as_str()?).ok()?.ino();
        Some(format!("{kind}:[{inode}]"))
    });
    named.collect()
}

fn of(pid: &str) -> Vec<String> {
    let link = |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    KINDS
        .iter()
        .filter_map(link)
        .map(|to| to.to_string_lossy().into_owned())
        .collect()
}

impl Namespaces {
    fn of_container(&mut self, pid: u32) {
        self.container = of(&pid.to_string());
    }

    /// Puts a word in the place of each number.
    fn word(&self, report: &mut Report) {
        let host = of("self");
        for (name, value) in &mut report.fields {
            if !name.contains("namespaces.") || !value.ends_with(']') || !value.contains(":[") {
                continue;
            }
            let word = if host.contains(value) {
                "the host's"
            } else if self.given.contains(value) {
                "the given one"
            } else if self.container.contains(value) {
                "its own"
            } else {
                "another"
            };
            *value = word.into();
        }
    }
}
