//! What containerd makes of a configuration, and the comparison of two of them.

use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::format::{find, parse};
use crate::error::{Error, Result};

/// Where the runtimes are in what `config dump` prints, by containerd's generation.
const RUNTIMES: [[&str; 3]; 2] = [
    ["plugins", "io.containerd.cri.v1.runtime", "containerd"],
    ["plugins", "io.containerd.grpc.v1.cri", "containerd"],
];

/// A configuration as `containerd config dump` prints it.
#[derive(Clone, Debug)]
pub struct Effective {
    document: DocumentMut,
}

impl Effective {
    /// Parses the output of `containerd config dump`.
    ///
    /// # Errors
    /// What is not TOML.
    pub fn parse(dump: &str) -> Result<Self> {
        // Some versions log to standard output before the configuration.
        let start = dump
            .lines()
            .take_while(|line| line.starts_with("time="))
            .map(|line| line.len() + 1);
        let start: usize = start.sum();
        Ok(Self {
            document: parse(Path::new("(as containerd reads it)"), dump.get(start..).unwrap_or(dump))?,
        })
    }

    fn containerd(&self) -> Option<&dyn TableLike> {
        RUNTIMES
            .iter()
            .find_map(|keys| find(&self.document, keys)?.as_table_like())
    }

    /// The table of a handler.
    pub fn handler(&self, name: &str) -> Option<&dyn TableLike> {
        self.containerd()?
            .get("runtimes")?
            .as_table_like()?
            .get(name)?
            .as_table_like()
    }

    /// Every handler with its table.
    pub fn handlers(&self) -> Vec<(String, Table)> {
        let runtimes = self.containerd().and_then(|table| table.get("runtimes"));
        let runtimes = runtimes.and_then(Item::as_table_like);
        let tables = runtimes.into_iter().flat_map(TableLike::iter);
        tables
            .filter_map(|(name, item)| Some((name.to_owned(), item.clone().into_table().ok()?)))
            .collect()
    }

    /// The choice that the node's own default runtime has made between systemd's cgroups and plain ones.
    pub fn systemd_cgroup(&self) -> bool {
        let name = self.containerd().and_then(|table| table.get("default_runtime_name"));
        let name = name.and_then(Item::as_str).unwrap_or("runc");
        let runtime = self.handler(name).or_else(|| self.handler("runc"));
        let options = runtime.and_then(|table| table.get("options")?.as_table_like());
        let choice = options.and_then(|options| options.get("SystemdCgroup")?.as_bool());
        choice.unwrap_or(false)
    }

    /// Requires that `self` is `earlier` and one handler more, and that this handler is as it should be.
    ///
    /// # Errors
    /// [`Error::Validation`] names the first thing that differs.
    pub fn require_only_adds(&self, earlier: &Self, handler: &str, runtime_type: &str) -> Result<()> {
        let Some(ours) = self.handler(handler) else {
            return Err(Error::Validation(format!(
                "containerd does not see the handler {handler:?} in it"
            )));
        };
        let found = ours.get("runtime_type").and_then(Item::as_str).unwrap_or_default();
        if found != runtime_type {
            return Err(Error::Validation(format!(
                "containerd reads the runtime_type of {handler:?} as {found:?}, not {runtime_type:?}"
            )));
        }
        let (mut before, mut after) = (earlier.comparable(handler), self.comparable(handler));
        before.sort();
        after.sort();
        if let Some(lost) = before.iter().find(|line| after.binary_search(line).is_err()) {
            return Err(Error::Validation(format!("it would change or lose the setting {lost}")));
        }
        if let Some(new) = after.iter().find(|line| before.binary_search(line).is_err()) {
            return Err(Error::Validation(format!("it would bring the setting {new}")));
        }
        Ok(())
    }

    /// Every setting but one handler's, and but the list of files that were read.
    fn comparable(&self, handler: &str) -> Vec<String> {
        let mut document = self.document.clone();
        document.remove("imports");
        for keys in RUNTIMES {
            let mut table: Option<&mut dyn TableLike> = Some(document.as_table_mut());
            for key in keys.into_iter().chain(["runtimes"]) {
                table = table.and_then(|table| table.get_mut(key)?.as_table_like_mut());
            }
            if let Some(table) = table {
                table.remove(handler);
            }
        }
        let mut lines = Vec::new();
        flatten("", document.as_item(), &mut lines);
        lines
    }
}

/// One line for each value; an empty table is a value too.
fn flatten(path: &str, item: &Item, lines: &mut Vec<String>) {
    if let Some(table) = item.as_table_like() {
        for (key, item) in table.iter() {
            flatten(&format!("{path}.{key}"), item, lines);
        }
        return;
    }
    if let Item::ArrayOfTables(tables) = item {
        for (index, table) in tables.iter().enumerate() {
            flatten(&format!("{path}[{index}]"), &Item::Table(table.clone()), lines);
        }
        return;
    }
    let text = item.as_value().map(plain).unwrap_or_default();
    lines.push(format!("{} = {text}", path.trim_start_matches('.')));
}

/// A value without its notation.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.value()),
        Value::Array(array) => {
            let values: Vec<String> = array.iter().map(plain).collect();
            format!("[{}]", values.join(", "))
        }
        Value::InlineTable(table) => {
            let mut values: Vec<String> = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", plain(value)))
                .collect();
            values.sort();
            format!("{{{}}}", values.join(", "))
        }
        other => other.clone().decorated("", "").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = r#"version = 2
imports = ["a"]
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
"#;
    const OURS: &str = r#"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tandem]
runtime_type = "/shim"
"#;

    fn compare(after: &str) -> Result<()> {
        let earlier = Effective::parse(EARLIER).unwrap();
        Effective::parse(after)
            .unwrap()
            .require_only_adds(&earlier, "tandem", "/shim")
    }

    #[test]
    fn one_handler_more_is_what_is_wanted() {
        compare(&format!("{EARLIER}{OURS}").replace("\"a\"", "'a', \"b\"")).unwrap();
    }

    #[test]
    fn a_lost_option_of_another_handler_is_named() {
        let error = compare(&format!("{EARLIER}{OURS}").replace("SystemdCgroup = true", "SystemdCgroup = false"));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("runc.options.SystemdCgroup = true")
        );
        let error = compare(&format!("{EARLIER}{OURS}").replace("SystemdCgroup = true", ""));
        assert!(error.unwrap_err().to_string().contains("SystemdCgroup"));
    }

    #[test]
    fn a_handler_that_containerd_does_not_see_is_a_failure() {
        assert!(compare(EARLIER).unwrap_err().to_string().contains("does not see"));
        let error = compare(&format!("{EARLIER}{OURS}").replace("/shim", "/other"));
        assert!(error.unwrap_err().to_string().contains("\"/other\""));
    }

    #[test]
    fn the_nodes_choice_of_cgroup_driver_is_read_from_its_default_runtime() {
        assert!(Effective::parse(EARLIER).unwrap().systemd_cgroup());
        assert!(!Effective::parse("version = 3").unwrap().systemd_cgroup());
    }

    #[test]
    fn log_lines_before_the_dump_are_no_toml() {
        let text = format!("time=\"2026\" level=warning msg=\"x\"\n{EARLIER}");
        assert_eq!(Effective::parse(&text).unwrap().handlers().len(), 1);
    }
}
