//! In what two loads differ: whether a difference of their results can be the servers' at all. No clock, no socket.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::protocol::Protocol;
use crate::quantity::{bytes, count, span};
use crate::report::Report;
use crate::target::Target;

/// What is one thing in one of two results, and another in the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// With the option that sets it.
    what: &'static str,
    before: String,
    after: String,
}

impl Difference {
    /// `-c was 20, then 100`.
    pub(crate) fn words(&self) -> String {
        let said = |text: &str| if text.is_empty() { "none".to_owned() } else { text.to_owned() };
        format!("{} was {}, then {}", self.what, said(&self.before), said(&self.after))
    }
}

/// What a setting is in a report, in words.
type Setting = (&'static str, fn(&Report) -> String);

/// What makes the load: with another one the same server has other figures.
const LOAD: [Setting; 11] = [
    ("the kind of loop", |report| report.measured().next().map_or("", |run| run.stage.name()).to_owned()),
    ("the number of connections (-c)", |report| count(report.plan.connections)),
    ("the rate (-R)", |report| {
        let rate = report.measured().find_map(|run| run.stage.arrivals());
        rate.map_or_else(String::new, |(rate, _)| format!("{rate}/s"))
    }),
    ("--arrival", |report| {
        let arrivals = report.measured().find_map(|run| run.stage.arrivals());
        arrivals.map_or_else(String::new, |(_, arrival)| arrival.name().to_owned())
    }),
    ("--close", |report| {
        let churn = report.measured().find_map(|run| run.stage.churn());
        churn.map_or_else(String::new, |churn| churn.close.name().to_owned())
    }),
    ("the protocol", |report| report.plan.protocol.name().to_owned()),
    ("what was sent and expected (--send, --expect)", |report| match report.plan.protocol.texts() {
        [Some(send), Some(expect)] => format!("{send:?} and {expect:?}"),
        _ => String::new(),
    }),
    ("the path that was asked for", |report| paths(report)),
    ("the size of a message (-s)", |report| match report.plan.protocol {
        Protocol::Echo { size } => bytes(size.into()),
        // That of an HTTP request has the host's name in it.
        _ => String::new(),
    }),
    ("the number of requests at once on a connection (--pipeline)", |report| report.plan.pipeline.to_string()),
    ("the way to the server", |report| {
        let ways: BTreeSet<&str> =
            report.plan.targets.iter().map(|it| if it.ip().is_some() { "TCP" } else { "a Unix socket" }).collect();
        ways.into_iter().collect::<Vec<_>>().join(" and ")
    }),
];

/// What may make figures differ a little, and is not the server's.
const CIRCUMSTANCES: [Setting; 6] = [
    ("the number of loadgen's threads", |report| report.plan.threads().to_string()),
    ("the timeout", |report| span(report.plan.timeout.as_nanos() as u64)),
    ("a warm-up", |report| {
        let warmup = report.stages.iter().find(|result| result.is_warmup);
        warmup.map_or_else(String::new, |result| span(result.recorder.window_ns / 100_000_000 * 100_000_000))
    }),
    ("the version of loadgen", |report| report.parts.first().map_or_else(String::new, |part| part.version.clone())),
    ("loadgen's machine", |report| {
        format!("{} cores of {}", report.machine.cores.len(), report.machine.processor.trim())
    }),
    ("the kernel of loadgen's machine", |report| report.machine.kernel.clone()),
];

/// In what the loads of `before` and `after` differ so that nobody can tell whose the difference of their results is.
pub(crate) fn loads(before: &Report, after: &Report) -> Vec<Difference> {
    let mut differences = of(&LOAD, before, after);
    let [mine, theirs] = [before, after].map(|report| report.plan.duration.as_secs_f64());
    if mine.max(theirs) >= mine.min(theirs) * DURATIONS_APART {
        differences.push(duration(before, after));
    }
    differences
}

/// What else is not the same, and to be known.
pub(crate) fn circumstances(before: &Report, after: &Report) -> Vec<Difference> {
    let mut differences = of(&CIRCUMSTANCES, before, after);
    if before.plan.duration != after.plan.duration && !loads(before, after).contains(&duration(before, after)) {
        differences.push(duration(before, after));
    }
    differences
}

fn of(settings: &[Setting], before: &Report, after: &Report) -> Vec<Difference> {
    let both = settings.iter().map(|(what, of)| Difference { what, before: of(before), after: of(after) });
    both.filter(|it| it.before != it.after).collect()
}

fn duration(before: &Report, after: &Report) -> Difference {
    let [before, after] = [before, after].map(|report| span(report.plan.duration.as_nanos() as u64));
    Difference { what: "the duration of a run (-d)", before, after }
}

/// Those of HTTP targets, each once: the hosts may be others, what is asked of them may not.
fn paths(report: &Report) -> String {
    if !matches!(report.plan.protocol, Protocol::Http(_)) {
        return String::new();
    }
    let targets = report.plan.name.split(", ").filter_map(|name| name.parse::<Target>().ok());
    let paths: BTreeSet<String> = targets.filter_map(|target| target.path).collect();
    paths.into_iter().collect::<Vec<_>>().join(", ")
}

/// A run of twice the length has a longer tail: what happens once a minute is in it or not.
const DURATIONS_APART: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use crate::schedule::{Arrival, Rate};
    use crate::stage::Stage;
    use std::time::Duration;

    /// In what two reports differ of which the second is changed: as a load, and otherwise.
    fn told(change: impl FnOnce(&mut Report)) -> [Vec<String>; 2] {
        let (before, mut after) = (report(), report());
        change(&mut after);
        [loads(&before, &after), circumstances(&before, &after)]
            .map(|differences| differences.iter().map(Difference::words).collect())
    }

    #[test]
    fn what_makes_the_load_is_told_from_what_does_not() {
        let nothing = [const { Vec::<String>::new() }; 2];
        assert_eq!(told(|_| ()), nothing);
        assert_eq!(told(|it| (it.plan.name, it.plan.seed) = ("other:1".into(), 9)), nothing, "another server");
        let [loads, others] = told(|it| it.plan.connections = 2000);
        assert_eq!(loads, ["the number of connections (-c) was 10, then 2,000"]);
        assert!(others.is_empty());
        let [loads, _] = told(|it| {
            let rate = Rate::constant(1000.0);
            it.stages[1].stage = Stage::Open { duration: it.plan.duration, rate, arrival: Arrival::Poisson };
        });
        let wanted = [
            "the kind of loop was closed, then open",
            "the rate (-R) was none, then 1,000/s",
            "--arrival was none, then poisson",
        ];
        assert_eq!(loads, wanted);
        assert_eq!(told(|it| it.plan.pipeline = 16)[0].len(), 1);
        assert_eq!(told(|it| it.plan.protocol = Protocol::Echo { size: 65 })[0].len(), 1);
        let unix = crate::address::Address::named("unix:/run/app.sock").unwrap();
        assert_eq!(told(|it| it.plan.targets[0] = unix)[0], ["the way to the server was TCP, then a Unix socket"]);
        assert_eq!(told(|it| it.machine.kernel = "6.2".into())[1].len(), 1);
    }

    #[test]
    fn a_duration_is_the_load_only_where_it_is_another_by_much() {
        let with = |ms| told(|it| it.plan.duration = Duration::from_millis(ms)).map(|told| told.len());
        assert_eq!([with(1000), with(1900), with(2000), with(500)], [[0, 0], [0, 1], [1, 0], [1, 0]]);
    }
}
