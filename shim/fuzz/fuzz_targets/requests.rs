//! The requests that clients fill in: their messages, and the names in them that become parts of paths.
#![no_main]

use containerd_shim_protos::api::{CreateTaskRequest, DeleteRequest, ExecProcessRequest, KillRequest, StartRequest};
use containerd_shim_protos::protobuf::Message;
use libfuzzer_sys::fuzz_target;
use tandem_shim::cli::check_name;
use tandem_shim::options::Options;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = CreateTaskRequest::parse_from_bytes(bytes) {
        named(&request.id);
        let any = request.options.as_ref().filter(|any| !any.value.contains(&0x12));
        let _ = Options::decode(any);
    }
    if let Ok(request) = ExecProcessRequest::parse_from_bytes(bytes) {
        named(&request.id);
        named(&request.exec_id);
    }
    let _ = StartRequest::parse_from_bytes(bytes).map(|request| named(&request.id));
    let _ = DeleteRequest::parse_from_bytes(bytes).map(|request| named(&request.id));
    let _ = KillRequest::parse_from_bytes(bytes).map(|request| named(&request.id));
});

/// A name that is accepted is one component of a path, whatever is done with it.
fn named(name: &str) {
    if check_name("id", name).is_ok() {
        let path = std::path::Path::new("/run/tandem").join(name);
        assert_eq!(path.components().count(), 4, "{name:?}");
        assert!(path.starts_with("/run/tandem") && !name.contains(['\0', '/', '\n']), "{name:?}");
    }
}
