//! A test's own namespace, and what users do in one.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tandem_integration::Result;

use super::{Answer, Cluster, LONG, Subject, api, kubectl, manifest, until};

/// A namespace of the cluster, which is deleted with this value.
#[derive(Debug)]
pub struct Namespace {
    /// Where it is.
    pub cluster: &'static Cluster,
    /// Who runs the main containers of the manifests applied here.
    pub subject: Subject,
    name: String,
    ended: bool,
}

impl Namespace {
    /// Runs a test in a new namespace. Afterwards all of its pods must go. If it fails, what the cluster says of its
    /// pods is printed.
    ///
    /// # Errors
    /// The test's, or what keeps the namespace from beginning or ending.
    pub fn with(test: &str, subject: Subject, run: fn(&Self) -> Result<()>) -> Result<()> {
        let mut namespace = Self::new(test, subject)?;
        run(&namespace)?;
        namespace.end()
    }

    fn new(test: &str, subject: Subject) -> Result<Self> {
        let cluster = Cluster::get()?;
        // Names have 63 characters at most, and a run before this one may still be ending.
        let words = test.replace('_', "-");
        let words = words.get(..40).unwrap_or(&words).trim_end_matches('-');
        let name = format!("{words}-{}-{}", subject.word(), std::process::id());
        let namespace = Self {
            cluster,
            subject,
            name,
            ended: false,
        };
        api::create_namespace(cluster, &namespace.name)?;
        // Before that pods are refused.
        until("the namespace's service account", LONG, || {
            Ok(namespace.get("serviceaccount/default").is_ok().then_some(()))
        })?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Deletes it and waits until its pods are gone.
    fn end(&mut self) -> Result<()> {
        api::delete_namespace(self.cluster, &self.name)?;
        until("the end of the namespace's pods", LONG, || {
            Ok(self.list("pods", "")?.is_empty().then_some(()))
        })?;
        self.ended = true;
        Ok(())
    }

    /// `kubectl` in this namespace.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cluster.kubectl();
        command.args(["--namespace", &self.name]).args(args);
        command
    }

    /// Runs `kubectl`, however it ends.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn kubectl(&self, args: &[&str]) -> Result<Answer> {
        kubectl::run(&mut self.command(args), None)
    }

    /// Runs `kubectl`, which must succeed.
    ///
    /// # Errors
    /// Where it does not.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        self.kubectl(args)?.success()
    }

    /// Applies a manifest with the values of every test: `REGISTRY`, `NAMESPACE`, `NODE`, and the subject's `CLASS`,
    /// `ECHO` (an image) and `PROGRAM` (its file).
    ///
    /// # Errors
    /// Where there is no such manifest, or the API server refuses it.
    pub fn apply(&self, name: &str) -> Result<()> {
        self.apply_with(name, &[])
    }

    /// Applies a manifest with further values.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_with(&self, name: &str, values: &[(&str, &str)]) -> Result<()> {
        self.try_apply(name, values)?.success().map(drop)
    }

    /// Applies a manifest that may be refused.
    ///
    /// # Errors
    /// Where there is no such manifest.
    pub fn try_apply(&self, name: &str, values: &[(&str, &str)]) -> Result<Answer> {
        let registry = self.cluster.registry();
        let echo = format!("{registry}/{}:1", self.subject.echo());
        let general = [
            ("REGISTRY", registry),
            ("NAMESPACE", self.name.as_str()),
            ("NODE", self.cluster.node_name()),
            ("CLASS", self.subject.class()),
            ("ECHO", echo.as_str()),
            ("PROGRAM", self.subject.program()),
        ];
        let text = manifest::read(name, values.iter().copied().chain(general))?;
        self.input(&["apply", "--filename=-"], text.as_bytes())
    }

    /// Runs `kubectl` with a text as its standard input, however it ends.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn input(&self, args: &[&str], input: &[u8]) -> Result<Answer> {
        kubectl::run(&mut self.command(args), Some(input))
    }

    /// What the API server knows of an object.
    ///
    /// # Errors
    /// Where it knows none.
    pub fn get(&self, object: &str) -> Result<Value> {
        api::look(self.cluster, &self.name, object, "")
    }

    /// The objects of a kind, such as `pods`, that have a label, or all.
    ///
    /// # Errors
    /// Where the API server does not know the kind.
    pub fn list(&self, kind: &str, label: &str) -> Result<Vec<Value>> {
        let list = api::look(self.cluster, &self.name, kind, label)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until a condition of an object, such as a pod's `Ready`, holds.
    ///
    /// # Errors
    /// Where it does not come to hold.
    pub fn wait(&self, object: &str, condition: &str) -> Result<()> {
        until(&format!("{object}: {condition}"), LONG, || {
            let object = self.get(object)?;
            let conditions = object["status"]["conditions"].as_array();
            let holds = |it: &Value| it["type"] == condition && it["status"] == "True";
            Ok(conditions.is_some_and(|all| all.iter().any(holds)).then_some(()))
        })
    }

    /// Waits until there is no such object any more.
    ///
    /// # Errors
    /// Where it stays.
    pub fn gone(&self, object: &str) -> Result<()> {
        let (kind, name) = object.split_once('/').unwrap_or((object, ""));
        until(&format!("the end of {object}"), LONG, || {
            let left = self.list(kind, "")?;
            Ok((!left.iter().any(|it| it["metadata"]["name"] == name)).then_some(()))
        })
    }

    /// Waits until a pod has ended, whichever way; returns its phase.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn ended(&self, pod: &str) -> Result<String> {
        let pod = format!("pod/{pod}");
        until(&format!("the end of {pod}"), LONG, || {
            let pod = self.get(&pod)?;
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            Ok(["Succeeded", "Failed"].contains(&phase).then(|| phase.to_owned()))
        })
    }

    /// Waits until a pod's containers are ready.
    ///
    /// # Errors
    /// Where they do not become so.
    pub fn ready(&self, pod: &str) -> Result<()> {
        self.wait(&format!("pod/{pod}"), "Ready")
    }

    /// What a container has printed.
    ///
    /// # Errors
    /// Where there is no such container, or its log cannot be had.
    pub fn logs(&self, args: &[&str]) -> Result<String> {
        self.ok(&[&["logs"], args].concat())
    }

    /// Waits until a pod's log has `text`.
    ///
    /// # Errors
    /// Where it does not come.
    pub fn logged(&self, args: &[&str], text: &str) -> Result<String> {
        until(&format!("{text:?} in the log of {}", args.join(" ")), LONG, || {
            let log = self.kubectl(&[&["logs"], args].concat())?.stdout;
            Ok(log.contains(text).then_some(log))
        })
    }

    /// Runs a command in a pod, however it ends.
    ///
    /// # Errors
    /// Where `kubectl` cannot be run.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<Answer> {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }

    /// A file that `/proc` has of a container's first process, as the node sees it: a Wasm guest is given no `/proc`.
    ///
    /// # Errors
    /// Where the container does not run.
    pub fn of_process(&self, pod: &str, container: &str, file: &str) -> Result<String> {
        let status = self.status(pod, container)?;
        let id = status["containerID"].as_str().unwrap_or_default();
        let id = id.rsplit('/').next().unwrap_or_default();
        let script = format!(
            "for dir in /proc/[0-9]*; do \
             if grep -q '{id}' $dir/cgroup 2>/dev/null && grep -q '^NSpid:.*[[:space:]]1$' $dir/status 2>/dev/null; \
             then exec cat $dir/{file}; fi; done; echo 'no process of container {id}' >&2; exit 1"
        );
        self.cluster.node(&["sh", "-c", &script])
    }

    /// The status of a pod's container, null where there is none yet.
    ///
    /// # Errors
    /// Where there is no such pod.
    pub fn status(&self, pod: &str, container: &str) -> Result<Value> {
        let object = self.get(&format!("pod/{pod}"))?;
        let lists = [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ];
        let all = lists
            .iter()
            .filter_map(|list| object["status"][list].as_array())
            .flatten();
        Ok(all
            .into_iter()
            .find(|status| status["name"] == container)
            .cloned()
            .unwrap_or_default())
    }

    /// Says whether `condition` holds for as long as `time`.
    ///
    /// # Errors
    /// The condition's.
    pub fn stays(&self, time: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
        let began = Instant::now();
        let mut is_first = true;
        loop {
            if !condition()? {
                return Ok(false);
            }
            // On a slow machine, too, there are two looks at least.
            if !is_first && began.elapsed() > time {
                return Ok(true);
            }
            is_first = false;
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Prints what helps to see why a test failed.
    fn explain(&self) {
        for args in [
            &["get", "pods", "--output=wide"][..],
            &[
                "get",
                "pods",
                "--output=jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].state}{\"\\n\"}{end}",
            ],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            if let Ok(answer) = self.kubectl(args) {
                eprintln!("--- {answer}");
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.explain();
        if let Err(error) = api::delete_namespace(self.cluster, &self.name) {
            eprintln!("{error}");
        }
    }
}
