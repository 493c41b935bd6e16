//! The two things that a `.wasm` file can be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The two things that a `.wasm` file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleKind {
    /// A core module (WASI 0.1).
    Core,
    /// A component (WASI 0.2).
    Component,
}

impl ModuleKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Core, Self::Component];

    /// The word for it, in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Component => "component",
        }
    }
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
