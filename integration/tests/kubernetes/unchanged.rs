//! Pods of today's world, unchanged but for the class: manifests in the style of runwasi and SpinKube, images built for
//! crun, youki and Docker.

use crate::harness::{LONG, of_wasm, until};

of_wasm! {
    fn a_deployment_in_the_style_of_runwasi_runs(ns) {
        ns.apply("runwasi-style")?;
        ns.ok(&["rollout", "status", "deployment/wasi-demo", "--timeout=400s"])?;
        let pods = ns.list("pods", "app=wasi-demo")?;
        assert_eq!(pods.len(), 3);
        ns.logged(&["deployment/wasi-demo"], "This is a song that never ends.")?;
        Ok(())
    }

    fn a_deployment_in_the_style_of_spinkube_serves_on_its_port(ns) {
        ns.apply("spin-style")?;
        ns.ok(&["rollout", "status", "deployment/wasm-spin", "--timeout=400s"])?;
        let image = format!("{}/busybox:1", ns.cluster.registry());
        let ask = "until timeout 5 wget -q -O - http://wasm-spin/; do sleep 0.3; done";
        ns.ok(&["run", "client", "--image", &image, "--restart=Never", "--", "sh", "-c", ask])?;
        assert_eq!(ns.ended("client")?, "Succeeded");
        assert!(ns.logs(&["client"])?.contains("hello from tandem"));
        Ok(())
    }

    fn images_for_crun_youki_and_docker_run(ns) {
        ns.apply("compat")?;
        for pod in ["compat", "compat-smart", "platform"] {
            let phase = ns.ended(pod)?;
            assert_eq!((phase.as_str(), ns.logs(&[pod])?.as_str()), ("Succeeded", "unchanged\n"), "{pod}");
        }
        Ok(())
    }

    fn an_artifact_runs_as_its_first_argument_says(ns) {
        ns.apply("artifacts")?;
        let phase = ns.ended("artifact")?;
        assert_eq!(phase, "Succeeded");
        assert_eq!(ns.logs(&["artifact", "--container=args"])?, "argv[0]=tool\nargv[1]=args\nargv[2]=more\n");
        assert_eq!(ns.logs(&["artifact", "--container=function"])?, "hello from greet\n");
        until("both containers' ends", LONG, || {
            Ok((ns.status("artifact", "function")?["state"]["terminated"]["exitCode"] == 0).then_some(()))
        })
    }
}
