//! What to do about what a run met: plain sentences, each with a command where there is one.

use crate::failure::{Failure, Kind};
use crate::quantity::{count, span};
use crate::recorder::{Failures, total};
use crate::report::percentiles::Percentiles;
use crate::report::{Ending, Report, StageResult};
use crate::stage::Stage;

/// Sentences about `report`, the most urgent first; none when there is nothing to say.
pub(crate) fn sentences(report: &Report) -> Vec<String> {
    let mut sentences = Vec::new();
    let recorders = || report.stages.iter().map(|result| &result.recorder);
    for failures in recorders().map(|recorder| &recorder.connect_failures) {
        sentences.extend(failures.keys().map(|failure| about_connect(report, *failure)));
    }
    let all = |of: fn(&crate::recorder::Recorder) -> &Failures| recorders().flat_map(of).collect::<Vec<_>>();
    let mut kinds: Vec<Kind> = all(|recorder| &recorder.request_failures)
        .into_iter()
        .chain(all(|recorder| &recorder.losses))
        .map(|(failure, _)| failure.kind)
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    sentences.extend(kinds.into_iter().filter_map(|kind| about_exchange(report, kind)));
    sentences.extend(report.stages.iter().filter_map(|result| match result.stage {
        Stage::Connect => about_slow_connects(result),
        Stage::Open { .. } => about_overload(result),
        _ => None,
    }));
    if report.ending == Ending::AllLost {
        sentences.push("Every connection was lost, so the run ended early.".to_owned());
    }
    sentences
}

fn about_connect(report: &Report, failure: Failure) -> String {
    let (plan, fitted) = (&report.plan, count(report.established()));
    let address = plan.addresses();
    match failure.kind {
        Kind::Refused if report.established() > 0 => format!(
            "{address} took {fitted} connections and refused others: it stopped, or it limits how many it takes."
        ),
        Kind::Refused => format!(
            "{address} refused: nothing listens there. Start the server first, for example: loadgen serve --listen {address}"
        ),
        Kind::Unreachable => {
            format!("{address} is unreachable: this machine has no route to it, or the network says it is not there.")
        }
        Kind::TimedOut => format!(
            "No answer from {address} within {}: a firewall drops, the host is down, or connections come faster than the \
             server accepts ({fitted} were opened). Try --connect-rate, or a longer --timeout.",
            span(plan.timeout.as_nanos() as u64)
        ),
        Kind::OutOfDescriptors => format!(
            "Out of descriptors: {fitted} connections fitted; this process may open {}. For more: sudo prlimit --pid $$ \
             --nofile={} in this shell.",
            count(report.machine.descriptors_max),
            report.machine.descriptors_max.max(plan.connections.saturating_mul(2))
        ),
        Kind::OutOfPorts => format!(
            "Out of ports toward {address}: {fitted} connections fitted. For more: sudo sysctl -w \
             net.ipv4.ip_local_port_range=\"1024 65535\", or wait a minute for ports in TIME_WAIT."
        ),
        Kind::OutOfMemory => {
            format!("The kernel ran out of memory for sockets: {fitted} connections fitted. Try fewer.")
        }
        Kind::Forbidden => format!("This machine forbids connecting to {address}: a firewall rule, or a sandbox."),
        Kind::Reset => {
            format!("{address} reset connections while they were opened: its queue of unaccepted ones overflowed.")
        }
        Kind::Closed | Kind::Truncated | Kind::Corrupted | Kind::Surplus | Kind::System => {
            format!("Connecting to {address} failed: {failure}.")
        }
    }
}

fn about_exchange(report: &Report, kind: Kind) -> Option<String> {
    let timeout = span(report.plan.timeout.as_nanos() as u64);
    let sentence = match kind {
        Kind::TimedOut => format!(
            "Replies that took longer than {timeout} count as failed. Does the server echo? Is it overloaded? See --timeout."
        ),
        Kind::Corrupted => {
            "Replies were not what was sent: bytes were changed, lost, doubled, or another connection's. \
                            If the server is no echo server, that is why."
                .to_owned()
        }
        Kind::Surplus => {
            "More came back than was sent: the server answers with bytes of its own, or answers twice.".to_owned()
        }
        Kind::Closed | Kind::Truncated | Kind::Reset => {
            "The server ended connections that were in use. Its log may say why; loadgen does not reopen them."
                .to_owned()
        }
        _ => return None,
    };
    Some(sentence)
}

/// A SYN, or its answer, that is lost is sent again after 1 s, then after 3 s in all: steps that nothing else explains.
fn about_slow_connects(result: &StageResult) -> Option<String> {
    let longest = Percentiles::of(&result.recorder.latency).max_ns.filter(|max_ns| *max_ns >= 1_000_000_000)?;
    let counted = match (result.netstat.syn_retransmits, result.netstat.listen_overflows) {
        (0, 0) => String::new(),
        (sent, dropped) => format!(
            " (meanwhile the kernel here counted {} SYNs sent again, and {} connections for which a queue was too full)",
            count(sent),
            count(dropped)
        ),
    };
    Some(format!(
        "Some connects took up to {}: their first packets were dropped, which is what a full accept queue \
         does{counted}. Try --connect-rate, or a longer backlog at the server.",
        span(longest)
    ))
}

fn about_overload(result: &StageResult) -> Option<String> {
    let recorder = &result.recorder;
    let (latency, lag) = (Percentiles::of(&recorder.latency).p50_ns?, Percentiles::of(&recorder.lag).p50_ns?);
    if recorder.unfinished > total(&recorder.request_failures) && recorder.unfinished > 0 {
        let sentence = "The rate was more than the server took, or than loadgen's threads could send: requests were still \
                        waiting at the end. Try a lower -R, or more --threads.";
        return Some(sentence.to_owned());
    }
    // A tenth of the latency: enough to be seen in the first digit.
    (lag > latency / 10).then(|| {
        format!(
            "Half of the requests were sent {} or more after they were due: all connections were busy (try more: -c), or \
             loadgen had too little processor time (try --threads, or another machine).",
            span(lag)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Act;
    use crate::recorder::note;
    use crate::report::tests::report;

    fn with_connect_failure(kind: Kind, established: u64) -> String {
        let mut report = report();
        report.stages[0].recorder.established = established;
        note(&mut report.stages[0].recorder.connect_failures, Failure::new(Act::Connect, kind));
        sentences(&report).join("\n")
    }

    #[test]
    fn a_good_run_needs_no_advice() {
        assert_eq!(sentences(&report()), Vec::<String>::new());
    }

    #[test]
    fn every_reason_not_to_connect_is_said_with_what_fitted_and_what_to_do() {
        assert!(with_connect_failure(Kind::Refused, 0).contains("loadgen serve --listen 127.0.0.1:4000"));
        assert!(with_connect_failure(Kind::Refused, 7).contains("took 7 connections"));
        assert!(with_connect_failure(Kind::Unreachable, 0).contains("no route"));
        assert!(with_connect_failure(Kind::TimedOut, 7).contains("within 5.00 s"));
        assert!(with_connect_failure(Kind::OutOfDescriptors, 7).contains("7 connections fitted"));
        assert!(with_connect_failure(Kind::OutOfDescriptors, 7).contains("--nofile="));
        assert!(with_connect_failure(Kind::OutOfPorts, 7).contains("ip_local_port_range"));
    }

    #[test]
    fn connects_of_a_second_are_explained() {
        let mut report = report();
        report.stages[0].recorder.latency.record(1_020_000_000);
        assert!(sentences(&report)[0].contains("accept queue"));
    }
}
