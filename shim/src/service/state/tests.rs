use std::path::Path;

use super::*;
use crate::bundle::Bundle;
use crate::service::process::{Exec, ExecStart};
use crate::stdio::StreamNames;

/// A pid that no process has.
const INIT: i32 = i32::MAX - 1;
const EXECUTED: i32 = i32::MAX - 2;

fn state() -> State {
    let json = r#"{"ociVersion":"1.1.0","root":{"path":"rootfs"},"linux":{"namespaces":[]},
        "process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"]}}"#;
    let bundle = Bundle::parse(Path::new("/b"), json.as_bytes()).unwrap();
    let state = State::new(Events::forward_to("/nonexistent/socket".into(), "test".into()));
    let mut container = Container::new(bundle.into(), StreamNames::default(), false);
    let exec = Exec::new(StreamNames::default(), Vec::new());
    container.execs.insert("x".into(), exec);
    state.lock().containers.insert("c".into(), container);
    state
}

fn begin(state: &State, target: Target) -> Op {
    state.lock().begin(Some(target)).0
}

fn exec_target() -> Target {
    Target::Exec {
        container: "c".into(),
        exec_id: "x".into(),
    }
}

fn take(state: &State, report: Report) {
    state.take(report, Vec::new());
}

fn statuses(state: &State) -> (Status, Status) {
    let inner = state.lock();
    let container = inner.container("c").unwrap();
    (container.status(), container.exec("x").unwrap().process.status())
}

fn run_container(state: &State) {
    let op = begin(state, Target::Container("c".into()));
    take(state, Report::Created { op, pid: INIT });
}

#[tokio::test]
async fn a_container_ends_after_what_was_executed_in_it() {
    let state = state();
    run_container(&state);
    let op = begin(&state, exec_target());
    state.lock().container_mut("c").unwrap().exec_mut("x").unwrap().start = ExecStart::HandedOver;
    // The first process ends while an exec starts, which nobody knows the outcome of.
    take(&state, Report::Exited { pid: INIT, status: 3 });
    assert_eq!(statuses(&state).0, Status::Created { pid: INIT });
    assert_eq!(state.lock().container("c").unwrap().living_pid(), None);
    take(&state, Report::Created { op, pid: EXECUTED });
    assert_eq!(statuses(&state).1, Status::Running { pid: EXECUTED });
    assert!(statuses(&state).0.exit().is_none());
    take(
        &state,
        Report::Exited {
            pid: EXECUTED,
            status: 137,
        },
    );
    let (container, exec) = statuses(&state);
    assert_eq!(container.exit().map(|exit| exit.status), Some(3));
    assert_eq!(exec.exit().map(|exit| exit.status), Some(137));
}

#[tokio::test]
async fn an_end_that_comes_before_its_start_is_kept_for_it() {
    let state = state();
    run_container(&state);
    let op = begin(&state, exec_target());
    take(
        &state,
        Report::Exited {
            pid: EXECUTED,
            status: 7,
        },
    );
    take(&state, Report::Created { op, pid: EXECUTED });
    assert_eq!(statuses(&state).1.exit().map(|exit| exit.status), Some(7));
}

#[tokio::test]
async fn an_end_from_before_an_operation_is_another_processs() {
    let state = state();
    run_container(&state);
    take(
        &state,
        Report::Exited {
            pid: EXECUTED,
            status: 7,
        },
    );
    let op = begin(&state, exec_target());
    take(&state, Report::Created { op, pid: EXECUTED });
    assert_eq!(statuses(&state).1, Status::Running { pid: EXECUTED });
}
