//! `loadgen`: opens very many connections and measures latency at scale, against any server.
//!
//! In reading order: `args` `tips` `target` `address` `listen_address` `source_list` `quantity` `moment` what is asked for;
//! `machine` `cgroup` `layout` `plan` `churn` `shard` `routes` `schedule` `preflight` `doctor` what will be run, and
//! whether it fits; `load` `search` `demo` `timetable` `run` `crew` one run, from its first stage to its report (in
//! `search`, `bracket` which rate to try next, `trial` and `found` what that came to); `worker` one thread's loop, with
//! `stage` `places` `pipeline` `connector` `knocks` `gate` `alarm` `accept_queues` `client`; `protocol` `payload`
//! `diagnosis` what is said, and what is wrong with it; `recorder` `times` `timeline` `series` `failure` `errno` `strange`
//! `netstat` `live` `announcer` `progress` `view` `halt` `standstill` `server_process` what happened; `slo` `alike`
//! `verdict` what that is worth; `interval` `shell` `report` `terminal` `closed` `unlike` `compare` `documents` `results` `parts` `merge` what people
//! and programs are told; `echo` `serve` the server, on the library beside this program. `tips`, `cgroup`, `layout`, `churn`,
//! `shard`, `routes`, `schedule`, `places`, `pipeline`, `knocks`, `payload`, `protocol`, `diagnosis`, `recorder`, `slo`,
//! `alike`, `verdict`, `interval`, `shell`, `unlike`, `results`, `parts`, `view`, `report` and all of `search` but its `mod.rs` are
//! pure: no clock, no socket. `unshared` holds the only unsafe code, descriptor tables of one's own, but for an
//! attribute in `closed`.
#![deny(unsafe_code)]

mod accept_queues;
mod address;
mod alarm;
mod alike;
mod announcer;
mod args;
mod cgroup;
mod churn;
mod client;
mod clock;
mod closed;
mod compare;
mod connector;
mod crew;
mod demo;
mod diagnosis;
mod doctor;
mod documents;
mod echo;
mod errno;
mod failure;
mod gate;
mod halt;
mod interval;
mod knocks;
mod layers;
mod layout;
mod listen_address;
mod live;
mod load;
mod machine;
mod merge;
mod moment;
mod netstat;
mod output;
mod parts;
mod payload;
mod pipeline;
mod places;
mod plan;
mod preflight;
mod problem;
mod progress;
mod protocol;
mod quantity;
mod recorder;
mod report;
mod results;
mod routes;
mod run;
mod schedule;
mod search;
mod series;
mod serve;
mod server_process;
mod shard;
mod shell;
mod signals;
mod slo;
mod source_list;
mod stage;
mod standstill;
mod strange;
mod target;
mod terminal;
mod timeline;
mod times;
mod timetable;
mod tips;
mod unlike;
mod unshared;
mod verdict;
mod view;
mod wires;
mod worker;

use std::io::{IsTerminal, Write, stderr};
use std::process::ExitCode;

use clap::Parser;

use crate::announcer::Announcer;
use crate::args::{Aimed, Args, Command, Held, Output};
use crate::problem::Problem;
use crate::report::Exit;
use crate::report::paragraph::paragraph;
use crate::stage::Stage;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => refuse(error),
    };
    let output = args.output().cloned();
    match obey(args) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(problem) => {
            // With nobody there to read it, the exit code still tells, and without delay.
            Announcer::new().say(said(&problem));
            if let (Some(output), false) = (output, matches!(problem, Problem::Output { .. })) {
                output::write_problem(&output, &command_line(), &problem.to_string());
            }
            problem.exit_code()
        }
    }
}

/// What standard error is told of `problem`: on a terminal broken between words, elsewhere as it is.
fn said(problem: &Problem) -> String {
    let text = format!("loadgen: {problem}");
    if !stderr().is_terminal() {
        return text + "\n";
    }
    let columns = terminal::columns(stderr());
    text.lines().map(|line| paragraph("", line, columns).trim_start().to_owned()).collect()
}

/// Says what is wrong with the arguments, or what was asked about them, and ends. Arguments that make no sense may still
/// say that a script waits for JSON.
fn refuse(mut error: clap::Error) -> ! {
    let command = command_line();
    let tip = tips::tip(&error, command.get(1..).unwrap_or_default());
    if tip.is_some() {
        tips::PROPOSALS.into_iter().for_each(|proposal| drop(error.remove(proposal)));
    }
    let wants_json =
        command.windows(2).any(|pair| pair == ["--json", "-"]) || command.iter().any(|it| it == "--json=-");
    if wants_json && error.use_stderr() {
        let output = Output { json: Some("-".into()), ..Output::default() };
        output::write_problem(&output, &command, error.to_string().trim_end());
    }
    if let Some(tip) = tip {
        let _ = stderr().write_all(format!("{tip}\n\n").as_bytes());
    }
    error.exit()
}

/// The arguments, the program's name included. They need not be UTF-8: a file's name, for one.
fn command_line() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// Does what was asked; returns how it went.
fn obey(args: Args) -> Result<Exit, Problem> {
    args.check().map_err(Problem::Usage)?;
    // A server goes on without: its one line is for those who want it.
    if closed::is_stdout_closed() && !matches!(args.command, Some(Command::Serve(_))) {
        return Err(Problem::Machine(CLOSED.to_owned()));
    }
    match args.command {
        None => demo::run(&args.output),
        Some(Command::Serve(serve)) => serve::serve(&serve),
        Some(Command::Rr(Aimed { targets, load })) => {
            load::run(&targets, &load, &[Stage::Closed { duration: load.duration }])
        }
        Some(Command::Open(open)) => load::run(&open.aimed.targets, &open.aimed.load, &[open.stage()]),
        Some(Command::Churn(churn)) => load::run(&churn.aimed.targets, &churn.aimed.load, &[churn.stage()]),
        Some(Command::Search(search)) => search::run(&search),
        Some(Command::Hold(Held { targets, heartbeat, load })) => {
            let hold = Stage::Hold { duration: load.duration, heartbeat };
            load::run(&targets, &load, &[Stage::Verify, hold, Stage::Verify])
        }
        Some(Command::Compare(compare)) => compare::run(&compare),
        Some(Command::Merge(merge)) => merge::run(&merge),
        Some(Command::Doctor(doctor)) => doctor::run(&doctor.held.targets, &doctor.held.load, doctor.churn()),
    }
}

/// Results that nobody can ever see are not worth a load.
const CLOSED: &str = "standard output is closed, so that results would be lost: let it go to a file, or to /dev/null if nobody is to \
                      see them";
