//! `samesight-rs`: a bundle's answers, and their proof, without Python.

mod cli;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use samesight::{Error, Result};

const HELP: &str = "usage: samesight-rs COMMAND BUNDLE ...

Runs a Samesight bundle without Python.

  predict   classify photos
  verify    prove that every copy still gives PyTorch's answer, stage by stage
  bench     how long a photo takes here, and how many a second
  prepare   what becomes of photos before the network, as hashes
  logits    tensors on stdin to logits on stdout, for `samesight verify --runner rust`

samesight-rs COMMAND --help tells more. Exit code: 0 yes, 1 checked and no, 2 could not check.";

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let command = words.next().unwrap_or_default().to_string_lossy().into_owned();
    match run(&command, words.collect()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &str, words: Vec<OsString>) -> Result<u8> {
    let help = match command {
        "predict" => cli::predict::HELP,
        "verify" => cli::verify::HELP,
        "bench" => cli::bench::HELP,
        "prepare" => cli::prepare::HELP,
        "logits" => cli::logits::HELP,
        _ => HELP,
    };
    if command == "--version" {
        println!("samesight-rs {}", env!("CARGO_PKG_VERSION"));
        return Ok(0);
    }
    if ["", "--help", "-h", "help"].contains(&command) || words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{help}");
        return Ok(0);
    }
    let words = words.into_iter();
    match command {
        "predict" => cli::predict::run(words),
        "verify" => cli::verify::run(words),
        "bench" => cli::bench::run(words),
        "prepare" => cli::prepare::run(words),
        "logits" => cli::logits::run(words),
        _ => {
            let error = Error::new(samesight::Kind::Input, "there is no such command").found(command);
            Err(error.expected("predict, verify, bench, prepare or logits").fix("samesight-rs --help"))
        }
    }
}
