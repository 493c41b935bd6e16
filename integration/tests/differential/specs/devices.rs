//! `linux.devices`, the default devices, and the rules of `linux.resources.devices`.

use serde_json::{Value, json};

use crate::case::{Case, case, push};

fn device(path: &str, kind: &str, major: i64, minor: i64) -> Value {
    json!({ "path": path, "type": kind, "major": major, "minor": minor })
}

fn with(name: &str, devices: Value) -> Case {
    case(&format!("devices/{name}")).set("/linux/devices", devices)
}

pub fn cases() -> Vec<Case> {
    let mut fuse = device("/dev/fuse", "c", 10, 229);
    fuse["fileMode"] = 0o640.into();
    fuse["uid"] = 1000.into();
    fuse["gid"] = 5.into();
    let mut open = device("/dev/null", "c", 1, 3);
    open["fileMode"] = 0o600.into();
    let mut typed = device("/dev/typed", "c", 1, 3);
    typed["fileMode"] = 0o020_666.into();
    let allow = |access: &'static str| json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": access });
    vec![
        with("with-a-mode-and-an-owner", json!([fuse])),
        with("without-a-mode", json!([device("/dev/kmsg", "c", 1, 11)])),
        with("of-every-type", json!([
            device("/dev/block", "b", 7, 0), device("/dev/unbuffered", "u", 1, 3), device("/dev/fifo", "p", 0, 0),
        ])),
        with("below-directories", json!([device("/dev/net/deep/tun", "c", 10, 200)])).look(&["/dev/net", "/dev/net/deep"]),
        with("outside-of-dev", json!([device("/opt/devices/null", "c", 1, 3)])).look(&["/opt", "/opt/devices", "/opt/devices/null"]),
        with("that-is-a-default-one", json!([open])),
        with("whose-mode-has-a-type", json!([typed])),
        with("through-a-link", json!([device("/to-data/null", "c", 1, 3)])).look(&["/data/null"]),
        with("twice", json!([device("/dev/twice", "c", 1, 3), device("/dev/twice", "c", 1, 5)])),
        with("of-no-type", json!([device("/dev/x", "z", 1, 3)])),
        with("at-a-relative-path", json!([device("dev/x", "c", 1, 3)])),
        with("of-a-user", json!([device("/dev/kmsg", "c", 1, 11)])).set("/process/user", json!({ "uid": 1000, "gid": 1000 })),
        with("allowed-to-be-read", json!([device("/dev/kmsg", "c", 1, 11)]))
            .edit(move |spec, _| push(spec, "/linux/resources/devices", allow("r")))
            .look(&["/dev/kmsg"]),
        with("allowed-to-be-used", json!([device("/dev/kmsg", "c", 1, 11)]))
            .edit(move |spec, _| push(spec, "/linux/resources/devices", allow("rwm")))
            .look(&["/dev/kmsg"]),
        case("devices/all-allowed").set("/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }])),
        case("devices/all-denied").set("/linux/resources/devices", json!([{ "allow": false, "access": "rwm" }])),
        case("devices/no-rules").set("/linux/resources", json!({})),
        case("devices/a-class-is-allowed").set(
            "/linux/resources/devices",
            json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": -1, "minor": -1, "access": "m" }]),
        ),
        case("devices/a-rule-of-no-type")
            .set("/linux/resources/devices", json!([{ "allow": true, "type": "z", "access": "r" }]))
            .error_names(&["z"]),
    ]
}
