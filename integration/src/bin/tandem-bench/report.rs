//! The tables.

use std::fmt::Write;

use crate::{
    latency::Latency,
    memory::{FEW, MANY, Memory},
    options::{Measure, Options},
    parallel::{TASKS, WORKERS},
    runtime::Runtime,
    samples::Samples,
    subject::{Subject, Workload},
};

/// What was measured with one containerd.
#[derive(Debug)]
pub struct Report {
    /// containerd's version.
    pub version: String,
    /// The subjects, in the order of the table.
    pub rows: Vec<Row>,
    /// The cost of a pod, for each runtime that runs Wasm.
    pub memory: Vec<Memory>,
}

/// What was measured of one subject.
#[derive(Debug)]
pub struct Row {
    runtime: Runtime,
    workload: Workload,
    /// Times, if measured.
    pub latency: Option<Latency>,
    /// Tasks per second, if measured.
    pub rate: Option<Samples>,
    /// Why tasks had to be repeated.
    pub failures: Vec<String>,
}

impl Row {
    /// The row of a subject, with nothing measured yet.
    pub fn of(subject: &Subject) -> Self {
        Self {
            runtime: subject.runtime,
            workload: subject.workload,
            latency: None,
            rate: None,
            failures: Vec::new(),
        }
    }

    /// Median time from create to first byte, in milliseconds.
    fn first_byte(&self) -> Option<f64> {
        self.latency.as_ref().map(|latency| latency.first_byte.median())
    }

    fn delete(&self) -> Option<f64> {
        self.latency.as_ref().map(|latency| latency.delete.median())
    }

    fn rate(&self) -> Option<f64> {
        self.rate.as_ref().map(Samples::median)
    }
}

/// The whole text, in Markdown.
pub fn text(machine: &str, options: &Options, reports: &[Report]) -> String {
    let names: Vec<&str> = options.runtimes.iter().map(|runtime| runtime.name()).collect();
    let versions: Vec<&str> = reports.iter().map(|report| report.version.as_str()).collect();
    let mut lines = vec![
        format!(
            "## Compared: {}, on containerd {}",
            names.join(", "),
            versions.join(" and ")
        ),
        String::new(),
        format!("Machine: {machine}."),
        String::new(),
        legend(options),
    ];
    for report in reports {
        lines.push(String::new());
        lines.push(format!("### containerd {}", report.version));
        for table in [tasks(report), failures(report), ratios(report), memory(report)] {
            if !table.is_empty() {
                lines.push(String::new());
                lines.extend(table);
            }
        }
    }
    lines.join("\n")
}

fn legend(options: &Options) -> String {
    let mut text = String::from(
        "tandem: this repository's shim. baseline: a plain shim on runwasi's library (`integration/baseline`). runc: \
         containerd's default. floor: a shim that answers every call at once and starts nothing \
         (`integration/floor`), so what containerd itself costs.",
    );
    // Writing into a string does not fail.
    if options.measures_tasks() {
        text.push_str(" One run, the runtimes in turn, compiled code cached; container and snapshot exist before.");
    }
    if options.measures(Measure::Latency) {
        let _ = write!(
            text,
            " Times: {} tasks one after another; median, p90 in brackets.",
            options.rounds
        );
    }
    if options.measures(Measure::Parallel) {
        let batches = options.batches();
        let _ = write!(
            text,
            " Tasks per second: from create to delete, {batches} batches of {TASKS}; median.",
        );
    }
    if options.measures(Measure::Memory) {
        let pods = MANY - FEW;
        let _ = write!(
            text,
            " Memory: all processes of {MANY} pods less those of {FEW}, divided by {pods}.",
        );
    }
    text
}

fn tasks(report: &Report) -> Vec<String> {
    if report.rows.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![
        format!(
            "| runtime | runs | create, ms | start to first byte, ms | **create to first byte, ms** | delete, ms | \
             tasks/s, {WORKERS} in parallel |"
        ),
        "|---|---|---|---|---|---|---|".into(),
    ];
    for row in &report.rows {
        let time = |part: fn(&Latency) -> &Samples| {
            let samples = row.latency.as_ref().map(part);
            samples.map_or_else(String::new, |samples| {
                format!("{:.1} ({:.1})", samples.median(), samples.p90())
            })
        };
        lines.push(format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.runtime.name(),
            row.workload,
            time(|latency| &latency.create),
            time(|latency| &latency.output),
            time(|latency| &latency.first_byte),
            time(|latency| &latency.delete),
            row.rate().map_or_else(String::new, |rate| format!("{rate:.0}")),
        ));
    }
    lines
}

/// Tasks that were repeated: their time is in none of the times, but it is in the tasks per second.
fn failures(report: &Report) -> Vec<String> {
    let failed = report.rows.iter().filter_map(|row| Some((row, row.failures.first()?)));
    let line = |(row, first): (&Row, &String)| {
        format!(
            "- {} ({}) failed {} times and was run again; the first time: {first}",
            row.runtime.name(),
            row.workload,
            row.failures.len(),
        )
    };
    failed.map(line).collect()
}

/// Tandem against each peer, in each form of the image; the form in which the baseline is at its best comes first.
fn ratios(report: &Report) -> Vec<String> {
    let row = |runtime, workload| {
        let mut rows = report.rows.iter();
        rows.find(|row| row.runtime == runtime && row.workload == workload)
    };
    let mut forms = Workload::WASM;
    let time = |form: &Workload| row(Runtime::Baseline, *form).and_then(Row::first_byte);
    forms.sort_by(|a, b| time(a).unwrap_or_default().total_cmp(&time(b).unwrap_or_default()));

    let mut lines = Vec::new();
    for form in forms {
        let Some(tandem) = row(Runtime::Tandem, form) else {
            continue;
        };
        for peer in report.rows.iter().filter(|row| row.runtime != Runtime::Tandem) {
            if Workload::WASM.contains(&peer.workload) && peer.workload != form {
                continue;
            }
            let against = |ratio: fn(Runtime, f64, f64) -> String, part: fn(&Row) -> Option<f64>| {
                let pair = part(tandem).zip(part(peer));
                pair.map_or_else(String::new, |(mine, theirs)| ratio(peer.runtime, mine, theirs))
            };
            lines.push(format!(
                "| {} | {form} | {} | {} | {} |",
                peer.runtime.name(),
                against(time_ratio, Row::first_byte),
                against(time_ratio, Row::delete),
                against(rate_ratio, Row::rate),
            ));
        }
    }
    if !lines.is_empty() {
        let head = [
            "| tandem against | tandem runs | create to first byte | delete | tasks/s |",
            "|---|---|---|---|---|",
        ];
        lines.splice(0..0, head.map(str::to_owned));
    }
    lines
}

fn time_ratio(peer: Runtime, mine: f64, theirs: f64) -> String {
    match peer {
        Runtime::Floor => format!("{:.2}x the floor's", mine / theirs),
        _ if mine <= theirs => format!("{:.1}x sooner", theirs / mine),
        _ => format!("{:.1}x later", mine / theirs),
    }
}

fn rate_ratio(peer: Runtime, mine: f64, theirs: f64) -> String {
    match peer {
        Runtime::Floor => format!("{:.0} % of the floor's", mine / theirs * 100.0),
        _ => format!("{:.1}x as many", mine / theirs),
    }
}

fn memory(report: &Report) -> Vec<String> {
    if report.memory.is_empty() {
        return Vec::new();
    }
    let baseline = report.memory.iter().find(|memory| memory.runtime == Runtime::Baseline);
    let mut lines = vec![
        "| one more running `wasi:http` pod | PSS, MiB | against baseline | private dirty, MiB | processes |".into(),
        "|---|---|---|---|---|".into(),
    ];
    for memory in &report.memory {
        let share = baseline.map_or_else(String::new, |baseline| format!("{:.2}x", memory.pss / baseline.pss));
        lines.push(format!(
            "| {} | {:.2} | {share} | {:.2} | {:.1} |",
            memory.runtime.name(),
            memory.pss,
            memory.private_dirty,
            memory.processes,
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(runtime: Runtime, workload: Workload, first_byte: f64, rate: f64) -> Row {
        let mut latency = Latency::default();
        for samples in [
            &mut latency.create,
            &mut latency.output,
            &mut latency.first_byte,
            &mut latency.delete,
        ] {
            samples.add(first_byte);
        }
        let mut rates = Samples::default();
        rates.add(rate);
        Row {
            runtime,
            workload,
            latency: Some(latency),
            rate: Some(rates),
            failures: Vec::new(),
        }
    }

    fn report() -> Report {
        Report {
            version: "9.9".into(),
            rows: vec![
                row(Runtime::Tandem, Workload::Layer, 10.0, 80.0),
                row(Runtime::Tandem, Workload::Rootfs, 8.0, 90.0),
                row(Runtime::Baseline, Workload::Layer, 50.0, 20.0),
                row(Runtime::Baseline, Workload::Rootfs, 40.0, 30.0),
                row(Runtime::Floor, Workload::Nothing, 5.0, 100.0),
            ],
            memory: Vec::new(),
        }
    }

    #[test]
    fn tandem_is_compared_first_in_the_form_that_is_best_for_the_baseline() {
        let lines = ratios(&report());
        assert_eq!(
            lines[2],
            "| baseline | p1 hello, in the rootfs | 5.0x sooner | 5.0x sooner | 3.0x as many |"
        );
        assert_eq!(lines.len(), 2 + 4, "{lines:?}");
    }

    #[test]
    fn the_floor_is_what_the_shim_is_measured_in() {
        let lines = ratios(&report());
        assert_eq!(
            lines[3],
            "| floor | p1 hello, in the rootfs | 1.60x the floor's | 1.60x the floor's | 90 % of the floor's |"
        );
    }

    #[test]
    fn what_a_peer_failed_at_is_told() {
        let mut report = report();
        report.rows[2].failures = vec!["first".into(), "second".into()];
        let told = "- baseline (p1 hello, OCI layer) failed 2 times and was run again; the first time: first";
        assert_eq!(failures(&report), [told]);
    }

    #[test]
    fn without_tandem_there_are_no_ratios() {
        let mut report = report();
        report.rows.retain(|row| row.runtime != Runtime::Tandem);
        assert!(ratios(&report).is_empty() && tasks(&report).len() == 2 + 3);
    }
}
