//! Benches: esockets beside the least epoll loop and what people would otherwise pick, interleaved, as a table of ratios.
#![deny(unsafe_code)]

mod bench;
mod child;
mod client;
mod connection;
mod crowd;
mod failure;
mod machine;
mod measure;
mod open_loop;
mod options;
mod report;
mod routes;
mod server;
mod table;

use std::env;
use std::process::ExitCode;

use bench::Bench;
use failure::Result;
use options::{Command, Options};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let done = options::parse(&words).and_then(|command| match command {
        Command::Help => {
            print!("{}", options::USAGE);
            Ok(())
        }
        Command::Serve(name, setting) => server::run(&name, &setting),
        Command::Hold(address, count) => crowd::hold(address, count),
        Command::Measure(options) => measure(options, &words),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: Options, words: &[String]) -> Result<()> {
    let descriptors = bench::raise_descriptor_limit()?;
    let load = machine::load_average();
    let mut bench = Bench::new(options)?;
    for part in bench.options.parts.clone() {
        measure::run(&mut bench, part, descriptors);
    }
    print!("{}", report::markdown(&bench, words, load));
    Ok(())
}
