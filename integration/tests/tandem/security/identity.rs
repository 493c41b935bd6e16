//! Who a container's process is: user, groups, umask, capabilities, privileges, limits, system calls.

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use tandem_integration::{Result, on_both_generations};

use super::{Both, Running, Seen};

const NONE: &str = "0000000000000000";
/// `CAP_NET_BIND_SERVICE` alone.
const BIND: &str = "0000000000000400";

on_both_generations! {
    async fn a_user_has_the_groups_of_the_spec_and_no_other(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        both.each(|b| b.user(1000, 2000).groups(&[3000, 4000]), |seen| {
            let status = seen.status();
            assert_eq!(status["Uid"], "1000\t1000\t1000\t1000");
            assert_eq!(status["Gid"], "2000\t2000\t2000\t2000");
            assert_eq!(status["Groups"], "3000 4000");
        }).await?;
        both.each(|b| b.user(1000, 2000), |seen| assert_eq!(seen.status()["Groups"], "")).await?;
        both.stop().await
    }

    async fn files_are_made_with_the_umask_of_the_spec_or_022(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let volume = tempfile::tempdir().unwrap();
        for (umask, mode) in [(None, 0o644), (Some(0o077), 0o600), (Some(0o002), 0o664)] {
            for (n, builder) in both.writing("/v/file").into_iter().enumerate() {
                let output = builder.bind(volume.path(), "/v", true).edit(|spec| {
                    if let Some(umask) = umask {
                        spec["process"]["user"]["umask"] = umask.into();
                    }
                }).run_to_end().await?;
                assert_eq!(output.code, 0, "{}", output.stderr);
                let file = volume.path().join("file");
                assert_eq!(file.metadata().unwrap().mode() & 0o777, mode, "{umask:?}, kind {n}");
                std::fs::remove_file(file).unwrap();
            }
        }
        both.stop().await
    }

    async fn dropped_capabilities_are_gone_however_the_spec_says_it(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        // As Kubernetes' `drop: [ALL]` arrives, empty lists left out; then written out; then not said at all.
        for capabilities in [json!({}), json!({ "bounding": [], "effective": [], "permitted": [] }), json!(null)] {
            both.each(|b| b.edit(|spec| spec["process"]["capabilities"] = capabilities.clone()), |seen| {
                let status = seen.status();
                for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                    assert_eq!(status[set], NONE, "{set} with {capabilities}");
                }
            }).await?;
        }
        both.stop().await
    }

    async fn an_exec_has_no_capability_that_its_container_has_not(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let tools = tempfile::tempdir().unwrap();
        std::fs::copy(tandem_integration::guests::path("echo.wasm")?, tools.path().join("echo.wasm")).unwrap();
        let [_, linux] = both.waiting();
        for capabilities in [json!({}), json!(null)] {
            let running = Running::start(linux.clone().id(both.ctd.session().home().unique("c")).bind(tools.path(), "/tools", false)
                .edit(|spec| spec["process"]["capabilities"] = capabilities.clone())).await?;
            let waiting = [["/tools/echo.wasm", "print", "up", "+", "sleep", "1000"].as_slice(), &["sh", "-c", "echo up; exec sleep 1000"]];
            for args in waiting {
                let exec = running.task.exec(args.iter().copied()).add().await?;
                let seen = Seen { pid: exec.start().await? };
                exec.stdout().wait_for("up").await?;
                let status = seen.status();
                for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                    assert_eq!(status[set], NONE, "{args:?} {capabilities}: {set}");
                }
            }
            running.end().await?;
        }
        both.stop().await
    }

    async fn ambient_capabilities_stay_with_a_user_and_others_do_not(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let sets = |ambient: bool| {
            let name = json!(["CAP_NET_BIND_SERVICE"]);
            let mut sets = json!({ "bounding": name, "effective": name, "permitted": name });
            if ambient {
                sets["inheritable"] = name.clone();
                sets["ambient"] = name;
            }
            sets
        };
        for (uid, ambient, effective, held) in [(1000, true, BIND, BIND), (1000, false, NONE, NONE), (0, false, BIND, NONE)] {
            both.each(|b| b.user(uid, 0).edit(|spec| spec["process"]["capabilities"] = sets(ambient)), |seen| {
                let status = seen.status();
                assert_eq!(status["CapBnd"], BIND);
                assert_eq!(status["CapEff"], effective, "uid {uid}, ambient {ambient}");
                assert_eq!(status["CapPrm"], effective, "uid {uid}, ambient {ambient}");
                assert_eq!(status["CapAmb"], held);
            }).await?;
        }
        both.stop().await
    }

    async fn no_new_privileges_is_as_the_spec_says(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for (said, seen_as) in [(json!(true), "1"), (json!(false), "0"), (json!(null), "0")] {
            // With seccomp and as a user, who may set it without the bit only before privileges are dropped.
            let configure = |b: tandem_integration::ContainerBuilder| {
                b.seccomp().user(1000, 1000).edit(|spec| spec["process"]["noNewPrivileges"] = said.clone())
            };
            both.each(configure, |seen| {
                let status = seen.status();
                assert_eq!(status["NoNewPrivs"], seen_as, "{said}");
                assert_eq!(status["Seccomp"], "2", "{said}");
            }).await?;
        }
        both.stop().await
    }

    async fn a_denied_system_call_fails_in_the_guest_and_nothing_else_does(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let [wasm, linux] = both.waiting();
        let deny = |call: &'static str| move |spec: &mut serde_json::Value| {
            spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
            });
        };
        for (denied, listed) in [("swapon", true), ("getdents64", false)] {
            for (n, builder) in [
                wasm.clone().args(["/echo.wasm", "print", "before", "+", "ls", "/"]),
                linux.clone().args(["sh", "-c", "echo before; ls /"]),
            ].into_iter().enumerate() {
                let output = builder.edit(deny(denied)).run_to_end().await?;
                assert!(output.stdout.starts_with("before\n"), "{}", output.stderr);
                assert_eq!(output.stdout.contains("proc"), listed, "{denied}, kind {n}: {}", output.stdout);
            }
        }
        both.stop().await
    }

    async fn resource_limits_hold(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let configure = |b: tandem_integration::ContainerBuilder| {
            b.rlimit("RLIMIT_CORE", 0, 0).rlimit("RLIMIT_FSIZE", 1 << 20, 1 << 21).rlimit("RLIMIT_NPROC", 100, 200)
        };
        both.each(configure, |seen| {
            let limits = seen.proc("limits");
            for (name, soft, hard) in [
                ("Max core file size", "0", "0"),
                ("Max file size", "1048576", "2097152"),
                ("Max processes", "100", "200"),
            ] {
                let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
                let values: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
                assert_eq!(values, [soft, hard], "{name}");
            }
        }).await?;
        both.stop().await
    }

    async fn a_guest_has_nothing_of_the_shim_open(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        both.each(|b| b, |seen| {
            for entry in std::fs::read_dir(format!("/proc/{}/fd", seen.pid)).unwrap().flatten() {
                let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
                let target = std::fs::read_link(entry.path()).unwrap_or_default();
                let target = target.to_string_lossy().into_owned();
                let of_guest = target.ends_with(".cwasm") || target.starts_with("/memfd:")
                    || target.starts_with("anon_inode:") || target.starts_with("socket:") || target == "/" || target == "/dev/urandom"
                    || target.starts_with("pipe:");
                assert!(number < 3 || of_guest, "descriptor {number} is {target}");
                if target.ends_with(".cwasm") {
                    // Not even root may write through it: it is the code of all containers of this module.
                    let refused = std::fs::OpenOptions::new().write(true).open(entry.path()).unwrap_err();
                    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
                }
            }
        }).await?;
        both.stop().await
    }

    async fn host_and_domain_name_are_the_containers_own(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let configure = |b: tandem_integration::ContainerBuilder| b.edit(|spec| {
            spec["hostname"] = "a-pod".into();
            spec["domainname"] = "example.test".into();
        });
        both.each(configure, |seen| {
            for (path, name) in [("/proc/sys/kernel/hostname", "a-pod\n"), ("/proc/sys/kernel/domainname", "example.test\n")] {
                assert_eq!(seen.parameter(&["-u"], path), name);
            }
        }).await?;
        both.stop().await
    }
}
