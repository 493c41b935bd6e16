//! A bundle's `config.json`, which a pod's author decides much of, and what is asked of it before anything runs.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tandem_confine::mounts::options::Options;
use tandem_shim::bundle::Bundle;

fuzz_target!(|json: &[u8]| {
    let Ok(bundle) = Bundle::parse(Path::new("/run/bundle"), json) else {
        return;
    };
    assert!(!bundle.args()[0].is_empty());
    assert!(bundle.process().is_some());
    let _ = bundle.rootfs();
    let _ = bundle.cgroup_path("id");
    let _ = (bundle.has_own_pid_namespace(), bundle.has_poststart_hooks());
    for mount in bundle.mounts() {
        let options = mount.options().as_deref().unwrap_or_default();
        let _ = Options::parse(mount.typ().as_deref(), options.iter().map(String::as_str));
    }
});
