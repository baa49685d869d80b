//! Arrivals are Poisson's unless told otherwise, the same again with the same seed, and a ramp has the integral of its rate.

mod support;

use serde_json::Value;
use support::{Server, is_conserved, loadgen, measure, stage};

fn due(line: &str) -> (u64, Value) {
    let (code, results) = measure(line);
    assert_eq!(code, Some(0), "{results:#}");
    assert!(is_conserved(&results));
    (stage(&results, "open")["requests_due"].as_u64().unwrap(), results)
}

#[test]
fn the_same_seed_makes_the_same_load_and_another_one_another() {
    let server = Server::good();
    let with = |rest: &str| due(&format!("open {} -c 20 -R 2k -d 500ms --threads 2 {rest}", server.address));
    let (first, results) = with("--seed 7");
    assert_eq!((stage(&results, "open")["arrival"].as_str(), &results["plan"]["seed"]), (Some("poisson"), &7.into()));
    assert_eq!(with("--seed 7").0, first);
    // The standard deviation of the count is 32: of six seeds hardly all have the same.
    assert!((8..14).any(|seed| with(&format!("--seed {seed}")).0 != first));
    assert!((700..1300).contains(&first), "{first} of 1,000 expected");
}

#[test]
fn a_ramp_has_the_integral_of_its_rate() {
    let server = Server::good();
    let line = format!("open {} -c 20 --ramp 500:1500 --arrival constant -d 500ms", server.address);
    let (requests, results) = due(&line);
    assert_eq!(requests, 500);
    assert_eq!(stage(&results, "open")["rate_target_range_per_s"], serde_json::json!([500.0, 1500.0]));
    assert!(loadgen(&line).stdout.contains("500 to 1,500 requests/s due, constant arrivals"));
}

#[test]
fn a_rate_and_a_ramp_at_once_or_neither_are_wrong_usage() {
    for wrong in ["-R 5 --ramp 1:2", "", "--ramp 5", "--ramp 1:x", "-R 5 --arrival never"] {
        assert_eq!(loadgen(&format!("open 127.0.0.1:1 {wrong}")).code, Some(2), "{wrong}");
    }
}
