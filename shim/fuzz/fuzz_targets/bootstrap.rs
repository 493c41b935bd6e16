//! What containerd pipes into `start`: nothing, runtime options, or parameters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_shim::bootstrap::start::identify;
use tandem_shim::cli::{Action, Args};

fuzz_target!(|input: &[u8]| {
    let args = Args {
        action: Action::Start,
        namespace: "n".into(),
        id: "c".into(),
        address: "/run/c.sock".into(),
        bundle: None,
        socket: None,
        debug: false,
    };
    // With the addresses that flags and environment give there is nothing that a message could make fail.
    let peer = identify(input, &args, "/run/c.ttrpc".into(), String::new()).expect("a peer");
    assert!(!peer.grpc.contains("://") || !peer.ttrpc.is_empty());
    let _ = identify(input, &args, String::new(), String::new());
});
