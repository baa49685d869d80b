//! What to do about what a run met: plain sentences, each with a command where there is one.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;

use crate::address::Address;
use crate::churn::Close;
use crate::failure::{Act, EINVAL, Failure, Kind};
use crate::plan::Plan;
use crate::protocol::Protocol;
use crate::quantity::{count, span};
use crate::recorder::{Failures, Recorder};
use crate::report::percentiles::Percentiles;
use crate::report::{Ending, Report, StageResult};
use crate::routes::Sources;
use crate::search::found::Found;
use crate::stage::Stage;

const NOT_CLOSED: &str = "The server did not close connections behind its replies, in time and with a FIN, as --close server wants \
                          it to: --close reset and --close fin close them from this side.";

/// Whom sentences are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Who ran one load.
    Runner,
    /// Who searched: connections that a trial has cost are opened again before the next, and of rates the search speaks.
    Searcher,
    /// Who searched, until not all of them could be opened again.
    Stopped,
}

/// Sentences about `report`, the most urgent first, each once; none when there is nothing to say. What stands in backticks
/// is a command to be copied.
pub(crate) fn sentences(report: &Report) -> Vec<String> {
    sentences_for(report, Reader::Runner)
}

fn sentences_for(report: &Report, reader: Reader) -> Vec<String> {
    let recorders = || report.stages.iter().map(|result| &result.recorder);
    let mut sentences: Vec<String> =
        recorders().find_map(|recorder| about_stranger(report, recorder)).into_iter().collect();
    let is_strange = !sentences.is_empty();
    for recorder in recorders() {
        // Of connections that come and go a connect that failed is one of their failures.
        let failures = recorder.connect_failures.keys().chain(recorder.request_failures.keys());
        let of_connects = failures.filter(|failure| failure.act == Act::Connect);
        let about = |failure: &Failure| about_connect(report, *failure, recorder.unreached.get(failure));
        sentences.extend(of_connects.map(about));
    }
    let all = |of: fn(&Recorder) -> &Failures| recorders().flat_map(of).collect::<Vec<_>>();
    let mut kinds: Vec<Kind> = all(|recorder| &recorder.request_failures)
        .into_iter()
        .chain(all(|recorder| &recorder.losses))
        .filter(|(failure, _)| !matches!(failure.act, Act::Connect | Act::Close))
        .map(|(failure, _)| failure.kind)
        .collect();
    kinds.sort_unstable();
    // What a server that is no echo server does with a connection is no riddle.
    let is_riddle = |kind: &Kind| {
        !is_strange || !matches!(kind, Kind::Corrupted | Kind::Surplus | Kind::Unexpected | Kind::Malformed)
    };
    sentences.extend(kinds.into_iter().filter(is_riddle).filter_map(|kind| about_exchange(report, kind, reader)));
    if all(|recorder| &recorder.request_failures).iter().any(|(failure, _)| failure.act == Act::Close) {
        sentences.push(NOT_CLOSED.to_owned());
    }
    sentences.extend(report.stages.iter().filter_map(|result| match result.stage {
        Stage::Connect => about_slow_connects(report, result),
        Stage::Open { .. } => about_overload(report, result, reader),
        Stage::Churn(_) => about_slow_connects(report, result).or_else(|| about_overload(report, result, reader)),
        _ => None,
    }));
    if report.ending == Ending::AllLost {
        sentences.push("Every connection was lost before the end of the run.".to_owned());
    }
    sentences.extend(about_limits(report));
    sentences.extend(about_given_up(report));
    let mut seen = HashSet::new();
    sentences.retain(|sentence| seen.insert(sentence.clone()));
    sentences
}

/// Sentences about a search: on all its trials, and on what it found.
pub(crate) fn of_search(found: &Found) -> Vec<String> {
    let reader = if found.lacks_connections { Reader::Stopped } else { Reader::Searcher };
    let mut sentences = sentences_for(&found.everything(), reader);
    sentences.extend(found.advice());
    sentences
}

fn about_stranger(report: &Report, recorder: &Recorder) -> Option<String> {
    // Who has answered rightly is what he is said to be, whatever he did to a single reply.
    let has_answered = report.plan.targets.len() == 1 && recorder.answered > 0;
    let strange = recorder.strange.as_ref().filter(|_| !has_answered)?;
    let known = strange.destination.and_then(|index| report.plan.targets.get(index));
    let address = known.map_or_else(|| report.plan.addresses(), ToString::to_string);
    Some(match report.plan.protocol {
        Protocol::Echo { .. } => format!(
            "{address} is no echo server: without --send and --expect, or http://, loadgen measures servers that send back \
             what they receive; first bytes received: {strange}"
        ),
        Protocol::Script(_) => format!(
            "{address} did not answer as --expect says: it has to be the whole reply, to its end, where * is any bytes; \
             first bytes received: {strange}"
        ),
        Protocol::Http(_) => format!("{address} is no HTTP server; first bytes received: {strange}"),
    })
}

/// What to do about `failure`, which was met at the targets with the indices `unreached`.
fn about_connect(report: &Report, failure: Failure, unreached: Option<&BTreeSet<usize>>) -> String {
    let (plan, fitted) = (&report.plan, count(report.established()));
    let met = unreached.into_iter().flatten().filter_map(|index| plan.targets.get(*index).cloned());
    let some = Some(met.collect::<Vec<Address>>()).filter(|some| !some.is_empty()).unwrap_or(plan.targets.clone());
    let address = some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let Some(sentence) = about_unix(report, failure).or_else(|| about_layers(plan, failure.kind, &address)) {
        return sentence;
    }
    match failure.kind {
        Kind::Refused => refused(report, &some, &address),
        Kind::Unreachable if failure.errno == Some(EINVAL) => format!(
            "{address} is unreachable: a route of this machine throws away what goes there (a black hole). \
             `ip route get {}` shows it.",
            some[0].ip().map_or(String::new(), |target| target.ip().to_string())
        ),
        Kind::Unreachable => unreachable(&address),
        Kind::TimedOut => format!(
            "No answer from {address} within {}: a firewall drops, the host is down, or connections come faster than the \
             server accepts ({fitted} were opened). Try {}, or a longer --timeout.",
            span(plan.timeout.as_nanos() as u64),
            slower(plan.churn.is_some())
        ),
        Kind::OutOfDescriptors => format!(
            "Out of descriptors: {fitted} connections fitted; this process may open {}. For more: \
             `sudo prlimit --pid $$ --nofile={}` in this shell.",
            count(report.machine.descriptors_max),
            report.machine.descriptors_max.max(plan.connections.saturating_mul(2))
        ),
        Kind::OutOfPorts => out_of_ports(report, &address, &fitted),
        Kind::NoAddress => no_address(&plan.ips()),
        Kind::OutOfMemory => format!("The kernel ran out of memory for sockets: {fitted} fitted. Try fewer."),
        Kind::Forbidden => format!("This machine forbids connecting to {address}: a firewall rule, or a sandbox."),
        Kind::Reset => {
            format!("{address} reset connections while they were opened: its queue of unaccepted ones overflowed.")
        }
        Kind::Closed
        | Kind::Truncated
        | Kind::Tls
        | Kind::Handshake
        | Kind::Frame
        | Kind::CloseFrame(_)
        | Kind::Swapped
        | Kind::Misplaced
        | Kind::Lost
        | Kind::Doubled
        | Kind::Corrupted
        | Kind::Surplus
        | Kind::Unexpected
        | Kind::Status(_)
        | Kind::Length
        | Kind::Malformed
        | Kind::NoSocket
        | Kind::Abandoned
        | Kind::System => format!("Connecting to {address} failed: {failure}."),
    }
}

/// Nobody listens at some of the targets, or nobody any more.
fn refused(report: &Report, some: &[Address], address: &str) -> String {
    let (plan, established) = (&report.plan, report.established());
    let is_echo = matches!(plan.protocol, Protocol::Echo { .. }) && plan.layers.is_bare();
    if established > 0 && some.len() < plan.targets.len() {
        format!(
            "{address} refused connections, other targets did not: nothing listens there, or it takes only so many."
        )
    } else if established > 0 {
        let fitted = count(established);
        format!("{address} took {fitted} connections and refused others: it stopped, or it limits how many it takes.")
    } else if is_echo {
        format!(
            "{address} refused: nothing listens there. Start the server first, for example: `loadgen serve --listen {}`",
            some[0]
        )
    } else {
        format!("{address} refused: nothing listens there. Start the server first; `ss -ltn` shows who listens where.")
    }
}

/// What goes wrong between a connect and a connection that can be spoken on, where something lies between.
fn about_layers(plan: &Plan, kind: Kind, address: &str) -> Option<String> {
    Some(match kind {
        Kind::Tls => {
            let trouble = plan.layers.tls.as_ref().and_then(|tls| tls.trouble.get());
            let why = trouble.map_or_else(String::new, |why| format!(": {why}"));
            format!(
                "TLS with {address} failed{why}. Is it TLS that is spoken there, and whom is its certificate for? --cacert FILE \
                 believes another root, --insecure anybody."
            )
        }
        Kind::Status(status) if plan.layers.websocket.is_some() => {
            format!("{address} answered the request for a WebSocket with status {status}: is it the right path?")
        }
        Kind::Malformed if plan.layers.websocket.is_some() => {
            format!("{address} answered, but not in HTTP, with which each WebSocket begins: what is spoken there?")
        }
        Kind::Handshake => format!(
            "{address} answered as if it spoke WebSocket, but not to the key that it was given, or with an extension that it was \
             not offered."
        ),
        Kind::Closed if !plan.layers.is_bare() => format!(
            "{address} took connections and closed them before they could be spoken on: is it {} that is spoken there?",
            if plan.layers.tls.is_some() { "TLS" } else { "WebSocket" }
        ),
        _ => return None,
    })
}

/// Where a server that took some connections did not take others, its limits may be why, and only it knows them.
fn about_limits(report: &Report) -> Option<String> {
    let of_server = |failure: &Failure| {
        failure.act == Act::Connect && matches!(failure.kind, Kind::Refused | Kind::TimedOut | Kind::Reset)
    };
    let recorders = || report.stages.iter().map(|result| &result.recorder);
    let is_met = recorders().flat_map(|it| it.connect_failures.keys().chain(it.request_failures.keys())).any(of_server);
    let remedy = match report.plan.is_server_here() {
        true => "`prlimit --pid PID` shows them, and `ss -ltnp` the PID",
        false => "look there: `prlimit --pid PID`, `ss -ltn`",
    };
    (is_met && report.established() > 0 && !report.plan.is_server_inside())
        .then(|| format!("The server's own limits (descriptors, memory, backlog) are not visible from here: {remedy}."))
}

/// The kernel asks all at once who were last heard of within the same seconds, and on the loopback all of these packets stand in
/// one queue for each core.
fn about_given_up(report: &Report) -> Option<String> {
    let given_up: u64 = report.stages.iter().map(|result| result.netstat.given_up).sum();
    let mut recorders = report.stages.iter().map(|result| &result.recorder);
    let has_lost =
        recorders.any(|it| it.losses.keys().chain(it.request_failures.keys()).any(|it| it.kind == Kind::Reset));
    (given_up > 0 && has_lost && report.plan.is_server_here()).then(|| {
        format!(
            "The kernel here gave up {} connections as dead (TCPAbortOnTimeout). If the server has TCP keepalive on, its probes to \
             thousands of idle connections at once may be more than the loopback's queue holds: try \
             `sudo sysctl -w net.core.netdev_max_backlog=1000000`, or the server without keepalive.",
            count(given_up)
        )
    })
}

/// What a Unix socket has words of its own for.
fn about_unix(report: &Report, failure: Failure) -> Option<String> {
    let (Address::Unix(unix), timeout) = (&report.plan.targets[0], report.plan.timeout) else { return None };
    let (addresses, path) = (report.plan.addresses(), unix.name());
    Some(match failure.kind {
        Kind::NoSocket => {
            format!(
                "There is no {addresses}: nothing has that path. Start the server first; `ss -lx` shows who listens where."
            )
        }
        Kind::Refused if report.established() > 0 => {
            format!("{addresses} refused connections after others: its server ended.")
        }
        Kind::Refused => format!(
            "{addresses} refused: nobody listens there, though something has that name: a server that ended may have left \
             its file behind. Start it again; `ss -lx` shows who listens where."
        ),
        Kind::Forbidden => format!(
            "This user may not connect to {addresses}: that takes the permission to write to the socket, and to pass \
             through its directories. `namei -l {path}` shows them."
        ),
        Kind::TimedOut => format!(
            "The queue of {addresses} had no room within {}: its server does not accept, or connections come faster than it \
             does. Try a lower -c, a longer --timeout, or a longer backlog at the server.",
            span(timeout.as_nanos() as u64)
        ),
        _ => return None,
    })
}

fn out_of_ports(report: &Report, address: &str, fitted: &str) -> String {
    if matches!(report.plan.sources, Sources::Given { .. }) {
        return format!(
            "Out of ports toward {address}: {fitted} connections fitted; something else has the other ports of --source, or \
             they wait in TIME_WAIT. For more: more addresses in `--source`, or more targets. `ss -tan` shows who has them."
        );
    }
    let wider = "`sudo sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`";
    if report.plan.churn.is_some_and(|(churn, _)| churn.close == Close::Fin) {
        return format!(
            "Out of ports toward {address}: with --close fin each port waits in TIME_WAIT when its connection is over, and \
             after {fitted} connections none was left. Close by reset, or let the server close (--close server). For more \
             ports: `--source` with addresses of this machine, more targets, or {wider}."
        );
    }
    format!(
        "Out of ports toward {address}: {fitted} connections fitted. For more: {wider}, or wait a minute for ports in \
         TIME_WAIT."
    )
}

fn no_address(targets: &[SocketAddr]) -> String {
    let target = targets.iter().find(|target| target.is_ipv6()).unwrap_or(&targets[0]);
    let ip = target.ip();
    if target.is_ipv6() && ip.is_loopback() {
        format!("This machine has no address {ip}: IPv6 is off here. Try 127.0.0.1, if the server listens there.")
    } else if target.is_ipv6() {
        format!("This machine has no address from which {ip} could be reached: IPv6 is off here. Try its IPv4 address.")
    } else {
        format!("This machine has no address from which {ip} could be reached: `ip address` shows those it has.")
    }
}

fn about_exchange(report: &Report, kind: Kind, reader: Reader) -> Option<String> {
    let timeout = span(report.plan.timeout.as_nanos() as u64);
    let sentence = match kind {
        Kind::TimedOut if report.stages.iter().all(|result| result.recorder.bytes_received == 0) => {
            let asked = match report.plan.protocol {
                Protocol::Echo { .. } => {
                    "loadgen sent bytes to be echoed; a server of another protocol, which waits for a request that it knows, \
                     is measured with --send and --expect, or with http:// or ws://"
                }
                Protocol::Script(_) => "is what --send says a whole request, to its end (\\r\\n)",
                Protocol::Http(_) => "does it speak HTTP/1.1 there",
            };
            format!("Not a byte came back within {timeout}: {asked}.")
        }
        Kind::TimedOut => format!(
            "Replies that took longer than {timeout} count as failed. Does the server answer at all? Is it overloaded? See --timeout."
        ),
        kind if kind.is_of_bytes() => return about_bytes(report, kind),
        Kind::Closed | Kind::Truncated | Kind::Reset => {
            let what_follows = match reader {
                Reader::Searcher => "they are reopened before the next trial",
                Reader::Runner | Reader::Stopped => "loadgen does not reopen them",
            };
            format!("The server ended connections that were in use. Its log may say why; {what_follows}.")
        }
        Kind::Status(status @ 300..400) => format!(
            "The server answered with HTTP status {status}: it sends its clients elsewhere, and loadgen does not follow. `curl -i` \
             shows where to; measure that."
        ),
        Kind::Malformed => {
            "What came was no HTTP response: the server breaks HTTP, or speaks something else after a while.".to_owned()
        }
        Kind::Status(status) => format!(
            "The server answered with HTTP status {status}: its connections are kept, and the requests count as failed. Is it \
             the right path? `curl -i` shows what else it says."
        ),
        Kind::CloseFrame(_) | Kind::Frame | Kind::Tls => return about_broken_layers(kind),
        Kind::Length => {
            "Responses differ in length: the page is not the same each time, or not all of it came.".to_owned()
        }
        Kind::Abandoned if report.plan.pipeline == 1 => {
            "What was given up had no answer when the server closed its connection; it was to be sent again, and the server \
             took no new connection for it."
                .to_owned()
        }
        Kind::Abandoned => {
            "What was given up stood behind a request of its connection that failed (--pipeline): nobody knows \
                            what would have become of it. Not every server takes requests before it has answered those \
                            before them: try without --pipeline."
                .to_owned()
        }
        _ => return None,
    };
    Some(sentence)
}

/// Bytes that came and are wrong.
fn about_bytes(report: &Report, kind: Kind) -> Option<String> {
    Some(match kind {
        Kind::Swapped => {
            "Replies were another connection's: the server, or something before it, mixes up who asked.".to_owned()
        }
        Kind::Misplaced => {
            "Replies came in another order than their requests (--pipeline): the server has to answer each connection in order."
                .to_owned()
        }
        Kind::Lost if report.plan.pipeline > 1 => {
            "Replies had gaps: bytes that were sent did not come back, or came too late, as where a server answers in another \
             order."
                .to_owned()
        }
        Kind::Lost => "Replies had gaps: bytes that were sent did not come back, or came too late.".to_owned(),
        Kind::Doubled => "Bytes came back a second time: the server answers twice, or out of an old buffer.".to_owned(),
        Kind::Corrupted => {
            "Replies were not what was sent, nor what any connection sent: bytes were changed.".to_owned()
        }
        Kind::Surplus => {
            "More came back than belongs to a reply: the server answers with bytes of its own, or answers twice."
                .to_owned()
        }
        _ => return None,
    })
}

/// What goes wrong with WebSockets and TLS that are open.
fn about_broken_layers(kind: Kind) -> Option<String> {
    Some(match kind {
        Kind::CloseFrame(code) => format!(
            "The server closed WebSockets with code {code}{}: see its log, and its limits of messages and time.",
            match code {
                1000 => ", as if all were said",
                1001 => ", for it goes away",
                1002 | 1003 | 1007 => ", for it did not like what it was sent",
                1008 | 1009 | 1013 => ", for a limit of its own",
                _ => "",
            }
        ),
        Kind::Frame => "What came was no frame that a WebSocket server may send (RFC 6455, section 5).".to_owned(),
        Kind::Tls => {
            "What came could not be decrypted: TLS was broken, by the server or by something before it.".to_owned()
        }
        _ => return None,
    })
}

/// A SYN, or its answer, that is lost is sent again after 1 s, then after 3 s in all: steps that nothing else explains.
fn about_slow_connects(report: &Report, result: &StageResult) -> Option<String> {
    if report.plan.is_unix() {
        return None;
    }
    let recorder = &result.recorder;
    let times = if result.stage.churn().is_some() { &recorder.connect } else { &recorder.latency };
    let longest = Percentiles::of(times).max_ns.filter(|max_ns| *max_ns >= 1_000_000_000)?;
    let counted = match (result.netstat.syn_retransmits, result.netstat.listen_overflows) {
        // Toward this machine every packet that is sent again is counted: then it was the processor that was short.
        (0, 0) if report.plan.is_server_here() => return None,
        (0, 0) => String::new(),
        (sent, dropped) => format!(
            " (meanwhile the kernel here counted {} SYNs sent again, and {} connections for which a queue was too full)",
            count(sent),
            count(dropped)
        ),
    };
    let slower = slower(result.stage.churn().is_some());
    Some(format!(
        "Some connects took up to {}: their first packets were dropped, which is what a full accept queue \
         does{counted}. Try {slower}, or a longer backlog at the server.",
        span(longest)
    ))
}

fn unreachable(address: &str) -> String {
    format!("{address} is unreachable: this machine has no route to it, or the network says it is not there.")
}

/// How connections are opened more slowly: those that come and go have no --connect-rate.
fn slower(is_churn: bool) -> &'static str {
    if is_churn { "a lower -c or -R" } else { "--connect-rate" }
}

/// Only a rate leaves something waiting, and only a run that went on to its end tells whether it was too high: what was
/// under way when one was broken off need not have waited.
fn about_overload(report: &Report, result: &StageResult, reader: Reader) -> Option<String> {
    let is_whole = report.ending == Ending::Complete && result.stage.arrivals().is_some();
    let more = if result.stage.churn().is_some() { "places" } else { "connections" };
    let lower = match reader {
        Reader::Runner => "a lower -R",
        Reader::Stopped => "a lower --to",
        // Trials of rates that are too high are what a search is made of.
        Reader::Searcher => return None,
    };
    (is_whole && result.recorder.unfinished > 0).then(|| {
        format!(
            "The rate was more than the server took, or than loadgen's {more} and threads could send: requests were still \
             waiting at the end. Try {lower}, more {more} (-c), or more --threads."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::churn::Churn;
    use crate::failure::Act;
    use crate::recorder::note;
    use crate::report::tests::report;
    use crate::schedule::{Arrival, Rate};
    use crate::search::found::tests::found;
    use crate::strange::Strange;
    use std::time::Duration;

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
        assert!(
            with_connect_failure(Kind::Refused, 7)
                .contains("own limits (descriptors, memory, backlog) are not visible")
        );
        assert!(!with_connect_failure(Kind::Refused, 0).contains("not visible"), "nothing listens there");
        assert!(!with_connect_failure(Kind::OutOfPorts, 7).contains("not visible"), "that is this side's");
        assert!(with_connect_failure(Kind::Unreachable, 0).contains("no route"));
        assert!(with_connect_failure(Kind::TimedOut, 7).contains("within 5.00 s"));
        assert!(with_connect_failure(Kind::OutOfDescriptors, 7).contains("7 connections fitted"));
        assert!(with_connect_failure(Kind::OutOfDescriptors, 7).contains("--nofile="));
        assert!(with_connect_failure(Kind::OutOfPorts, 7).contains("ip_local_port_range"));
    }

    #[test]
    fn where_all_ports_of_given_sources_are_taken_it_takes_more_of_them() {
        let mut report = report();
        report.plan.sources = Sources::Given { addresses: [[127, 31, 9, 1].into()].into(), port_end: 32_768 };
        assert_eq!(report.plan.sources_used(report.sources_taken()).to_string(), "127.31.9.1, ports 1024 to 1033");
        note(&mut report.stages[0].recorder.connect_failures, Failure::new(Act::Connect, Kind::OutOfPorts));
        report.stages[0].recorder.spares_max = 32 * 1024;
        let said = sentences(&report).join("\n");
        assert!(said.contains("more addresses in `--source`") && !said.contains("ip_local_port_range"), "{said}");
        assert_eq!(report.plan.sources_used(report.sources_taken()).to_string(), "127.31.9.1, ports 1024 to 32767");
    }

    #[test]
    fn who_never_answers_may_wait_for_another_protocol() {
        let mut report = report();
        note(&mut report.stages[1].recorder.request_failures, Failure::new(Act::Reply, Kind::TimedOut));
        for (received, wanted) in [(64, "Is it overloaded?"), (0, "with --send and --expect, or with http://")] {
            report.stages.iter_mut().for_each(|result| result.recorder.bytes_received = received);
            assert!(sentences(&report).iter().any(|sentence| sentence.contains(wanted)), "{:?}", sentences(&report));
        }
    }

    #[test]
    fn each_is_said_once_however_often_it_happened() {
        let mut report = report();
        for (act, kind) in [(Act::Reply, Kind::Closed), (Act::Idle, Kind::Closed), (Act::Reply, Kind::Reset)] {
            note(&mut report.stages[1].recorder.request_failures, Failure::new(act, kind));
        }
        assert_eq!(sentences(&report).len(), 1, "{:?}", sentences(&report));
    }

    #[test]
    fn no_echo_server_is_said_first_with_what_it_said() {
        let mut report = report();
        note(&mut report.stages[1].recorder.request_failures, Failure::new(Act::Reply, Kind::Corrupted));
        note(&mut report.stages[1].recorder.request_failures, Failure::new(Act::Send, Kind::Reset));
        report.stages[1].recorder.strange = Some(Strange::new(b"-DENIED Redis is running\r\n", 0));
        assert!(!sentences(&report)[0].contains("no echo server"), "it has answered rightly");
        report.stages[1].recorder.answered = 0;
        let sentences = sentences(&report);
        assert!(sentences[0].starts_with("127.0.0.1:4000 is no echo server"), "{}", sentences[0]);
        assert!(sentences[0].ends_with(r#"first bytes received: "-DENIED Redis is running\r\n""#), "{}", sentences[0]);
        assert_eq!(sentences.len(), 2, "and nothing about changed bytes: {sentences:?}");
    }

    #[test]
    fn of_several_targets_the_one_is_named_that_it_is_about() {
        let mut report = report();
        report.plan.targets =
            ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(|it| Address::Ip(it.parse().unwrap())).into();
        let refused = Failure::new(Act::Connect, Kind::Refused);
        note(&mut report.stages[0].recorder.connect_failures, refused);
        report.stages[0].recorder.unreached.insert(refused, BTreeSet::from([1]));
        report.stages[1].recorder.strange = Some(Strange::new(b"220 welcome\r\n", 2));
        let sentences = sentences(&report);
        assert!(sentences[0].starts_with("127.0.0.1:3 is no echo server"), "{sentences:?}");
        assert!(sentences[1].starts_with("127.0.0.1:2 refused connections, other targets did not"), "{sentences:?}");
    }

    #[test]
    fn black_holes_and_missing_families_have_words() {
        let mut report = report();
        let invalid = std::io::Error::from_raw_os_error(EINVAL);
        note(&mut report.stages[0].recorder.connect_failures, Failure::of(Act::Connect, &invalid));
        assert!(sentences(&report)[0].contains("`ip route get 127.0.0.1`"));
        assert!(no_address(&["[::1]:9".parse().unwrap()]).contains("IPv6 is off"));
        assert!(no_address(&["192.0.2.1:9".parse().unwrap()]).contains("no address from which 192.0.2.1"));
    }

    #[test]
    fn only_a_rate_that_was_tried_to_the_end_was_too_high() {
        let waiting = |arguments: &str, ending| {
            let mut report = report();
            let duration = Duration::from_secs(1);
            let (rate, arrival) = (Rate::constant(1000.0), Arrival::Constant);
            let arrivals = arguments.contains("-R").then_some((rate, arrival));
            report.stages[1].stage = match arguments.starts_with("churn") {
                true => Stage::Churn(Churn { duration, arrivals, close: Close::Reset }),
                false => Stage::Open { duration, rate, arrival },
            };
            (report.stages[1].recorder.unfinished, report.ending) = (5, ending);
            sentences(&report).join("\n")
        };
        assert!(waiting("open -R", Ending::Complete).contains("lower -R, more connections (-c)"));
        assert!(waiting("churn -R", Ending::Complete).contains("lower -R, more places (-c)"));
        for (arguments, ending) in [
            ("open -R", Ending::Interrupted),
            ("churn -R", Ending::Interrupted),
            ("churn", Ending::Complete),
            ("churn", Ending::Interrupted),
        ] {
            assert_eq!(waiting(arguments, ending), "", "{arguments} {ending:?}");
        }
    }

    #[test]
    fn who_searches_is_not_told_of_what_a_search_does_not_have() {
        let mut overloaded = found(&[(1000.0, true), (2000.0, false)], |it| {
            it.unfinished = 9;
            note(&mut it.request_failures, Failure::new(Act::Reply, Kind::Reset));
        });
        let said = of_search(&overloaded).join("\n");
        assert!(
            said.contains("they are reopened before the next trial.") && !said.contains("waiting at the end"),
            "{said}"
        );
        (overloaded.lacks_connections, overloaded.report.ending) = (true, Ending::Complete);
        let said = of_search(&overloaded).join("\n");
        assert!(said.contains("loadgen does not reopen them.") && said.contains("Try a lower --to"), "{said}");
        assert!(!said.contains("-R"), "{said}");
    }

    #[test]
    fn probes_that_were_lost_by_the_thousand_are_suspected() {
        let mut report = report();
        report.stages[1].netstat.given_up = 1_234;
        assert_eq!(sentences(&report), [""; 0], "nobody was lost: they were some other program's");
        note(&mut report.stages[1].recorder.losses, Failure::new(Act::Idle, Kind::Reset));
        let said = sentences(&report).join("\n");
        assert!(said.contains("gave up 1,234 connections") && said.contains("netdev_max_backlog"), "{said}");
    }

    #[test]
    fn connects_of_a_second_are_explained() {
        let mut report = report();
        report.stages[0].recorder.latency.record(1_020_000_000);
        assert_eq!(sentences(&report), [""; 0], "on this machine the kernel would have counted it");
        report.stages[0].netstat.syn_retransmits = 1;
        assert!(sentences(&report)[0].contains("accept queue"));
    }
}
