//! A bundle's `config.json`, which a pod's author decides much of, and what is asked of it before anything runs.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tandem_shim::bundle::Bundle;

fuzz_target!(|json: &[u8]| {
    let Ok(bundle) = Bundle::parse(Path::new("/run/bundle"), json) else {
        return;
    };
    assert!(!bundle.args()[0].is_empty());
    assert!(bundle.process().is_some());
    let _ = bundle.rootfs();
    let _ = bundle.cgroup_path("id");
    let _ = bundle.is_in_mount(Path::new("/a/b"));
    let _ = (bundle.has_own_pid_namespace(), bundle.has_host_hooks());
});
