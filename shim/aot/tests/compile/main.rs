//! Tests of what only a process of its own can show: the worker, and several processes on one cache.
//!
//! libtest runs tests on threads, and a process with threads must not fork a worker. So this file is its own small
//! runner: every case is a run of this very program with the case's name, alone in its process. Cases need root, as
//! the shim does; what they mount or leave behind goes with their process or their temporary directory.

// A test without libtest's harness is no test to clippy, so clippy.toml's exception does not reach it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod confinement;
mod cost;
mod damage;
mod fixture;
mod mutation;
mod mutations;
mod processes;

use std::process::ExitCode;

use nix::unistd::geteuid;

type Case = (&'static str, fn());

/// Makes a table of functions and their names.
macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => { &[$((stringify!($name), $module::$name)),*] };
}

const CASES: &[Case] = cases![
    cases::a_core_module_is_compiled_once_and_runs,
    cases::text_format_is_compiled_too,
    cases::a_component_is_compiled_and_loaded,
    cases::with_a_known_digest_a_hit_does_not_read_the_source,
    cases::content_that_does_not_match_its_digest_is_refused,
    cases::an_artifact_compiled_elsewhere_is_refused,
    cases::a_malformed_module_is_told_with_its_offset,
    cases::malformed_text_is_told_with_its_line,
    cases::a_large_module_that_is_garbage_fails_fast,
    cases::another_engine_gets_an_entry_of_its_own,
    cases::a_process_with_threads_does_not_fork,
    cases::a_full_disk_is_told_and_leaves_nothing,
    cases::a_collected_entry_can_still_be_used_by_who_has_it_and_is_built_anew,
    cases::the_least_recently_used_entry_is_collected_first,
    confinement::too_much_memory_is_an_error_of_that_module,
    confinement::too_much_cpu_time_is_an_error_of_that_module,
    confinement::too_much_time_is_an_error_of_that_module,
    confinement::too_large_an_artifact_is_an_error_of_that_module,
    confinement::a_worker_has_no_rights_files_or_network,
    confinement::a_killed_caller_takes_its_worker_along_and_the_next_one_succeeds,
    damage::a_flipped_byte_is_detected,
    damage::a_flipped_byte_is_detected_after_a_boot,
    damage::a_truncated_entry_is_detected,
    damage::a_foreign_owner_is_detected,
    damage::an_entry_that_others_may_write_is_detected,
    damage::a_link_or_a_directory_is_not_an_entry,
    damage::an_entry_under_a_wrong_name_is_detected,
    damage::a_good_entry_is_kept_over_a_boot,
    cost::a_few_bytes_far_apart_do_not_become_an_image_of_all_between_them,
    cost::a_sparse_module_costs_neither_memory_nor_time,
    cost::a_large_module_is_not_read_into_the_callers_memory,
    cost::the_cache_stays_within_its_size_and_keeps_what_is_in_use,
    cost::a_component_in_use_is_not_collected,
    cost::a_cache_full_of_what_is_in_use_says_so,
    cost::a_module_that_failed_costs_nothing_the_next_time,
    cost::no_more_compilers_run_than_the_node_allows,
    cost::a_requester_that_hangs_up_ends_its_compilation,
    cost::a_requester_that_hangs_up_while_all_compilers_are_busy_is_not_waited_for,
    cost::a_compilation_that_others_wait_for_goes_on_without_its_requester,
    cost::the_requesters_cgroup_pays_for_the_compiler,
    mutations::a_mutated_artifact_harms_only_the_process_that_loads_it,
    mutations::a_mutated_trailer_is_always_refused,
    mutations::code_is_loaded_in_a_process_without_a_trusted_procfs,
    processes::many_first_starts_compile_once,
    processes::many_first_starts_of_a_bad_module_fail_together,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--case", name] => run_here(name),
        ["--role", role, cache, source] => processes::play(role, cache.as_ref(), source.as_ref()),
        _ => return run_all(&arguments),
    }
    ExitCode::SUCCESS
}

fn run_here(name: &str) {
    let case = CASES
        .iter()
        .find(|case| case.0 == name)
        .expect("the runner names only known cases");
    (case.1)();
}

/// Understands what `cargo test` passes most: filters, and `--list`.
fn run_all(arguments: &[String]) -> ExitCode {
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = CASES
        .iter()
        .filter(|case| filters.is_empty() || filters.iter().any(|text| case.0.contains(*text)));
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.for_each(|case| println!("{}: test", case.0));
        return ExitCode::SUCCESS;
    }
    if !geteuid().is_root() {
        println!("skipped all: they need root, as the shim does");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for case in chosen {
        let output = fixture::this_program(&["--case", case.0])
            .output()
            .expect("run this program");
        if output.status.success() {
            println!("test {} ... ok", case.0);
        } else {
            failed += 1;
            println!("test {} ... FAILED ({})", case.0, output.status);
            println!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    println!(
        "\ntest result: {}. {failed} failed",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    ExitCode::from(u8::from(failed > 0))
}
