//! `process.args`: how the program is found, and how it is refused.

use serde_json::{Value, json};

use crate::case::{Case, case};

fn args(name: &str, args: &[&str]) -> Case {
    case(&format!("args/{name}"))
        .set("/process/args", json!(args))
        .linux_only()
}

fn exec(name: &str, args: &'static [&'static str]) -> Case {
    let case = case(&format!("exec/{name}")).linux_only();
    case.exec(move |process, _| process["args"] = json!(args))
}

pub fn cases() -> Vec<Case> {
    let not_found = |case: Case, path: &str| case.error_names(&[path, "o such file"]);
    let denied = |case: Case, path: &str| case.error_names(&[path, "ermission denied"]);
    vec![
        args("by-path", &["by-path", "wait"]).set("/process/env", json!(["PATH=/usr/bin:/bin"])),
        args("by-path-of-the-environment", &["probe", "wait"]).set("/process/env", json!(["PATH=/nowhere:/"])),
        args("relative", &["./probe", "wait"]),
        args("relative-to-the-cwd", &["../probe", "wait"]).set("/process/cwd", json!("/data")),
        args("through-a-link", &["/bin/by-path", "wait"]),
        args("with-dots", &["/data/../bin/./by-path", "wait"]),
        args(
            "with-empty-and-odd-arguments",
            &["/probe", "wait", "", " ", "a b", "ä\n\"'\\"],
        ),
        args("from-a-volume", &["/v/probe", "wait"]).edit(|spec, stage| {
            // The program is the image's; the volume's link leads back to it.
            let _ = std::os::unix::fs::symlink("/probe", stage.path("dir/probe"));
            let source = stage.path("dir").to_string_lossy().into_owned();
            crate::case::push(spec, "/mounts", crate::case::mount("/v", "bind", &source, &["bind"]));
        }),
        not_found(args("missing", &["/no/such/program"]), "/no/such/program"),
        not_found(args("missing-relative", &["./no-such"]), "no-such"),
        args("missing-in-path", &["no-such-program"]).error_names(&["no-such-program"]),
        args("without-a-path-to-search", &["by-path", "wait"]).set("/process/env", json!([])),
        args("a-directory", &["/data"]).error_names(&["/data"]),
        denied(args("not-executable", &["/plain"]), "/plain"),
        args("no-program", &["/garbage"]).error_names(&["/garbage", "xec format error"]),
        not_found(args("without-its-interpreter", &["/script"]), "/script"),
        args("below-a-file", &["/etc/passwd/x"]).error_names(&["/etc/passwd/x", "ot a directory"]),
        args("a-link-that-loops", &["/loop"]).error_names(&["/loop"]),
        args("empty", &[""]),
        args("none", &[]).error_names(&["args"]),
        case("args/absent").linux_only().error_names(&["args"]).edit(|spec, _| {
            spec["process"].as_object_mut().unwrap().remove("args");
        }),
        denied(
            args("closed-to-the-user", &["/closed/x"])
                .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
                .set("/process/capabilities", json!({})),
            "/closed/x",
        ),
        denied(
            args("on-a-mount-without-exec", &["/v/sh", "-c", "true"]).bind("bin", "/v", &["bind", "noexec"]),
            "/v/sh",
        ),
        case("args/no-process")
            .linux_only()
            .error_names(&["process"])
            .edit(|spec, _| spec["process"] = Value::Null),
        exec("missing", &["/no/such/program"]).error_names(&["/no/such/program", "o such file"]),
        exec("missing-in-path", &["no-such-program"]).error_names(&["no-such-program"]),
        exec("a-directory", &["/data"]).error_names(&["/data"]),
        exec("not-executable", &["/plain"]).error_names(&["/plain", "ermission denied"]),
        exec("no-program", &["/garbage"]).error_names(&["/garbage", "xec format error"]),
        exec("without-its-interpreter", &["/script"]).error_names(&["/script", "o such file"]),
        exec("nothing", &[]).error_names(&["args"]),
        exec("by-path", &["by-path", "once"]),
        exec("relative", &["./probe", "once"]),
    ]
}
