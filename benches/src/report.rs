//! The whole report in Markdown: the table, where and how it was measured, and what must be known to read it.

use crate::bench::Bench;
use crate::machine;
use crate::options::ClientCore;
use crate::table;

const COMMAND: &str = "cargo run --release --manifest-path benches/Cargo.toml";

/// `load` is the machine's load average before the run.
pub(crate) fn markdown(bench: &Bench, words: &[String], load: Option<f64>) -> String {
    let arguments = if words.is_empty() { String::new() } else { format!(" -- {}", words.join(" ")) };
    // Parts that have no rivals write notes, and no table.
    let is_compared = !bench.rows.is_empty();
    let mut lines = Vec::new();
    if is_compared {
        lines.extend([table::markdown(&bench.rows, &bench.contenders), String::new()]);
    }
    lines.push(format!("`{COMMAND}{arguments}`  "));
    lines.push(format!(
        "{}; load average before: {}; {}.",
        machine::describe(bench.cores.len()),
        busy(load),
        versions(bench)
    ));
    lines.push(String::new());
    if is_compared {
        lines.extend(reading(bench).into_iter().map(|sentence| format!("- {sentence}")));
    }
    lines.extend(bench.notes.iter().map(|note| format!("- {note}.")));
    if is_compared {
        lines.push(format!("- {}", losses(bench)));
    }
    lines.join("\n") + "\n"
}

fn busy(load: Option<f64>) -> String {
    load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.1}"))
}

fn versions(bench: &Bench) -> String {
    let mut packages: Vec<&str> = bench.contenders.iter().filter_map(|contender| contender.package).collect();
    packages.dedup();
    let others = packages.iter().map(|package| format!("{package} {}", machine::version(package)));
    let ours = format!("esockets {}", machine::version("esockets"));
    [ours].into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

/// How to read the table.
fn reading(bench: &Bench) -> Vec<String> {
    let place = match bench.options.client_core {
        ClientCore::Same => "the client on the same one, except in the open loop",
        ClientCore::Other => "the client on another one",
    };
    vec![
        "The first column are the least loop's own figures; the others are ratios to it (figures where a unit stands): \
         the median of the rounds, lowest and highest in parentheses. Less is better, but where ↑ stands."
            .to_owned(),
        format!(
            "Rounds: {}, in which all take turns, each time a fresh process; idle at most 3, counts of calls and instructions 1. *Least again* is the same program once \
             more: what differs from 1.00 there is noise, and so is as much elsewhere.",
            bench.options.rounds
        ),
        format!(
            "One thread on one core, {place}; *2 workers* have a second core where neither is. Processor time is the \
             kernel's account (schedstat) of all the server's threads, system calls included."
        ),
        "Each task of tokio, monoio and glommio owns the buffer that it reads into, 4 KiB, more where a message is larger; \
         the other servers read into one."
            .to_owned(),
    ]
}

/// So that nobody has to look for them.
fn losses(bench: &Bench) -> String {
    match table::losses(&bench.rows, &bench.contenders).as_slice() {
        [] => "No other library does better than esockets in any row, beyond the noise.".to_owned(),
        rows => format!(
            "Another library does better than esockets, by more than least again differs from 1.00, in: {}.",
            rows.join("; ")
        ),
    }
}
