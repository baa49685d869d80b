//! Several runs have medians and intervals, a warm-up is in no figure, and `compare` tells change from chance.

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Server, is_conserved, loadgen, measure};

fn stages<'a>(results: &'a Value, name: &str) -> Vec<&'a Value> {
    results["stages"].as_array().unwrap().iter().filter(|stage| stage["stage"] == name).collect()
}

#[test]
fn runs_stand_side_by_side_and_a_warm_up_stands_apart() {
    let server = Server::good();
    let line = format!("open {} -c 8 -R 1k --arrival constant -d 200ms --warmup 100ms --runs 3", server.address);
    let (code, results) = measure(&line);
    assert_eq!(code, Some(0), "{results:#}");
    let open = stages(&results, "open");
    let due: Vec<_> = open.iter().map(|stage| (stage["is_warmup"] == true, stage["requests_due"].as_u64())).collect();
    assert_eq!(due, [(true, Some(100)), (false, Some(200)), (false, Some(200)), (false, Some(200))]);
    assert_eq!(open.iter().map(|stage| stage["run"].as_u64()).collect::<Vec<_>>(), [None, Some(1), Some(2), Some(3)]);
    assert_eq!(results["runs"]["runs"], 3);
    let first = &results["runs"]["figures"][0];
    assert_eq!(first["name"], "answered_per_s");
    let median = first["median"].as_f64().unwrap();
    assert!(open[1..].iter().any(|stage| stage["answered_per_s"].as_f64() == Some(median)), "of three, the middle one");
    assert!(is_conserved(&results));
    let text = loadgen(&(line + " -q")).stdout;
    for wanted in ["Warm-up ", "3 runs of 200 ms", "600 due = 600 answered", "95 % interval of the mean"] {
        assert!(text.contains(wanted), "no '{wanted}' in\n{text}");
    }
}

/// Results with the given rates, as `loadgen --json` writes them.
fn results(path: &Path, rates: &[f64]) {
    let stages: Vec<Value> = rates
        .iter()
        .map(|rate| serde_json::json!({ "stage": "closed", "answered_per_s": rate, "latency": {} }))
        .collect();
    fs::write(path, serde_json::json!({ "format": 1, "stages": stages }).to_string()).unwrap();
}

#[test]
fn compare_finds_what_is_really_worse_and_nothing_else() {
    let folder = std::env::temp_dir().join(format!("loadgen-compare-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name);
    results(&file("a"), &[1000.0, 1010.0, 990.0, 1005.0, 995.0]);
    results(&file("same"), &[1003.0, 998.0, 1012.0, 991.0, 1001.0]);
    results(&file("worse"), &[900.0, 910.0, 890.0, 905.0, 895.0]);
    results(&file("one"), &[500.0]);
    let compare =
        |after: &str, rest: &str| loadgen(&format!("compare {} {} {rest}", file("a").display(), file(after).display()));
    let codes =
        [("same", ""), ("worse", ""), ("worse", "--tolerance 15"), ("one", "")].map(|(b, rest)| compare(b, rest).code);
    assert_eq!(codes, [Some(0), Some(5), Some(0), Some(4)], "of one run nobody can tell");
    let tolerances = ["inf", "nan", "-1"].map(|it| compare("same", &format!("--tolerance={it}")).code);
    assert_eq!(tolerances, [Some(2); 3]);
    let json = compare("worse", "--json").json();
    assert_eq!((&json["is_worse"], &json["figures"][0]["finding"]), (&true.into(), &"worse".into()));
    let kept = file("kept");
    let beside = compare("worse", &format!("--json={}", kept.display()));
    assert!(beside.code == Some(5) && beside.stdout.contains("WORSE"), "{}", beside.stdout);
    assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(kept).unwrap()).unwrap(), json);
    assert_eq!(compare("worse", "--json=/nowhere/at/all").code, Some(1));
    assert!(compare("one", "").stdout.contains("no telling"));
    // Real results are comparable with themselves.
    let server = Server::good();
    let line = format!("rr {} -c 4 -d 100ms --runs 2 -q --json {}", server.address, file("real").display());
    assert_eq!(loadgen(&line).code, Some(0));
    let advised = loadgen(&format!("rr {} -c 4 -d 50ms -q --json - --runs", server.address)).json();
    let closed = |stage: &&Value| stage["stage"] == "closed";
    assert_eq!(advised["stages"].as_array().unwrap().iter().filter(closed).count(), 5, "as many as `compare` wants");
    let real = file("real");
    assert_eq!(loadgen(&format!("compare {} {}", real.display(), real.display())).code, Some(0));
    fs::write(file("bad"), "{}").unwrap();
    let bad = compare("bad", "");
    assert_eq!(bad.code, Some(1));
    assert!(bad.stderr.contains("no results of `loadgen --json`"), "{}", bad.stderr);
    fs::remove_dir_all(folder).unwrap();
}
