//! Runtime options: an `Any` of a known type, with a protobuf or TOML content.
#![no_main]

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use libfuzzer_sys::fuzz_target;
use tandem_shim::options::Options;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (kind, mut value) = input;
    let type_url = match kind % 4 {
        0 => "containerd.runc.v1.Options",
        1 => "types.containerd.io/runtimeoptions.v1.Options",
        2 => {
            // A TOML body: the third field of the message, with its length before it.
            let mut length = value.len();
            let mut message = vec![0x1a];
            while length > 0x7f {
                message.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            message.push(length as u8);
            message.append(&mut value);
            value = message;
            "runtimeoptions.v1.Options"
        }
        _ => "another.Type",
    };
    // The second field names a file of the node's, which its admin configured and a fuzzer must not open.
    if kind % 4 == 1 && value.contains(&0x12) {
        return;
    }
    let any = Any {
        type_url: type_url.to_owned(),
        value,
        ..Default::default()
    };
    let _ = Options::decode(Some(&any));
});
