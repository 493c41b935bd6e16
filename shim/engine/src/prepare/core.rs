//! Core modules.

use super::imports;
use crate::command::INITIALIZE;
use crate::ctx::CoreState;
use crate::error::PrepareError;
use crate::guest::{Guest, Program};
use wasmtime::{ExternType, Linker, Module, UnknownImportError, ValType};

/// The function of a WASI command.
const START: &str = "_start";

/// Checks a core module's entry and imports.
pub(crate) fn prepare(linker: &Linker<CoreState>, module: &Module, entry: Option<&str>) -> Result<Guest, PrepareError> {
    // First, as such a module imports the means to make threads too, which says less.
    check_memories(module)?;
    let entry = entry.unwrap_or(START);
    check_entry(module, entry)?;
    let pre = linker
        .instantiate_pre(module)
        .map_err(|error| match error.downcast_ref::<UnknownImportError>() {
            Some(unknown) => PrepareError::UnknownImport {
                module: unknown.module().to_owned(),
                name: unknown.name().to_owned(),
                remedy: imports::core_remedy(unknown.module()),
            },
            None => PrepareError::IncompatibleImport {
                reason: format!("{error:#}"),
            },
        })?;
    // `_start` does its own set-up; a module that has it never has `_initialize` by the rules of WASI.
    let initialize = entry != START && entry != INITIALIZE && module.get_export(INITIALIZE).is_some();
    if initialize {
        check_entry(module, INITIALIZE)?;
    }
    Ok(Guest {
        program: Program::Core {
            pre,
            entry: entry.to_owned(),
            initialize,
        },
    })
}

fn check_memories(module: &Module) -> Result<(), PrepareError> {
    let imported = module.imports().map(|import| (import.name(), import.ty()));
    let exported = module.exports().map(|export| (export.name(), export.ty()));
    for (name, ty) in imported.chain(exported) {
        if matches!(ty, ExternType::Memory(memory) if memory.is_shared()) {
            return Err(PrepareError::SharedMemory {
                memory: name.to_owned(),
            });
        }
    }
    Ok(())
}

fn check_entry(module: &Module, name: &str) -> Result<(), PrepareError> {
    let Some(ExternType::Func(function)) = module.get_export(name) else {
        let functions = module
            .exports()
            .filter(|export| matches!(export.ty(), ExternType::Func(_)));
        let available = functions.map(|export| export.name().to_owned()).collect();
        return Err(PrepareError::MissingExport {
            name: name.to_owned(),
            available,
        });
    };
    let mut results = function.results();
    let answers = match results.len() {
        0 => true,
        1 => matches!(results.next(), Some(ValType::I32)),
        _ => false,
    };
    if function.params().len() == 0 && answers {
        return Ok(());
    }
    Err(PrepareError::BadEntrySignature {
        name: name.to_owned(),
        found: format!("`{function}`"),
        expected: ", or an i32 as its exit code",
    })
}
