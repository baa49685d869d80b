//! Whether a run's figures are what they seem, and if not, why: judged from what was recorded, no clock, no socket.

use std::time::Duration;

use crate::alike::{folded, list};
use crate::failure::{Act, Kind};
use crate::gate::RETRANSMIT_NS;
use crate::parts::doubts;
use crate::quantity::{count, rate_text, span};
use crate::recorder::{Recorder, total};
use crate::report::percentiles::Percentiles;
use crate::report::{Ending, Report, StageResult};
use crate::stage::Stage;

/// What can be said of the figures of a run that was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing speaks against them.
    Valid,
    /// They are not, or not only, the server's: the reasons, each a sentence.
    Suspect(Vec<String>),
    /// There is nothing to judge: nothing was measured or held, or not to the end, or for less than two seconds, in which chance
    /// decides; or the run failed.
    None,
}

impl Verdict {
    /// That on `report`.
    pub(crate) fn of(report: &Report) -> Verdict {
        if !report.parts.is_empty() {
            return Verdict::of_parts(report);
        }
        let judged: Vec<&StageResult> = report.weighed().filter(|result| is_judged(result)).collect();
        // Connections that are held are asked before and after it.
        let is_answered = |result: &&StageResult| !result.is_measured() || result.recorder.answered > 0;
        if report.ending != Ending::Complete || !judged.iter().any(is_answered) {
            return Verdict::None;
        }
        let mut reasons = match judged.as_slice() {
            [only] => reasons(only),
            many => of_runs(many),
        };
        reasons.extend(few_samples(report, &judged));
        reasons.extend(syn_retransmits(report));
        match reasons.is_empty() {
            // Of a run that failed nobody is to read that it is valid.
            true if report.is_failed() => Verdict::None,
            true => Verdict::Valid,
            false => Verdict::Suspect(reasons),
        }
    }

    /// That on a sum: what its parts are to each other, and what was said of each. Who looks at the sum alone sees less.
    fn of_parts(report: &Report) -> Verdict {
        let mut reasons = doubts(&report.parts);
        let judged: Vec<&StageResult> = report.weighed().collect();
        let is_judged = !judged.is_empty() && judged.iter().all(|result| is_judged(result));
        // What each had too few of there may be enough of together.
        reasons.retain(|reason| !reason.contains(FEW));
        if is_judged {
            reasons.extend(few_samples(report, &judged));
        }
        match reasons.is_empty() {
            false => Verdict::Suspect(reasons),
            true if is_judged && !report.is_failed() => Verdict::Valid,
            true => Verdict::None,
        }
    }

    /// Its name in results.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Suspect(_) => "suspect",
            Verdict::None => "none",
        }
    }

    /// Why it is suspect.
    pub(crate) fn reasons(&self) -> &[String] {
        if let Verdict::Suspect(reasons) = self { reasons } else { &[] }
    }
}

/// Whoever has several runs is to know in which; what is the same in several is said once.
fn of_runs(measured: &[&StageResult]) -> Vec<String> {
    let named = |(run, result): (usize, &&StageResult)| {
        reasons(result).into_iter().map(move |reason| ((run + 1).to_string(), reason)).collect::<Vec<_>>()
    };
    let listed = |runs: &[String]| match runs {
        [only] => format!("run {only}"),
        all if all.len() == measured.len() => format!("all {} runs", measured.len()),
        some => format!("runs {}", list(some)),
    };
    folded(measured.iter().enumerate().flat_map(named).collect(), listed)
}

fn is_judged(result: &StageResult) -> bool {
    result.recorder.window_ns >= JUDGED_MIN.as_nanos() as u64
}

/// Why the figures of one stage are suspect; none where nothing speaks against them.
pub(crate) fn reasons(result: &StageResult) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some((rate, _)) = result.stage.arrivals() {
        reasons.extend(rate_not_achieved(result, rate.mean_per_s()));
    }
    if result.stage.arrivals().is_some() || matches!(result.stage, Stage::Hold { .. }) {
        reasons.extend(sent_late(result));
    }
    reasons.extend(busy(result));
    reasons.extend(waited(result));
    reasons.extend(unsteady(result));
    reasons.extend(stood_still(result));
    reasons
}

/// Those of them for which not the server, but the generator is the reason; without a lag that is not felt.
pub(crate) fn reasons_of_generator(result: &StageResult, is_lag_felt: bool) -> Vec<String> {
    let recorder = &result.recorder;
    // Where so many had to wait for a connection, it was not the generator that sent them late.
    let lag = Some(result).filter(|_| !is_starved(recorder) && is_lag_felt).and_then(sent_late);
    [busy(result), waited(result), stood_still(result), lag].into_iter().flatten().collect()
}

/// The same in a few words each, for a table; that it was late is said if there is nothing else.
pub(crate) fn generator_in_short(result: &StageResult) -> String {
    let recorder = &result.recorder;
    let facts = [
        busy(result).map(|_| format!("busy {:.0} %", recorder.busy_part * 100.0)),
        waited(result).map(|_| format!("without processor {:.0} %", recorder.waited_part * 100.0)),
        stood_still(result).map(|_| format!("stood still {}", span(recorder.standstill_ns))),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    if facts.is_empty() { "sent late".to_owned() } else { facts.join(", ") }
}

/// All may have been answered in the end: but if not in the window, then late, and later from second to second. Held
/// against what was really due: chance may have made that more or less than the rate says.
pub(crate) fn rate_not_achieved(result: &StageResult, rate_per_s: f64) -> Option<String> {
    let recorder = &result.recorder;
    // As many as are being served when the window ends are not missing, by Little's law; what failed is told elsewhere.
    let under_way = recorder.service.mean() / 1e9 * rate_per_s + UNDER_WAY;
    let ended = (recorder.answered_in_window + total(&recorder.request_failures)) as f64;
    let is_short = ended + under_way < recorder.due as f64 * ACHIEVED_MIN;
    is_short.then(|| {
        format!(
            "achieved {}/s of {}/s: the latencies are those of an overloaded server or generator",
            rate_text(recorder.answered_per_s()),
            rate_text(rate_per_s)
        )
    })
}

/// A lag counts where it shows: where a percentile of the latency is that much above the same one of the service time, and
/// the lag is what it is above by.
fn sent_late(result: &StageResult) -> Option<String> {
    let recorder = &result.recorder;
    let [latency, service, lag] = [&recorder.latency, &recorder.service, &recorder.lag].map(Percentiles::of);
    let above = |latency: Option<u64>, service: Option<u64>, part: u64| {
        let (latency, service) = latency.zip(service)?;
        Some(latency.saturating_sub(service)).filter(|above| *above > latency / part)
    };
    // A tenth is enough to be seen in the first digit; of the rarest ones, half. Heartbeats are not spun for, so that each is
    // a little late.
    let is_spun = !matches!(result.stage, Stage::Hold { .. });
    let tenth = above(latency.p90_ns, service.p90_ns, 10).filter(|_| is_spun);
    let hundredth = above(latency.p99_ns, service.p99_ns, 2);
    let (one_in, lag_ns) = match (tenth, hundredth) {
        (Some(above), _) if lag.p90_ns? >= above / 2 => ("ten", lag.p90_ns?),
        (None, None) => return None,
        _ => ("a hundred", lag.p99_ns.or(lag.p90_ns)?),
    };
    let sent = if result.stage.churn().is_some() { "connection in {} was begun" } else { "request in {} was sent" };
    // Who has no processor reads replies late, too, and its connections look busy.
    let has_processor = waited(result).is_none() && stood_still(result).is_none();
    let why = match is_starved(recorder) && has_processor {
        true => waited_for_server(result),
        false => "loadgen had too little processor time (try --threads, or another machine)".to_owned(),
    };
    Some(format!("one {} {} or more after it was due: {why}", sent.replace("{}", one_in), span(lag_ns)))
}

/// Whether so many had to wait for a connection, or for a place, that it was not the generator that sent them late.
fn is_starved(recorder: &Recorder) -> bool {
    recorder.starved > 0 && recorder.starved as f64 >= recorder.due as f64 * STARVED_MAX
}

/// For what the server kept all connections, or all places of those that come and go, so long that there was none for the
/// next.
fn waited_for_server(result: &StageResult) -> String {
    if result.stage.churn().is_none() {
        return "all connections were busy, waiting for the server (try more: -c)".to_owned();
    }
    let recorder = &result.recorder;
    let timed_out = |is_it: fn(Act) -> bool| {
        let failures = recorder.request_failures.iter().filter(|(failure, _)| failure.kind == Kind::TimedOut);
        failures.filter(|(failure, _)| is_it(failure.act)).map(|(_, number)| *number).sum::<u64>()
    };
    // Those that waited in vain waited for longest.
    let connecting = (timed_out(|act| act == Act::Connect), recorder.connect.mean());
    let is_connecting = connecting > (timed_out(|act| act != Act::Connect), recorder.exchange.mean());
    let what = if is_connecting { "to take the connection" } else { "to reply" };
    format!("all places were taken by connections that waited for the server {what} (more places, -c, let more wait)")
}

fn busy(result: &StageResult) -> Option<String> {
    let busy = result.recorder.busy_part;
    (busy > BUSY_MAX).then(|| {
        format!(
            "a generating thread was busy for {:.0} % of the time: it may be loadgen that was measured (try more --threads, \
             fewer connections, or another machine)",
            busy * 100.0
        )
    })
}

fn waited(result: &StageResult) -> Option<String> {
    let recorder = &result.recorder;
    let advice = "(stop what else runs here, or use another machine)";
    if recorder.waited_part > WAITED_MAX {
        let waited = recorder.waited_part * 100.0;
        return Some(format!(
            "a generating thread was ready to run, but had no processor, for {waited:.0} % of the time: what it did not do \
             meanwhile is in the figures {advice}"
        ));
    }
    // Little in all can be much for each, where requests are few. In a closed loop those who share a core take turns.
    let is_timed = result.stage.arrivals().is_some() || matches!(result.stage, Stage::Hold { .. });
    let (waited_ns, latency_ns) = (recorder.waited_time.as_nanos() as f64, recorder.latency.mean());
    let of_each_ns = waited_ns / (recorder.answered.max(1) as f64);
    let is_felt = is_timed && recorder.answered > 0 && of_each_ns > latency_ns * WAITED_OF_LATENCY_MAX;
    is_felt.then(|| {
        format!(
            "generating threads were ready to run, but had no processor, for {} in all, {} for each answer, whose latency is {} in \
             the mean: much of that is not the server's {advice}",
            span(recorder.waited_time.as_nanos() as u64),
            span(of_each_ns as u64),
            span(latency_ns as u64)
        )
    })
}

/// Answers in the first third of the window against those in the last, beyond what chance makes of such numbers.
fn unsteady(result: &StageResult) -> Option<String> {
    let [first, _, last] = result.recorder.thirds.map(|answers| answers as f64);
    if let Some((rate, _)) = result.stage.arrivals()
        && rate.from_per_s != rate.to_per_s
    {
        return None;
    }
    let allowed = STEADY_PART.max(CHANCE_DEVIATIONS * (2.0 / first.max(last).max(1.0)).sqrt());
    let difference = (last - first) / first.max(1.0);
    let (more, part) = (if difference > 0.0 { "more" } else { "fewer" }, difference.abs());
    (part > allowed).then(|| {
        format!(
            "not steady: {} answers in the first third, {} in the last, {:.0} % {more} (try a longer -d)",
            count(first as u64),
            count(last as u64),
            part * 100.0
        )
    })
}

fn stood_still(result: &StageResult) -> Option<String> {
    let standstill_ns = result.recorder.standstill_ns;
    // Connections that are held in silence have no latencies.
    let is_silent = matches!(result.stage, Stage::Hold { heartbeat: None, .. });
    (standstill_ns > 0 && !is_silent).then(|| {
        format!(
            "the generator stood still for {}: it was stopped, or had no processor; the latencies contain that, and it is not \
             the server's",
            span(standstill_ns)
        )
    })
}

/// Who measures wants to know more than the median; who has asked for something by `--slo` wants to know that.
fn few_samples(report: &Report, judged: &[&StageResult]) -> Option<String> {
    let measured = judged.iter().filter(|result| result.is_measured() && result.recorder.answered > 0);
    let latencies: Vec<Percentiles> = measured.map(|result| Percentiles::of(&result.recorder.latency)).collect();
    let samples = latencies.iter().map(|it| it.samples).max()?;
    let (wanted, samples_min) = match &report.slo {
        None if latencies.iter().any(|it| it.p90_ns.is_some()) => return None,
        None => ("to tell more than the median".to_owned(), 100),
        Some(slo) => {
            let unknown = report.slo_outcomes().into_iter().rfind(|outcome| outcome.measured.is_none())?;
            (format!("for {}", unknown.condition), slo.samples_min().ceil() as u64)
        }
    };
    let what_takes = if report.slo.is_some() { "that" } else { "a p90" };
    let (each, rate) =
        (if latencies.len() > 1 { " a run, at most" } else { "" }, report.measured().last()?.stage.arrivals());
    let more = if rate.is_some() { "a longer -d, or a higher -R" } else { "a longer -d" };
    let (samples, samples_min) = (count(samples), count(samples_min));
    Some(format!("{FEW} {wanted}: {samples}{each}, and {what_takes} takes {samples_min} (try {more})"))
}

fn syn_retransmits(report: &Report) -> Option<String> {
    let sent: u64 = report.stages.iter().map(|result| result.netstat.syn_retransmits).sum();
    // The kernel counts those of all programs: whose connects were all quick sent none again.
    let is_own = report.stages.iter().any(|result| {
        let recorder = &result.recorder;
        let connects = match result.stage {
            Stage::Connect => recorder.latency.max(),
            _ => recorder.connect.max().max(recorder.reconnect.max()),
        };
        let mut failures = recorder.connect_failures.keys().chain(recorder.request_failures.keys());
        failures.any(|failure| failure.act == Act::Connect && failure.kind == Kind::TimedOut)
            || connects >= RETRANSMIT_NS
    });
    (sent > 0 && is_own).then(|| {
        format!(
            "{} SYNs were sent again (all programs here): connects waited for a queue that was full, or for a lossy network",
            count(sent)
        )
    })
}

/// How the sentence begins that there are too few, in results, too.
const FEW: &str = "too few samples";

/// In less time chance, and the beginning, decide.
pub(crate) const JUDGED_MIN: Duration = Duration::from_secs(2);

/// Less than this part of what was due, answered in the window, is a rate that was not achieved.
const ACHIEVED_MIN: f64 = 0.99;

/// Beyond this part of the requests that waited for a connection they are the reason for a lag: it takes one in a hundred.
const STARVED_MAX: f64 = 0.005;

/// Requests under way at the window's end that say nothing.
const UNDER_WAY: f64 = 10.0;

/// Beyond this part of its time a thread has no reserve, and its queue becomes part of the latency.
const BUSY_MAX: f64 = 0.8;

/// Beyond this part of its time a thread that waits for a processor is what is measured. Taking turns with a server on the
/// same core stays below.
const WAITED_MAX: f64 = 0.2;

/// Beyond this part of the mean latency it is felt in it. Alone on its cores a thread waits for a hundredth of it.
const WAITED_OF_LATENCY_MAX: f64 = 0.25;

/// A difference between the first and the last third that a person would not call one.
const STEADY_PART: f64 = 0.1;

/// Standard deviations that chance hardly ever exceeds.
const CHANCE_DEVIATIONS: f64 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::churn::Churn;
    use crate::report::tests::report;
    use crate::schedule::{Arrival, Rate};
    use crate::times::Times;

    /// A stage of 3 s in which 1,000 requests took 1 to 1,000 us.
    fn long(is_open: bool) -> Report {
        let mut report = report();
        let result = &mut report.stages[1];
        (result.recorder.window_ns, result.recorder.thirds) = (3_000_000_000, [330, 340, 330]);
        if is_open {
            let (duration, rate) = (Duration::from_secs(3), Rate::constant(1000.0 / 3.0));
            result.stage = Stage::Open { duration, rate, arrival: Arrival::Constant };
        }
        report
    }

    fn reason(change: impl FnOnce(&mut Report), is_open: bool) -> String {
        let mut report = long(is_open);
        change(&mut report);
        match Verdict::of(&report) {
            Verdict::Suspect(reasons) => reasons.join("; "),
            verdict => verdict.name().to_owned(),
        }
    }

    #[test]
    fn a_good_run_is_valid_and_a_short_or_broken_one_is_not_judged() {
        assert_eq!([reason(|_| (), false), reason(|_| (), true)], ["valid", "valid"]);
        assert_eq!(reason(|report| report.stages[1].recorder.window_ns = 1_900_000_000, true), "none");
        assert_eq!(reason(|report| report.ending = Ending::AllLost, true), "none", "the errors say why");
    }

    #[test]
    fn a_rate_that_was_answered_late_was_not_achieved() {
        let late = reason(|report| report.stages[1].recorder.answered_in_window = 979, true);
        assert!(late.starts_with("achieved 326/s of 333/s"), "{late}");
        assert_eq!(reason(|report| report.stages[1].recorder.answered_in_window = 980, true), "valid", "10 under way");
        assert_eq!(
            reason(|report| report.stages[1].recorder.answered_in_window = 1, false),
            "valid",
            "no rate was asked for"
        );
    }

    #[test]
    fn a_generator_that_is_late_busy_or_still_says_so() {
        // Of the latencies, which are 1 to 1,000 us, so much was lag.
        let lag = |report: &mut Report, of: fn(u64) -> u64| {
            let recorder = &mut report.stages[1].recorder;
            (1..=1000).for_each(|us| recorder.service.record(us * 1000 - of(us).min(us * 1000)));
            (1..=1000).for_each(|us| recorder.lag.record(of(us)));
        };
        assert_eq!(reason(|report| lag(report, |_| 85_000), true), "valid", "a tenth of the 90th percentile is 90 us");
        let late = reason(|report| lag(report, |_| 95_000), true);
        assert!(late.contains("one request in ten was sent 95.0 us or more"), "{late}");
        let bursts = |report: &mut Report| {
            let recorder = &mut report.stages[1].recorder;
            recorder.latency = Times::new(u64::MAX >> 1);
            [(10_000, 980), (1_000_000, 20)].into_iter().for_each(|(ns, number)| recorder.latency.record_n(ns, number));
            [(100, 980), (990_000, 20)].into_iter().for_each(|(ns, number)| recorder.lag.record_n(ns, number));
            recorder.service.record_n(10_000, 1000);
        };
        assert!(reason(bursts, true).contains("one request in a hundred"));
        let mut late = long(true);
        lag(&mut late, |_| 95_000);
        assert_eq!(reasons_of_generator(&late.stages[1], true).len(), 1);
        assert!(reasons_of_generator(&late.stages[1], false).is_empty());
        late.stages[1].recorder.starved = 900;
        assert!(reasons_of_generator(&late.stages[1], true).is_empty(), "they waited for a connection");
        let busy = |part: f64| reason(|report| report.stages[1].recorder.busy_part = part, false);
        assert!(busy(0.81).contains("busy for 81 %"));
        assert_eq!(busy(0.79), "valid");
        assert!(reason(|report| report.stages[1].recorder.waited_part = 0.3, false).contains("no processor, for 30 %"));
        // The mean of the latencies is 500 us.
        let waited = |us: u64, is_open| {
            reason(|report| report.stages[1].recorder.waited_time = Duration::from_micros(us * 1000), is_open)
        };
        assert!(waited(130, true).contains("for 130 ms in all, 130 us for each answer"), "{}", waited(130, true));
        assert_eq!([waited(120, true), waited(130, false)], ["valid", "valid"]);
        assert!(
            reason(|report| report.stages[1].recorder.standstill_ns = 1_500_000_000, false)
                .contains("still for 1.50 s")
        );
    }

    #[test]
    fn a_run_that_changes_on_the_way_is_not_steady_and_a_ramp_is_meant_to() {
        let thirds = |thirds: [u64; 3]| reason(|report| report.stages[1].recorder.thirds = thirds, true);
        assert!(
            thirds([4000, 4000, 3500])
                .contains("not steady: 4,000 answers in the first third, 3,500 in the last, 12 % fewer")
        );
        assert_eq!(thirds([4000, 4000, 3700]), "valid");
        assert_eq!(thirds([40, 40, 25]), "valid", "so few are so many more by chance");
        let ramp = |report: &mut Report| {
            let (duration, rate) = (Duration::from_secs(3), Rate { from_per_s: 100.0, to_per_s: 566.0 });
            report.stages[1].stage = Stage::Open { duration, rate, arrival: Arrival::Poisson };
            report.stages[1].recorder.thirds = [180, 330, 490];
        };
        assert_eq!(reason(ramp, true), "valid");
    }

    #[test]
    fn reasons_of_several_runs_are_folded() {
        let busy = |parts: &[f64]| {
            reason(
                |report| {
                    report.stages.extend(vec![report.stages[1].clone(); parts.len() - 1]);
                    let runs = report.stages[1..].iter_mut().zip(parts);
                    runs.for_each(|(result, part)| result.recorder.busy_part = *part);
                },
                false,
            )
        };
        assert!(busy(&[0.85, 0.1, 0.9, 0.1]).starts_with("runs 1 and 3: a generating thread was busy for 85 to 90 %"));
        assert!(busy(&[0.1, 0.9]).starts_with("run 2: a generating thread was busy for 90 %"));
        assert!(busy(&[0.9, 0.9, 0.9]).starts_with("all 3 runs: a generating thread was busy for 90 %"));
    }

    #[test]
    fn too_few_samples_for_more_than_the_median_are_a_reason_unless_conditions_ask_for_no_more() {
        let few = |report: &mut Report| {
            let recorder = &mut report.stages[1].recorder;
            recorder.latency = Times::new(u64::MAX >> 1);
            recorder.latency.record_n(1_000_000, 99);
        };
        let said = reason(few, true);
        assert!(said.starts_with("too few samples to tell more than the median: 99, and a p90 takes 100"), "{said}");
        assert!(said.contains("higher -R") && !reason(few, false).contains("-R"), "{said}");
        let asked = |report: &mut Report| {
            few(report);
            report.slo = Some("p50<1s".parse().unwrap());
        };
        assert_eq!(reason(asked, true), "valid");
        let asked_for_more = |report: &mut Report| {
            few(report);
            report.slo = Some("p50<1s,p99<1s".parse().unwrap());
        };
        let said = reason(asked_for_more, true);
        assert!(said.starts_with("too few samples for p99 < 1.00 s: 99, and that takes 1,000 (try"), "{said}");
        let one_of_two = |report: &mut Report| {
            report.stages.push(report.stages[1].clone());
            few(report);
        };
        assert_eq!(reason(one_of_two, true), "valid");
        let both = |report: &mut Report| {
            few(report);
            report.stages.push(report.stages[1].clone());
        };
        assert!(reason(both, true).contains("99 a run, at most, and"));
    }

    #[test]
    fn of_connections_that_come_and_go_only_the_connect_tells_of_a_syn() {
        let churned = |connect_ns: u64| {
            let churn = move |report: &mut Report| {
                let duration = Duration::from_secs(3);
                report.stages[1].stage =
                    Stage::Churn(Churn { duration, arrivals: None, close: crate::churn::Close::Reset });
                report.stages[1].netstat.syn_retransmits = 3;
                report.stages[1].recorder.latency.record(5_000_000_000);
                report.stages[1].recorder.connect.record(connect_ns);
            };
            reason(churn, false)
        };
        assert_eq!(churned(200_000), "valid", "it was the reply that took so long");
        assert!(churned(1_010_000_000).contains("3 SYNs were sent again"));
    }

    #[test]
    fn places_that_the_server_keeps_are_not_the_generators_lag() {
        let late = |starved: u64, (connect_ns, exchange_ns): (u64, u64)| {
            let churn = move |report: &mut Report| {
                let arrivals = Some((Rate::constant(1000.0 / 3.0), Arrival::Constant));
                let close = crate::churn::Close::Reset;
                let result = &mut report.stages[1];
                result.stage = Stage::Churn(Churn { duration: Duration::from_secs(3), arrivals, close });
                let recorder = &mut result.recorder;
                recorder.starved = starved;
                (1..=1000).for_each(|us| recorder.service.record(us * 100));
                (1..=1000).for_each(|us| recorder.lag.record(us * 900));
                recorder.connect.record_n(connect_ns, 1000);
                recorder.exchange.record_n(exchange_ns, 1000);
            };
            reason(churn, false)
        };
        assert!(
            late(900, (20_000, 80_000))
                .contains("one connection in ten was begun 810 us or more after it was due: all")
        );
        assert!(
            late(900, (20_000, 80_000))
                .contains("all places were taken by connections that waited for the server to reply")
        );
        assert!(late(900, (80_000, 20_000)).contains("waited for the server to take the connection"));
        assert!(late(4, (80_000, 20_000)).contains("loadgen had too little processor time"));
    }

    #[test]
    fn a_syn_that_was_sent_again_is_a_reason() {
        let retransmitted = |ns: u64| {
            reason(
                |report| {
                    report.stages[0].netstat.syn_retransmits = 3;
                    report.stages[0].recorder.latency.record(ns);
                },
                false,
            )
        };
        assert!(retransmitted(1_010_000_000).contains("3 SYNs were sent again"));
        assert_eq!(retransmitted(205_000), "valid", "they were another program's");
    }
}
