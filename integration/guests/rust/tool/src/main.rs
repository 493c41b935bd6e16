//! Proves: a preview 1 module made by rustc's standard library sees the container's arguments, environment,
//! files and streams, and its panic is a trap. One small tool, driven by its arguments; see [`USAGE`].

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

const USAGE: &str = "\
usage: tool COMMAND [ARGUMENT...]; without a command: print one line and exit
  args [ANY...]    print the arguments, one a line, as argv[N]=VALUE
  env              print the environment, one NAME=VALUE a line
  cat FILE         copy FILE to stdout
  write FILE TEXT  make or replace FILE with TEXT and a newline
  stdin            copy stdin to stdout until end of file
  sleep SECONDS    sleep, then print the milliseconds it took
  exit N           exit with code N
  panic TEXT       panic with TEXT";

fn main() -> ExitCode {
    match run(env::args().collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(argv: Vec<String>) -> Result<ExitCode, String> {
    let words: Vec<&str> = argv.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        [] => println!("hello from rust"),
        ["args", ..] => {
            for (at, value) in argv.iter().enumerate() {
                println!("argv[{at}]={value}");
            }
        }
        ["env"] => {
            for (name, value) in env::vars() {
                println!("{name}={value}");
            }
        }
        ["cat", path] => {
            let bytes = fs::read(path).map_err(|error| format!("cat {path}: {error}"))?;
            io::stdout()
                .write_all(&bytes)
                .map_err(|error| format!("cat {path}: stdout: {error}"))?;
        }
        ["write", path, text] => {
            fs::write(path, format!("{text}\n"))
                .map_err(|error| format!("write {path}: {error}"))?;
        }
        ["stdin"] => {
            io::copy(&mut io::stdin(), &mut io::stdout())
                .map_err(|error| format!("stdin: {error}"))?;
        }
        ["sleep", seconds] => {
            let seconds: f64 = seconds
                .parse()
                .map_err(|error| format!("sleep {seconds}: {error}"))?;
            let wanted = Duration::try_from_secs_f64(seconds)
                .map_err(|error| format!("sleep {seconds}: {error}"))?;
            let began = Instant::now();
            thread::sleep(wanted);
            println!("slept {} ms", began.elapsed().as_millis());
        }
        ["exit", code] => {
            let code: u8 = code
                .parse()
                .map_err(|error| format!("exit {code}: {error}"))?;
            return Ok(ExitCode::from(code));
        }
        ["panic", text] => panic!("{text}"),
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}
