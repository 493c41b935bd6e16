//! The same test with Wasm, with a Linux program, and with runc.

/// Who runs a test's main container. Its program is `echo` of `integration/guests/c` every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A guest, under Tandem.
    Wasm,
    /// A Linux program, under Tandem.
    Linux,
    /// A Linux program, under runc.
    Runc,
}

impl Subject {
    /// Name of its RuntimeClass.
    pub fn class(self) -> &'static str {
        match self {
            Self::Wasm | Self::Linux => "tandem",
            Self::Runc => "runc",
        }
    }

    /// Name of the image with `echo`.
    pub fn echo(self) -> &'static str {
        match self {
            Self::Wasm => "echo",
            Self::Linux | Self::Runc => "linux-echo",
        }
    }

    /// The file that is `echo` in that image.
    pub fn program(self) -> &'static str {
        match self {
            Self::Wasm => "/echo.wasm",
            Self::Linux | Self::Runc => "/linux-echo",
        }
    }

    /// A word for names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Linux => "linux",
            Self::Runc => "runc",
        }
    }
}

/// Makes of each function tests of all three subjects: `name::wasm`, `name::linux`, `name::runc`. The function gets a
/// namespace of its own, which is ended after it.
macro_rules! of_each {
    ($($(#[$about:meta])* fn $name:ident($ns:ident) $body:block)*) => {$(
        $(#[$about])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn test($ns: &$crate::harness::Namespace) -> $crate::harness::Result<()> $body

            #[test]
            fn wasm() -> $crate::harness::Result<()> {
                $crate::harness::Namespace::with(stringify!($name), $crate::harness::Subject::Wasm, test)
            }

            #[test]
            fn linux() -> $crate::harness::Result<()> {
                $crate::harness::Namespace::with(stringify!($name), $crate::harness::Subject::Linux, test)
            }

            #[test]
            fn runc() -> $crate::harness::Result<()> {
                $crate::harness::Namespace::with(stringify!($name), $crate::harness::Subject::Runc, test)
            }
        }
    )*};
}

/// Makes of each function a test of Wasm under Tandem alone.
macro_rules! of_wasm {
    ($($(#[$about:meta])* fn $name:ident($ns:ident) $body:block)*) => {$(
        $(#[$about])*
        #[test]
        fn $name() -> $crate::harness::Result<()> {
            fn test($ns: &$crate::harness::Namespace) -> $crate::harness::Result<()> $body
            $crate::harness::Namespace::with(stringify!($name), $crate::harness::Subject::Wasm, test)
        }
    )*};
}

pub(crate) use {of_each, of_wasm};
