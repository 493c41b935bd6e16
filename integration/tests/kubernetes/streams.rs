//! What people do with `kubectl` and a running pod: logs, exec, attach, cp, port-forward.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
};

use crate::harness::{Error, LONG, Namespace, Result, SOON, of_each, of_wasm, run, until, wrong};

/// A `kubectl` that runs beside the test, killed with this value.
struct Beside {
    child: Child,
    lines: Receiver<String>,
}

impl Beside {
    fn start(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(Error::system("cannot run", "kubectl"))?;
        let (sender, lines) = mpsc::channel();
        let Some(output) = child.stdout.take() else {
            return wrong("kubectl has no output");
        };
        // Until kubectl ends, or the test.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                if sender.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line, if one comes.
    fn line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(LONG) {
            Ok(line) => Ok(line),
            Err(_) => wrong("kubectl prints no further line"),
        }
    }

    /// Types something; `None` is the end of the input.
    fn input(&mut self, text: Option<&str>) -> Result<()> {
        let Some(text) = text else {
            self.child.stdin.take();
            return Ok(());
        };
        match self.child.stdin.as_mut() {
            Some(pipe) => pipe
                .write_all(text.as_bytes())
                .map_err(Error::system("cannot write", "kubectl's input")),
            None => wrong("kubectl's input is closed"),
        }
    }

    /// Its exit code, once its output has ended.
    fn end(mut self) -> Result<i32> {
        loop {
            match self.lines.recv_timeout(LONG) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return wrong("kubectl does not end"),
            }
        }
        let status = self.child.wait().map_err(Error::system("cannot wait for", "kubectl"))?;
        Ok(status.code().unwrap_or(-1))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `kubectl` on a terminal of its own, as a person has one.
fn on_a_terminal(ns: &Namespace, args: &[&str]) -> Command {
    let command = ns.command(args);
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let quoted: Vec<String> = words
        .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
        .collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"]);
    script
        .env("KUBECONFIG", ns.cluster.value("KUBECONFIG"))
        .env("TERM", "dumb");
    script
}

fn waiting(ns: &Namespace) -> Result<()> {
    ns.apply("waiting")?;
    ns.ready("waiting")
}

of_each! {
    fn logs_are_followed_and_those_of_the_run_before_are_kept(ns) {
        ns.apply("talker")?;
        let started = || Ok(ns.kubectl(&["logs", "talker"])?.stdout.contains("first").then_some(()));
        until("the first line", LONG, started)?;
        let mut follower = Beside::start(ns.command(&["logs", "talker", "--follow"]))?;
        let lines = [follower.line()?, follower.line()?, follower.line()?];
        assert!(lines.iter().all(|line| ["first", "second", "third"].contains(&line.as_str())), "{lines:?}");
        assert_eq!(follower.end()?, 0);
        until("the log of the run before", LONG, || {
            let log = ns.kubectl(&["logs", "talker", "--previous"])?.stdout;
            Ok(["first", "second", "third"].iter().all(|line| log.contains(line)).then_some(()))
        })?;
        // The log of a run is there when it has ended; it is the one before when the next has begun.
        until("the end of the run before", LONG, || {
            let status = ns.status("talker", "main")?;
            Ok((status["lastState"]["terminated"]["exitCode"] == 4).then_some(()))
        })?;
        until("a line with its time", LONG, || {
            let stamped = ns.kubectl(&["logs", "talker", "--timestamps", "--tail=1"])?.stdout;
            Ok((stamped.starts_with("20") && stamped.contains('T')).then_some(()))
        })
    }

    fn a_command_is_executed_in_a_container_with_its_output_and_code(ns) {
        waiting(ns)?;
        let program = ns.subject.program();
        let answer = ns.exec("waiting", &[program, "print", "out", "+", "stderr", "trouble", "+", "exit", "5"])?;
        assert_eq!((answer.stdout.as_str(), answer.code), ("out\n", 5), "{answer}");
        assert!(answer.stderr.contains("trouble"), "{answer}");
        let environment = ns.exec("waiting", &[program, "env"])?.success()?;
        assert!(environment.lines().any(|line| line == "GREETING=hello"), "{environment}");
        let stdin = ["exec", "--stdin", "waiting", "--", program, "stdin"];
        assert_eq!(run(&mut ns.command(&stdin), Some(b"passed on"))?.success()?, "passed on");
        let nothing = ns.exec("waiting", &["nothing"])?;
        assert!(nothing.code != 0 && nothing.stderr.contains("executable file not found"), "{nothing}");
        Ok(())
    }

    fn a_terminal_is_passed_on_to_what_is_executed(ns) {
        waiting(ns)?;
        let program = ns.subject.program();
        let terminal = |command: &[&str]| {
            let exec = ["exec", "--stdin", "--tty", "waiting", "--container=main", "--", program];
            Beside::start(on_a_terminal(ns, &[&exec, command].concat()))
        };
        let mut typing = terminal(&["tty", "+", "stdin"])?;
        assert_eq!(typing.line()?, "stdin 1 stdout 1 stderr 1");
        typing.input(Some("typed\n"))?;
        // Once by the terminal's echo, once by the program.
        assert_eq!([typing.line()?, typing.line()?], ["typed", "typed"]);
        typing.input(Some("\u{4}"))?;
        assert_eq!(typing.end()?, 0);
        let mut interrupted = terminal(&["tty", "+", "spin"])?;
        interrupted.line()?;
        interrupted.input(Some("\u{3}"))?;
        assert_eq!(interrupted.end()?, 130);
        Ok(())
    }

    fn a_terminal_is_attached_to(ns) {
        ns.apply_with("listener", &[("TTY", "true")])?;
        ns.ready("listener")?;
        let mut terminal = Beside::start(on_a_terminal(ns, &["attach", "--stdin", "--tty", "listener"]))?;
        // What is typed before kubectl listens is lost.
        until("the answer", SOON, || {
            terminal.input(Some("typed\n"))?;
            Ok(ns.logs(&["listener"])?.contains("typed\ntyped").then_some(()))
        })?;
        terminal.input(Some("\u{4}"))?;
        terminal.end()?;
        assert_eq!(ns.ended("listener")?, "Succeeded");
        let log = ns.logs(&["listener"])?;
        assert!(log.contains("stdin 1 stdout 1 stderr 1"), "{log}");
        Ok(())
    }

    fn a_program_reads_what_is_piped_to_it(ns) {
        ns.apply_with("listener", &[("TTY", "false")])?;
        ns.ready("listener")?;
        let mut attached = Beside::start(ns.command(&["attach", "--stdin", "listener"]))?;
        attached.input(Some("piped\n"))?;
        // What is answered before kubectl listens is in the log alone.
        ns.logged(&["listener"], "piped\n")?;
        attached.input(Some("again\n"))?;
        while attached.line()? != "again" {}
        attached.input(None)?;
        assert_eq!(attached.end()?, 0);
        assert_eq!(ns.ended("listener")?, "Succeeded");
        assert_eq!(ns.logs(&["listener"])?, "stdin 0 stdout 0 stderr 0\npiped\nagain\n");
        Ok(())
    }

    fn files_are_copied_in_and_out_beside_it(ns) {
        waiting(ns)?;
        let dir = tempfile::tempdir().map_err(Error::system("cannot make", "a directory"))?;
        let (there, back) = (dir.path().join("there"), dir.path().join("back"));
        std::fs::write(&there, "carried\n").map_err(Error::system("cannot write", &there))?;
        ns.ok(&["cp", &there.to_string_lossy(), "waiting:/shared/file", "--container=shell"])?;
        // `cp` needs a `tar` in the container, which an image of one program has not; its volumes are the pod's.
        let read = ["exec", "waiting", "--container=reader", "--", ns.subject.program(), "cat", "/shared/file"];
        assert_eq!(ns.ok(&read)?, "carried\n");
        ns.ok(&["cp", "waiting:/shared/file", &back.to_string_lossy(), "--container=shell"])?;
        assert_eq!(std::fs::read_to_string(&back).map_err(Error::system("cannot read", &back))?, "carried\n");
        Ok(())
    }
}

of_wasm! {
    fn a_port_is_forwarded_to_a_server(ns) {
        ns.apply_with("language-http", &[("GUEST", "http-hello")])?;
        ns.ready("server")?;
        let mut forward = Beside::start(ns.command(&["port-forward", "pod/server", ":8080"]))?;
        let line = forward.line()?;
        let port = line.split_whitespace().nth(2).and_then(|address| address.rsplit(':').next()?.parse::<u16>().ok());
        let Some(port) = port else { return wrong(format!("port-forward says {line:?}")) };
        for _ in 0..3 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(Error::system("cannot reach", "the port"))?;
            let request = b"GET / HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n";
            stream.write_all(request).map_err(Error::system("cannot write to", "the port"))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map_err(Error::system("cannot read from", "the port"))?;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello from tandem"), "{answer}");
        }
        Ok(())
    }
}
