//! One spec to be run with every subject: what it changes in containerd's default one, and what is looked at besides.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::stage::Stage;

type Edit = Arc<dyn Fn(&mut Value, &Stage) + Send + Sync>;

/// A spec with a name.
#[derive(Clone)]
pub struct Case {
    /// `section/what`, unique.
    pub name: String,
    edits: Vec<Edit>,
    exec_edits: Vec<Edit>,
    /// Paths that the probe describes besides everything else.
    pub paths: Vec<String>,
    /// What an error about this spec must name. Also: the spec is refused by both.
    pub error_names: Vec<String>,
    /// The root file system is handed over as to a container with users of its own.
    pub mapped: bool,
    /// Whether a Wasm container has it too; some specs are about a Linux program only.
    pub wasm: bool,
}

/// A spec that is containerd's default one so far.
pub fn case(name: &str) -> Case {
    Case {
        name: name.into(),
        edits: Vec::new(),
        exec_edits: Vec::new(),
        paths: Vec::new(),
        error_names: Vec::new(),
        mapped: false,
        wasm: true,
    }
}

impl Case {
    /// Has another name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Changes the spec; the stage has files of the host to mount.
    pub fn edit(mut self, edit: impl Fn(&mut Value, &Stage) + Send + Sync + 'static) -> Self {
        self.edits.push(Arc::new(edit));
        self
    }

    /// Sets the value at a JSON pointer, and makes what is missing above it.
    pub fn set(self, pointer: &'static str, value: Value) -> Self {
        self.edit(move |spec, _| set(spec, pointer, value.clone()))
    }

    /// Appends to the list at a JSON pointer.
    pub fn push(self, pointer: &'static str, value: Value) -> Self {
        self.edit(move |spec, _| push(spec, pointer, value.clone()))
    }

    /// Adds a mount whose source is no path of the stage.
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        self.push("/mounts", mount(destination, kind, source, options))
    }

    /// Mounts a path of the stage.
    pub fn bind(self, source: &'static str, destination: &'static str, options: &'static [&'static str]) -> Self {
        self.edit(move |spec, stage| {
            let source = stage.path(source).to_string_lossy().into_owned();
            push(spec, "/mounts", mount(destination, "bind", &source, options));
        })
    }

    /// Changes the process section of what is executed.
    pub fn exec(mut self, edit: impl Fn(&mut Value, &Stage) + Send + Sync + 'static) -> Self {
        self.exec_edits.push(Arc::new(edit));
        self
    }

    /// Has the probe describe paths.
    pub fn look(mut self, paths: &[&str]) -> Self {
        self.paths.extend(paths.iter().map(|path| (*path).to_owned()));
        self
    }

    /// Is refused, and the error names this.
    pub fn error_names(mut self, names: &[&str]) -> Self {
        self.error_names.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// See [`Case::mapped`].
    pub fn mapped(mut self) -> Self {
        self.mapped = true;
        self
    }

    /// Says nothing about a Wasm container.
    pub fn linux_only(mut self) -> Self {
        self.wasm = false;
        self
    }

    /// Makes a spec this case's.
    pub fn apply(&self, spec: &mut Value, stage: &Stage) {
        for edit in &self.edits {
            edit(spec, stage);
        }
    }

    /// Makes a process section that of what is executed.
    pub fn apply_to_exec(&self, process: &mut Value, stage: &Stage) {
        for edit in &self.exec_edits {
            edit(process, stage);
        }
    }
}

/// Sets the value at a JSON pointer, and makes what is missing above it.
pub fn set(spec: &mut Value, pointer: &str, value: Value) {
    let mut place = spec;
    for name in pointer.split('/').skip(1) {
        place = match name.parse::<usize>() {
            Ok(index) if place.is_array() => &mut place[index],
            _ => &mut place[name],
        };
    }
    *place = value;
}

/// Appends to the list at a JSON pointer, which need not be there.
pub fn push(spec: &mut Value, pointer: &str, value: Value) {
    if spec.pointer(pointer).is_none() {
        set(spec, pointer, json!([]));
    }
    spec.pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .unwrap()
        .push(value);
}

/// A mount entry.
pub fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// The entry of the list at a JSON pointer whose `key` is `value`.
pub fn entry<'a>(spec: &'a mut Value, pointer: &str, key: &str, value: &str) -> &'a mut Value {
    let list = spec.pointer_mut(pointer).and_then(Value::as_array_mut).unwrap();
    list.iter_mut().find(|entry| entry[key] == value).unwrap()
}

/// Removes the entries of the list at a JSON pointer whose `key` is `value`.
pub fn remove(spec: &mut Value, pointer: &str, key: &str, value: &str) {
    let list = spec.pointer_mut(pointer).and_then(Value::as_array_mut).unwrap();
    list.retain(|entry| entry[key] != value);
}
