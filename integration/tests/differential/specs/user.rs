//! `process.user`: ids, groups, umask.

use serde_json::{Value, json};

use crate::case::{Case, case};

fn user(name: &str, user: Value) -> Case {
    case(&format!("user/{name}"))
        .set("/process/user", user)
        .look(&["/data", "/closed", "/tmp"])
}

pub fn cases() -> Vec<Case> {
    let many: Vec<u32> = (5000..5200).collect();
    vec![
        user("of-the-image", json!({ "uid": 1000, "gid": 1000 })),
        user("unknown", json!({ "uid": 4242, "gid": 2424 })),
        user("with-root-s-group", json!({ "uid": 1000, "gid": 0 })),
        user("root-with-another-group", json!({ "uid": 0, "gid": 1000 })),
        user(
            "with-groups",
            json!({ "uid": 1000, "gid": 1000, "additionalGids": [3000, 5, 1000] }),
        ),
        user(
            "with-groups-twice",
            json!({ "uid": 1000, "gid": 1000, "additionalGids": [3000, 3000, 7] }),
        ),
        user(
            "root-with-groups",
            json!({ "uid": 0, "gid": 0, "additionalGids": [10, 0] }),
        ),
        user(
            "with-many-groups",
            json!({ "uid": 1000, "gid": 1000, "additionalGids": many }),
        ),
        user("with-a-umask", json!({ "uid": 0, "gid": 0, "umask": 0o27 })),
        user("with-a-umask-of-zero", json!({ "uid": 1000, "gid": 1000, "umask": 0 })),
        user(
            "with-the-largest-id",
            json!({ "uid": 4_294_967_294_u32, "gid": 4_294_967_294_u32 }),
        ),
        user("absent", Value::Null),
    ]
}
