//! Kubernetes' CRI conformance suite: one run of it, and what it reported.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tandem_integration::{Error, Result, deadline, generation::cache_dir};

use crate::{child, content::Content, node::Node};

/// How a spec ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Passed,
    /// It asked for something that the runtime or the kernel does not announce.
    Skipped,
    /// Otherwise.
    Failed,
}

/// What became of one spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed or was skipped; empty where it passed.
    pub message: String,
}

/// Specs by their full names.
pub type Outcomes = BTreeMap<String, Ended>;

/// The suite's binaries, as `integration/setup conformance` builds them.
#[derive(Clone, Debug)]
pub struct Suite {
    dir: PathBuf,
}

/// How the suite is run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The runtime handler that pods ask for.
    pub handler: &'a str,
    /// Specs at a time.
    pub parallel: usize,
    /// Only specs whose name matches this expression.
    pub focus: Option<&'a str>,
    /// Where report and output go.
    pub reports: &'a Path,
}

impl Suite {
    /// The suite in `$TANDEM_CONFORMANCE`, by default in the cache.
    ///
    /// # Errors
    /// Where it has not been built.
    pub fn find() -> Result<Self> {
        let dir = env::var_os("TANDEM_CONFORMANCE").map(PathBuf::from);
        let dir = dir.unwrap_or_else(|| cache_dir().join("conformance/bin"));
        for file in ["critest.test", "crictl", "ginkgo"] {
            let file = dir.join(file);
            if !file.is_file() {
                return Err(Error::Setup(format!(
                    "{} is missing: `make conformance` builds it, or let TANDEM_CONFORMANCE name another directory",
                    file.display(),
                )));
            }
        }
        Ok(Self { dir })
    }

    /// What its images are made of.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn content(&self) -> Result<Content> {
        Content::read(&self.dir)
    }

    /// Runs the suite.
    ///
    /// # Errors
    /// Where it does not run to its end. Specs that fail are no error.
    pub async fn run(&self, node: &Node, run: &Run<'_>) -> Result<Outcomes> {
        let report = format!("{}.json", run.handler);
        let socket = socket(node);
        let mut command = child::command(self.dir.join("ginkgo"));
        command.env("TMPDIR", node.temporary()).current_dir(run.reports);
        command.arg("run").arg(format!("--nodes={}", run.parallel));
        command.args(["--no-color", "--timeout=30m", "--skip=benchmark", "--output-dir=."]);
        command.arg(format!("--json-report={report}"));
        if let Some(focus) = run.focus {
            command.arg(format!("--focus={focus}"));
        }
        command.arg(self.dir.join("critest.test")).arg("--");
        command.arg(format!("-runtime-endpoint={socket}"));
        command.arg(format!("-image-endpoint={socket}"));
        command.arg(format!("-runtime-handler={}", run.handler));

        let report = run.reports.join(report);
        // A report of an earlier run must not be taken for this one's.
        let _ = fs::remove_file(&report);
        let log = run.reports.join(format!("{}.log", run.handler));
        let mut process = child::spawn(command, &log)?;
        let status = process.wait().await;
        let status = status.map_err(|cause| Error::Setup(format!("cannot wait for the suite: {cause}")))?;
        let text = fs::read(&report);
        let outcomes = text
            .ok()
            .and_then(|text| outcomes(&serde_json::from_slice(&text).ok()?));
        outcomes.ok_or_else(|| {
            let log = log.display();
            Error::Setup(format!("the suite did not report what it did ({status}): see {log}"))
        })
    }

    /// Removes the pods that are still there: some specs forget theirs when they fail.
    ///
    /// # Errors
    /// Where a pod cannot be removed.
    pub async fn remove_pods(&self, node: &Node) -> Result<()> {
        let mut command = child::command(self.dir.join("crictl"));
        command.arg("--runtime-endpoint").arg(socket(node));
        command.args(["--timeout=60s", "rmp", "--all", "--force"]);
        let output = deadline::within("the removal of all pods", deadline::EXIT, command.output()).await?;
        let output = output.map_err(|cause| Error::Setup(format!("cannot start {command:?}: {cause}")))?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr);
        Err(Error::Setup(format!("pods cannot be removed: {why}")))
    }
}

/// containerd's address, as the suite and its client take it.
fn socket(node: &Node) -> String {
    format!("unix://{}", node.containerd.home().socket().display())
}

/// The specs of ginkgo's JSON report; `None` where there are none, as after a failure before the first.
fn outcomes(report: &Value) -> Option<Outcomes> {
    let mut outcomes = Outcomes::new();
    for spec in report
        .as_array()?
        .iter()
        .flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten())
    {
        // Other nodes are set-up and tear-down. Benchmarks are left out by the suite itself, without a word.
        if spec["LeafNodeType"] != "It" || is_filtered(spec) {
            continue;
        }
        let outcome = match spec["State"].as_str()? {
            "passed" => Outcome::Passed,
            "skipped" | "pending" => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        let message = match outcome {
            Outcome::Passed => "",
            _ => spec["Failure"]["Message"].as_str().unwrap_or_default(),
        };
        let message = message.to_owned();
        outcomes.insert(name(spec), Ended { outcome, message });
    }
    (!outcomes.is_empty()).then_some(outcomes)
}

/// A spec that the command line filters out is skipped like one that skips itself, but never began.
fn is_filtered(spec: &Value) -> bool {
    spec["State"] == "skipped" && spec["NumAttempts"].as_u64().unwrap_or_default() == 0
}

fn name(spec: &Value) -> String {
    let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let texts = containers.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str);
    let name = texts.collect::<Vec<_>>().join(" ");
    name.trim_start_matches("[k8s.io] ").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(name: &str, state: &str, attempts: u64) -> Value {
        json!({
            "LeafNodeType": "It",
            "ContainerHierarchyTexts": ["[k8s.io] Streaming", "interfaces"],
            "LeafNodeText": name,
            "State": state,
            "NumAttempts": attempts,
            "Failure": { "Message": "because" },
        })
    }

    #[test]
    fn a_report_is_read_as_specs_that_began_with_how_they_ended() {
        let specs = [
            spec("a", "passed", 1),
            spec("b", "panicked", 1),
            spec("c", "skipped", 1),
            spec("d", "skipped", 0),
            json!({ "LeafNodeType": "BeforeSuite", "State": "passed" }),
        ];
        let outcomes = outcomes(&json!([{ "SpecReports": specs }])).unwrap();
        let ended: Vec<(&str, Outcome)> = outcomes
            .iter()
            .map(|(name, ended)| (name.as_str(), ended.outcome))
            .collect();
        assert_eq!(
            ended,
            [
                ("Streaming interfaces a", Outcome::Passed),
                ("Streaming interfaces b", Outcome::Failed),
                ("Streaming interfaces c", Outcome::Skipped),
            ]
        );
        assert_eq!(outcomes["Streaming interfaces b"].message, "because");
    }

    #[test]
    fn a_report_without_specs_is_no_result() {
        assert_eq!(outcomes(&json!([{ "SpecReports": null }])), None);
        assert_eq!(outcomes(&json!({})), None);
    }
}
