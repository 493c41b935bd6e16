//! Jobs and CronJobs: ends and their codes.

use serde_json::Value;

use crate::harness::{LONG, Namespace, Result, of_each, of_wasm, until};

/// Applies the Job; `limits` is a line of its spec.
fn start(ns: &Namespace, restart: &str, limits: &str, args: &str) -> Result<()> {
    ns.apply_with("job", &[("RESTART", restart), ("LIMITS", limits), ("ARGS", args)])
}

/// The Job's failure, when it has failed.
fn failure(ns: &Namespace) -> Result<String> {
    ns.wait("job/job", "Failed")?;
    let conditions = ns.get("job/job")?["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let failed = conditions.into_iter().find(|condition| condition["type"] == "Failed");
    Ok(failed.unwrap_or_default()["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// How the containers of the Job's pods have ended.
fn ends(ns: &Namespace) -> Result<Vec<Value>> {
    let pods = ns.list("pods", "job-name=job")?;
    Ok(pods
        .iter()
        .map(|pod| pod["status"]["containerStatuses"][0]["state"]["terminated"].clone())
        .collect())
}

of_each! {
    fn a_job_that_ends_well_is_complete(ns) {
        start(ns, "Never", "backoffLimit: 0", "[print, done]")?;
        ns.wait("job/job", "Complete")?;
        assert_eq!(ns.logs(&["job/job"])?, "done\n");
        let ends = ends(ns)?;
        assert_eq!((ends.len(), &ends[0]["exitCode"], &ends[0]["reason"]), (1, &0.into(), &"Completed".into()));
        Ok(())
    }

    fn a_job_keeps_the_exit_code_of_its_failure(ns) {
        start(ns, "Never", "backoffLimit: 0", "[exit, '37']")?;
        assert_eq!(failure(ns)?, "BackoffLimitExceeded");
        let ends = ends(ns)?;
        assert_eq!((ends.len(), &ends[0]["exitCode"], &ends[0]["reason"]), (1, &37.into(), &"Error".into()));
        Ok(())
    }

    fn a_failed_job_is_tried_again_as_often_as_it_says(ns) {
        start(ns, "Never", "backoffLimit: 1", "[exit, '3']")?;
        assert_eq!(failure(ns)?, "BackoffLimitExceeded");
        assert_eq!(ends(ns)?.iter().filter(|end| end["exitCode"] == 3).count(), 2);
        Ok(())
    }

    fn a_failed_container_is_restarted_in_its_pod(ns) {
        start(ns, "OnFailure", "backoffLimit: 6", "[exit, '3']")?;
        let restarted = until("a restart", LONG, || {
            let pods = ns.list("pods", "job-name=job")?;
            let status = pods.first().map(|pod| pod["status"]["containerStatuses"][0].clone()).unwrap_or_default();
            Ok((status["restartCount"].as_i64() > Some(0)).then_some(status))
        })?;
        assert_eq!(restarted["lastState"]["terminated"]["exitCode"], 3, "{restarted}");
        Ok(())
    }

    fn a_policy_on_exit_codes_ends_a_job_at_the_first_failure(ns) {
        let policy = "podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}";
        start(ns, "Never", policy, "[exit, '42']")?;
        assert_eq!(failure(ns)?, "PodFailurePolicy");
        assert_eq!(ends(ns)?.len(), 1);
        Ok(())
    }

    fn a_deadline_ends_a_job_that_computes_for_ever(ns) {
        start(ns, "Never", "backoffLimit: 6", "[spin]")?;
        until("a program that computes", LONG, || {
            let pods = ns.list("pods", "job-name=job")?;
            let state = pods.first().map(|pod| pod["status"]["containerStatuses"][0]["state"].clone());
            Ok(state.is_some_and(|state| state["running"].is_object()).then_some(()))
        })?;
        // The time counts from the job's start, and the pod may have come late.
        ns.ok(&["patch", "job/job", "--patch", r#"{"spec": {"activeDeadlineSeconds": 1}}"#])?;
        assert_eq!(failure(ns)?, "DeadlineExceeded");
        until("the end of the job's pod", LONG, || Ok(ends(ns)?.is_empty().then_some(())))
    }

    fn a_finished_job_is_deleted_when_its_time_is_over(ns) {
        start(ns, "Never", "ttlSecondsAfterFinished: 1", "[print, done]")?;
        ns.gone("job/job")?;
        until("the end of the job's pod", LONG, || Ok(ends(ns)?.is_empty().then_some(())))
    }

    fn a_job_in_pieces_tells_each_which_it_is(ns) {
        ns.apply("indexed")?;
        ns.wait("job/job", "Complete")?;
        let log = ns.logs(&["--selector=job-name=job"])?;
        let mut lines: Vec<&str> = log.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["piece 0", "piece 1", "piece 2"]);
        Ok(())
    }
}

of_wasm! {
    fn a_cron_job_runs_when_its_time_has_come(ns) {
        ns.apply("cronjob")?;
        let pod = until("the first run", LONG, || Ok(ns.list("pods", "cron=every-minute")?.into_iter().next()))?;
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        assert_eq!(ns.ended(&pod)?, "Succeeded");
        assert_eq!(ns.logs(&[&pod])?, "the minute is over\n");
        Ok(())
    }
}
