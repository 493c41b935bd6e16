//! What `kubectl describe` says of a pod that cannot run: the reason, and what to do.

use crate::harness::{LONG, Namespace, Result, of_wasm, until};

/// Runs an image that cannot run, and requires that the pod is told why, in these words.
fn told(ns: &Namespace, image: &str, command: &str, words: &[&str]) -> Result<()> {
    ns.apply_with("bad", &[("IMAGE", image), ("COMMAND", command)])?;
    let missing = |text: &str| {
        words
            .iter()
            .filter(|word| !text.contains(**word))
            .copied()
            .collect::<Vec<_>>()
    };
    let what = format!("a reason with {words:?}");
    until(&what, LONG, || {
        Ok(missing(&ns.status("bad", "main")?["state"].to_string())
            .is_empty()
            .then_some(()))
    })?;
    until(&format!("{what} in what describe prints"), LONG, || {
        let text = ns.ok(&["describe", "pod", "bad"])?;
        Ok((missing(&text).is_empty() && text.contains("Warning  Failed")).then_some(()))
    })
}

of_wasm! {
    fn a_missing_import_is_named(ns) {
        told(ns, "bad-import:1", "[]", &["the guest imports `nowhere` `missing`", "rebuild the guest for wasm32-wasip1"])
    }

    fn a_missing_start_function_is_named_with_those_there_are(ns) {
        told(ns, "no-start:1", "[]", &["no exported function `_start`", "it exports `greet`"])
    }

    fn a_component_of_another_world_is_told_which_there_are(ns) {
        told(ns, "odd-world:1", "[]", &["exports `answer`", "wasi:cli/run@0.2", "wasi:http/incoming-handler@0.2"])
    }

    fn a_module_that_was_cut_short_does_not_compile(ns) {
        told(ns, "truncated:1", "[]", &["/hello.wasm does not compile", "unexpected end-of-file"])
    }

    fn native_code_is_refused(ns) {
        told(ns, "native:1", "[]", &["native executable", "push the .wasm file"])
    }

    fn an_entrypoint_that_is_not_there_is_named_with_its_image(ns) {
        told(ns, "absent:1", "[]", &["/helo.wasm", "is not in the root file system of image", "/absent:1"])
    }

    fn an_artifact_of_several_modules_is_refused_with_their_digests(ns) {
        told(ns, "several:1", "[hello]", &["several", "sha256:"])
    }

    fn an_artifact_without_a_command_is_told_so(ns) {
        told(ns, "tool:artifact", "[]", &["no command specified"])
    }

    fn a_trap_is_told_by_its_exit_code_and_its_backtrace(ns) {
        ns.apply_with("bad", &[("IMAGE", "trap:1"), ("COMMAND", "[]")])?;
        assert_eq!(ns.ended("bad")?, "Failed");
        assert_eq!(ns.status("bad", "main")?["state"]["terminated"]["exitCode"], 134);
        let log = ns.logs(&["bad"])?;
        assert!(log.contains("unreachable") && log.contains("backtrace"), "{log}");
        Ok(())
    }
}
