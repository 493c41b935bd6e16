//! The command line, as lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_shim::cli::{Action, Args, check_name};

fuzz_target!(|text: &str| {
    if let Ok(args) = Args::parse(text.lines().map(str::to_owned))
        && !matches!(args.action, Action::Info | Action::Version)
    {
        assert!(check_name("-id", &args.id).is_ok() && check_name("-namespace", &args.namespace).is_ok());
    }
});
