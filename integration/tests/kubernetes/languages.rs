//! Guests in five languages, each built from source by its own community's compiler.

use crate::harness::{LONG, Namespace, Result, of_wasm, until};

fn a_guest_works(ns: &Namespace, guest: &str, file: &str) -> Result<()> {
    ns.apply_with("language", &[("GUEST", guest)])?;
    ns.wait("job/works", "Complete")?;
    let args = ns.logs(&["job/works", "--container=args"])?;
    assert_eq!(args, format!("argv[0]={file}\nargv[1]=args\nargv[2]=two words\n"));
    let env = ns.logs(&["job/works", "--container=env"])?;
    assert!(env.lines().any(|line| line == "GREETING=from the environment"), "{env}");
    assert_eq!(ns.logs(&["job/works", "--container=file"])?.trim_end(), "from a file");
    assert_eq!(ns.logs(&["job/works", "--container=read"])?, "from another container\n");
    ns.wait("job/fails", "Failed")?;
    let pod = ns.list("pods", "job-name=fails")?;
    assert_eq!(
        pod[0]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        37
    );
    let minute = until("the first run of the cron job", LONG, || {
        Ok(ns.list("pods", "cron=every-minute")?.into_iter().next())
    })?;
    let minute = minute["metadata"]["name"].as_str().unwrap_or_default();
    assert_eq!(ns.ended(minute)?, "Succeeded");
    assert_eq!(
        ns.logs(&[minute])?,
        format!("argv[0]={file}\nargv[1]=args\nargv[2]=the minute is over\n")
    );
    Ok(())
}

fn a_server_answers(ns: &Namespace, guest: &str, greeting: &str) -> Result<()> {
    ns.apply_with("language-http", &[("GUEST", guest)])?;
    ns.ready("server")?;
    let get = |path: &str, more: &[&str]| {
        let url = format!("http://127.0.0.1:8080{path}");
        let command = [
            &["exec", "server", "--container=client", "--", "wget", "-q", "-O", "-"],
            more,
            &[&url],
        ]
        .concat();
        ns.ok(&command)
    };
    assert_eq!(get("/", &[])?, greeting);
    assert_eq!(get("/echo", &["--post-data", "said in return"])?, "said in return");
    // One instance for each request: the next one is as good as the first.
    assert_eq!(get("/sleep?ms=20", &[])?, "slept 20 ms\n");
    assert!(get("/nowhere", &[]).is_err());
    assert_eq!(get("/", &[])?, greeting);
    Ok(())
}

of_wasm! {
    fn a_program_in_c_sees_its_pod_and_keeps_its_exit_code(ns) {
        a_guest_works(ns, "echo", "/echo.wasm")
    }

    fn a_program_in_rust_sees_its_pod_and_keeps_its_exit_code(ns) {
        a_guest_works(ns, "tool", "/tool.wasm")
    }

    fn a_program_in_go_sees_its_pod_and_keeps_its_exit_code(ns) {
        a_guest_works(ns, "tool-go", "/tool-go.wasm")
    }

    fn a_program_in_javascript_sees_its_pod_and_keeps_its_exit_code(ns) {
        a_guest_works(ns, "tool-js", "/tool-js.wasm")
    }

    fn a_program_in_python_sees_its_pod_and_keeps_its_exit_code(ns) {
        a_guest_works(ns, "tool-python", "/tool-python.wasm")
    }

    fn a_server_in_rust_answers(ns) {
        a_server_answers(ns, "http-hello", "hello from tandem\n")
    }

    fn a_server_in_go_answers(ns) {
        a_server_answers(ns, "http-go", "hello from go\n")
    }

    fn a_server_in_javascript_answers(ns) {
        a_server_answers(ns, "http-js", "hello from javascript\n")
    }

    fn a_server_in_python_answers(ns) {
        a_server_answers(ns, "http-python", "hello from python\n")
    }
}
