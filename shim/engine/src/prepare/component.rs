//! Components.

use super::imports;
use crate::ctx::ComponentState;
use crate::error::PrepareError;
use crate::guest::{Guest, Program};
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker, Type};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

const RUN: &str = "wasi:cli/run";
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler";

/// What of a component is to be run.
enum Target {
    Command,
    Http,
    Function(ComponentExportIndex),
}

/// Checks a component's entry and imports.
pub(crate) fn prepare(
    linker: &Linker<ComponentState>,
    component: &Component,
    entry: Option<&str>,
) -> Result<Guest, PrepareError> {
    // The world first: that of a component for another host explains its unknown imports too.
    let exports = Exports::of(component);
    let target = match entry {
        None => exports.default_target()?,
        Some(entry) => exports.target(entry)?,
    };
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| exports.import_error(&error))?;
    let program = match target {
        Target::Function(function) => Program::Export { pre, function },
        Target::Command => command(pre)?,
        Target::Http => http(pre)?,
    };
    Ok(Guest { program })
}

fn command(pre: InstancePre<ComponentState>) -> Result<Program, PrepareError> {
    CommandPre::new(pre)
        .map(Program::Command)
        .map_err(|error| mistyped(RUN, &error))
}

fn http(pre: InstancePre<ComponentState>) -> Result<Program, PrepareError> {
    ProxyPre::new(pre)
        .map(Program::Http)
        .map_err(|error| mistyped(INCOMING_HANDLER, &error))
}

/// An interface with a well-known name and foreign contents.
fn mistyped(name: &str, error: &wasmtime::Error) -> PrepareError {
    PrepareError::BadEntrySignature {
        name: name.to_owned(),
        found: format!("`{error:#}`"),
        expected: " but what WASI 0.2 says of it",
    }
}

struct Exports<'a> {
    component: &'a Component,
    /// All names that the component exports at its root.
    names: Vec<String>,
}

impl<'a> Exports<'a> {
    fn of(component: &'a Component) -> Self {
        let ty = component.component_type();
        let names = ty
            .exports(component.engine())
            .map(|(name, _)| name.to_owned())
            .collect();
        Self { component, names }
    }

    fn default_target(&self) -> Result<Target, PrepareError> {
        if self.has(RUN) {
            Ok(Target::Command)
        } else if self.has(INCOMING_HANDLER) {
            Ok(Target::Http)
        } else {
            Err(PrepareError::UnsupportedWorld {
                exports: self.names.clone(),
                imports: self.imports(),
            })
        }
    }

    fn target(&self, entry: &str) -> Result<Target, PrepareError> {
        let (interface, function) = match entry.split_once('#') {
            Some((interface, function)) => (Some(interface), function),
            None => (None, entry),
        };
        let named = interface.unwrap_or(entry);
        if imports::without_version(named) == INCOMING_HANDLER && self.has(INCOMING_HANDLER) {
            return Ok(Target::Http);
        }
        if imports::without_version(named) == RUN && self.has(RUN) {
            return Ok(Target::Command);
        }
        let found = match interface {
            None => self.component.get_export(None, function),
            Some(interface) => self
                .interface(interface)
                .and_then(|index| self.component.get_export(Some(&index), function)),
        };
        match found {
            Some((ComponentItem::ComponentFunc(ty), index)) => {
                check_signature(entry, &ty)?;
                Ok(Target::Function(index))
            }
            _ => Err(PrepareError::MissingExport {
                name: entry.to_owned(),
                available: self.functions(),
            }),
        }
    }

    /// An exported interface by its full name, or by its name without the version.
    fn interface(&self, name: &str) -> Option<ComponentExportIndex> {
        self.component.get_export_index(None, name).or_else(|| {
            let full = self.names.iter().find(|full| imports::without_version(full) == name)?;
            self.component.get_export_index(None, full)
        })
    }

    /// Whether a version of the interface is exported that this host can run.
    fn has(&self, interface: &str) -> bool {
        self.names.iter().any(|name| imports::is_version_0_2(name, interface))
    }

    /// The functions that an entry can name.
    fn functions(&self) -> Vec<String> {
        let ty = self.component.component_type();
        let engine = self.component.engine();
        let mut functions = Vec::new();
        for (name, export) in ty.exports(engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => functions.push(name.to_owned()),
                ComponentItem::ComponentInstance(instance) => {
                    let items = instance.exports(engine);
                    let items = items.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
                    functions.extend(items.map(|(item, _)| format!("{name}#{item}")));
                }
                _ => {}
            }
        }
        functions
    }

    fn imports(&self) -> Vec<String> {
        let ty = self.component.component_type();
        ty.imports(self.component.engine())
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    /// Wasmtime names the first import that does not fit, in words only. An interface that this host does not know at
    /// all is the likelier cause, so look for one.
    fn import_error(&self, error: &wasmtime::Error) -> PrepareError {
        match self
            .imports()
            .into_iter()
            .find(|name| !imports::is_known_interface(name))
        {
            Some(module) => {
                let remedy = imports::component_remedy(&module);
                PrepareError::UnknownImport {
                    module,
                    name: String::new(),
                    remedy,
                }
            }
            None => PrepareError::IncompatibleImport {
                reason: format!("{error:#}"),
            },
        }
    }
}

fn check_signature(name: &str, ty: &ComponentFunc) -> Result<(), PrepareError> {
    let mut results = ty.results();
    let answers = match results.len() {
        0 => true,
        1 => matches!(results.next(), Some(Type::Result(_) | Type::U8 | Type::S32 | Type::U32)),
        _ => false,
    };
    if ty.params().len() == 0 && answers {
        return Ok(());
    }
    let params = ty
        .params()
        .map(|(name, _)| name.to_owned())
        .collect::<Vec<_>>()
        .join(", ");
    let results = ty.results().map(|ty| format!("{ty:?}")).collect::<Vec<_>>().join(", ");
    Err(PrepareError::BadEntrySignature {
        name: name.to_owned(),
        found: format!("`func({params}) -> ({results})`"),
        expected: ", or a result, u8, u32 or s32 as its exit code",
    })
}
