//! Proves: a `wasi:cli/command` component gets the container's arguments and environment, and its success or
//! failure becomes the exit code. `wasi:cli/run` knows only those two: a host without `exit-with-code` shows
//! any failure as 1.
//!
//! Without arguments it prints one line; `hello-component args [ANY...]`, `env`, `cat FILE`, `sleep SECONDS`,
//! `exit N` and `panic TEXT` do what they say. `tty` tells which of the standard streams are a terminal.

use std::io::IsTerminal;
use std::process::exit;
use std::time::Duration;
use std::{env, fs, io, thread};

fn main() {
    let argv: Vec<String> = env::args().collect();
    let words: Vec<&str> = argv.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        [] => println!("hello from a component"),
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
        ["cat", path] => match fs::read_to_string(path) {
            Ok(text) => print!("{text}"),
            Err(error) => fail(&format!("cat {path}: {error}")),
        },
        ["sleep", seconds] => match seconds.parse().map(Duration::try_from_secs_f64) {
            Ok(Ok(time)) => thread::sleep(time),
            _ => fail(&format!("sleep {seconds}: not a time in seconds")),
        },
        ["exit", code] => match code.parse() {
            Ok(code) => exit(code),
            Err(error) => fail(&format!("exit {code}: {error}")),
        },
        ["tty"] => println!(
            "stdin {} stdout {} stderr {}",
            u8::from(io::stdin().is_terminal()),
            u8::from(io::stdout().is_terminal()),
            u8::from(io::stderr().is_terminal())
        ),
        ["panic", text] => panic!("{text}"),
        _ => fail(&format!(
            "{}: unknown command or wrong number of arguments",
            words.join(" ")
        )),
    }
}

fn fail(reason: &str) -> ! {
    eprintln!("hello-component: {reason}");
    exit(1)
}
