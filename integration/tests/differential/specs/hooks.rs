//! `hooks`: that each kind runs, with which environment and state, and how a failing one is told.

use serde_json::{Value, json};

use crate::case::{Case, case, push};

const KINDS: [&str; 5] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
];

/// A hook of `kind` that runs a script in the stage's shell.
fn hook(case: Case, kind: &'static str, script: &'static str, more: Value) -> Case {
    case.edit(move |spec, stage| {
        let shell = match kind {
            // Looked up in the container.
            "startContainer" => "/hook-bin/sh".to_owned(),
            _ => stage.path("bin/sh").to_string_lossy().into_owned(),
        };
        let script = script.replace("STAGE", &stage.path("").to_string_lossy());
        let mut hook = json!({ "path": shell, "args": ["sh", "-c", script], "env": ["A=1", "B=2"] });
        for (key, value) in more.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        push(spec, &format!("/hooks/{kind}"), hook);
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        let tools = |name: &str| case(&format!("hooks/{kind}-{name}")).bind("bin", "/hook-bin", &["bind"]);
        cases.push(
            hook(tools("fails"), kind, "echo because of this >&2; exit 3", json!({}))
                .error_names(&["because of this", "3"]),
        );
        cases.push(
            hook(tools("is-missing"), kind, "", json!({ "path": "/no/such/hook" })).error_names(&["/no/such/hook"]),
        );
        cases.push(hook(
            tools("takes-too-long"),
            kind,
            "exec sleep 30",
            json!({ "timeout": 1 }),
        ));
    }
    let seen = |name: &str| {
        case(&format!("hooks/{name}"))
            .bind("out", "/v", &["bind"])
            .bind("bin", "/hook-bin", &["bind"])
    };
    // What is written before the program starts can be seen by it.
    const STATE: &str = "tr , '\\n' >STAGE/out/all; grep -o '\"status\":\"[a-z]*\"\\|\"ociVersion\"\\|\"annotations\"' STAGE/out/all | sort >STAGE/out/seen; rm STAGE/out/all";
    const ENVIRONMENT: &str = "export -p >STAGE/out/seen; pwd >>STAGE/out/seen";
    const STREAMS: &str = "cat /proc/$$/cgroup | cut -d: -f2 | sort | tail -1 >STAGE/out/seen; umask >>STAGE/out/seen";
    for kind in ["prestart", "createRuntime"] {
        cases.push(hook(seen(&format!("{kind}-state")), kind, STATE, json!({})).look(&["/v/seen"]));
        cases.push(hook(seen(&format!("{kind}-environment")), kind, ENVIRONMENT, json!({})).look(&["/v/seen"]));
        cases.push(hook(seen(&format!("{kind}-umask")), kind, STREAMS, json!({})).look(&["/v/seen"]));
        cases.push(
            hook(
                seen(&format!("{kind}-without-an-environment")),
                kind,
                ENVIRONMENT,
                json!({ "env": [] }),
            )
            .look(&["/v/seen"]),
        );
    }
    let both = hook(
        seen("two-of-a-kind"),
        "createRuntime",
        "echo one >>STAGE/out/seen",
        json!({}),
    );
    cases.push(hook(both, "createRuntime", "echo two >>STAGE/out/seen", json!({})).look(&["/v/seen"]));
    cases
}
