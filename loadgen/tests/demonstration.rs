//! Without a command it demonstrates itself: both loops, no failure, and server and generator agree on the bytes.

mod support;

use support::{failures_total, is_conserved, loadgen, stage};

#[test]
fn both_loops_are_measured_and_both_sides_agree() {
    let path = std::env::temp_dir().join(format!("loadgen-demonstration-{}.json", std::process::id()));
    let outcome = loadgen(&format!("--quiet --json {}", path.display()));
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.starts_with("Closed loop, then open loop · "), "{}", outcome.stdout);
    for wanted in ["both sides agree", "server's threads", "Errors        none", "Try next:"] {
        assert!(outcome.says(wanted), "no '{wanted}' in\n{}", outcome.stdout);
    }
    let results: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(results["plan"]["server_inside"], true);
    assert!(is_conserved(&results), "{results:#}");
    for name in ["closed", "open"] {
        let stage = stage(&results, name);
        assert_eq!(failures_total(stage, "request_failures"), 0, "{stage:#}");
        assert!(stage["server_cpu_s"].as_f64() > Some(0.0) && stage["generator_cpu_s"].as_f64() > Some(0.0));
    }
}
