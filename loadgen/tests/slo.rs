//! Conditions decide on the exit code: 0 kept to, 3 missed; with a condition on errors, failures are judged by it.

mod support;

use support::{SIZE, Server, echo_with_fault, loadgen, measure};

#[test]
fn a_condition_that_is_missed_is_exit_code_3() {
    let server = Server::good();
    let with = |slo: &str| measure(&format!("rr {} -c 4 -d 300ms --slo {slo}", server.address));
    let (code, results) = with("p50<10s,err<0.01%,rate>1");
    assert_eq!(code, Some(0), "{results:#}");
    assert!(results["slo"].as_array().unwrap().iter().all(|outcome| outcome["is_met"] == true));
    let (code, results) = with("p50<1us,max<10s");
    assert_eq!(code, Some(3), "{results:#}");
    assert_eq!((&results["slo"][0]["is_met"], &results["slo"][1]["is_met"]), (&false.into(), &true.into()));
    let text = loadgen(&format!("rr {} -c 4 -d 300ms -q --slo p50<1us", server.address)).stdout;
    assert!(text.contains("SLO MISSED    p50 < 1.00 us: "), "{text}");
}

#[test]
fn failures_are_judged_by_a_condition_on_them_and_without_one_fail_the_run() {
    // One message of one connection comes back changed.
    let server = || {
        Server::start(|connection, stream| {
            let faulty = if connection == 0 { 3 } else { usize::MAX };
            echo_with_fault(stream, faulty, |_, message| {
                message[SIZE / 2] ^= 1;
                true
            });
        })
    };
    let with = |slo: &str| {
        let server = server();
        measure(&format!("rr {} -c 4 -d 300ms -s {SIZE} {slo}", server.address)).0
    };
    assert_eq!(with(""), Some(1));
    assert_eq!(with("--slo p50<10s"), Some(1));
    assert_eq!(with("--slo err<50%"), Some(0));
    assert_eq!(with("--slo err<0.000001%"), Some(3));
}

#[test]
fn held_connections_are_judged_by_their_echoes() {
    let server = Server::good();
    let with = |slo: &str| measure(&format!("hold {} -c 30 -d 50ms --slo {slo}", server.address));
    assert_eq!(with("p50<10s,err<0.01%").0, Some(0));
    let (code, results) = with("p50<1us");
    assert_eq!((code, &results["slo"][0]["is_met"]), (Some(3), &false.into()), "{results:#}");
}

#[test]
fn a_lost_connection_weighs_the_same_however_many_heartbeats_there_were() {
    // One connection in twenty ends after its verification; the others echo ten times and more.
    let with = |slo: &str| {
        let server = Server::start(|number, stream| {
            echo_with_fault(stream, if number == 7 { 1 } else { usize::MAX }, |_, _| false);
        });
        measure(&format!("hold {} -c 20 -d 600ms -s {SIZE} --heartbeat 50ms --slo {slo}", server.address))
    };
    assert_eq!(with("err<5.1%").0, Some(0));
    let (code, results) = with("err<4.9%");
    assert_eq!((code, &results["slo"][0]["measured"]), (Some(3), &"5 % of the connections".into()), "{results:#}");
}

#[test]
fn nonsense_is_wrong_usage() {
    for wrong in ["p99", "p99<5", "err<1", "x<1s", "rate<1"] {
        let outcome = loadgen(&format!("rr 127.0.0.1:1 --slo {wrong}"));
        assert_eq!(outcome.code, Some(2), "{wrong}");
        assert!(outcome.stderr.contains("give p99<2ms") || outcome.stderr.contains("unit"), "{}", outcome.stderr);
    }
}

#[test]
fn a_condition_that_too_few_samples_can_judge_is_no_miss_but_exit_code_4() {
    let server = Server::good();
    let line = format!("open {} -c 4 -R 100 --arrival constant -d 500ms --slo", server.address);
    let outcome = loadgen(&format!("{line} p99.99<10s -q"));
    assert_eq!(outcome.code, Some(4), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("SLO UNKNOWN   p99.99 < 10.0 s: too few samples to tell"), "{}", outcome.stdout);
    let long = format!("open {} -c 4 -R 100 --arrival constant -d 2100ms --slo p99<10s -q", server.address);
    let said = loadgen(&long).stdout;
    // In the width of a terminal it may be broken anywhere.
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("too few samples for p99 < 10.0 s: "), "{said}");
    let outcome = loadgen(&format!("{line} p99.99<10s,p50<1us -q"));
    assert_eq!(outcome.code, Some(3), "what was missed was missed: {}", outcome.stdout);
}
