//! `loadgen`: opens very many connections and measures latency at scale, against any server that echoes.
//!
//! In reading order: `args` `target` `quantity` what is asked for; `machine` `plan` `routes` `schedule` `preflight` what
//! will be run, and whether it fits; `load` `demo` `run` `crew` one run, from its first stage to its report; `worker` one
//! thread's loop, with `stage` `connector` `client` `payload`; `recorder` `times` `failure` `live` what happened; `report` what
//! people and programs are told; `echo` the server, on the library beside this program. `routes`, `schedule`, `payload`,
//! `recorder` and `report` are pure: no clock, no socket.
#![forbid(unsafe_code)]

mod args;
mod client;
mod clock;
mod connector;
mod crew;
mod demo;
mod echo;
mod failure;
mod live;
mod load;
mod machine;
mod output;
mod payload;
mod plan;
mod preflight;
mod problem;
mod progress;
mod quantity;
mod recorder;
mod report;
mod routes;
mod run;
mod schedule;
mod signals;
mod stage;
mod target;
mod times;
mod worker;

use std::io::{Write, stderr};
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::problem::Problem;
use crate::stage::Stage;

fn main() -> ExitCode {
    match obey(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            // With nobody there to read it, the exit code still tells.
            let _ = writeln!(stderr(), "loadgen: {problem}");
            problem.exit_code()
        }
    }
}

/// Does what was asked; returns whether all was well.
fn obey(args: Args) -> Result<bool, Problem> {
    match args.command {
        None => demo::run(&args.output),
        Some(Command::Serve(serve)) => echo::serve(&serve),
        Some(Command::Rr(load)) => load::run(&load, &[Stage::Closed { duration: load.duration }]),
        Some(Command::Open(open)) => {
            load::run(&open.load, &[Stage::Open { duration: open.load.duration, rate_per_s: open.rate }])
        }
        Some(Command::Hold(load)) => {
            load::run(&load, &[Stage::Verify, Stage::Hold { duration: load.duration }, Stage::Verify])
        }
    }
}
