//! Several runs have medians and intervals, a warm-up is in no figure, and `compare` tells change from chance.

mod support;

use std::fs;

use serde_json::Value;
use support::{Server, is_conserved, joined, loadgen, measure};

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
    let text = loadgen(&(line + " -q"));
    for wanted in ["Warm-up ", "3 runs of 200 ms", "600 due = 600 answered", "95 % interval of the mean"] {
        assert!(text.says(wanted), "no '{wanted}' in\n{}", text.stdout);
    }
}

/// `real` results with a run for each of these rates.
fn with_rates(real: &Value, rates: &[f64]) -> Value {
    let mut results = real.clone();
    let run = stages(real, "closed")[0];
    let runs = rates.iter().map(|rate| {
        let mut run = run.clone();
        run["window_s"] = (run["requests_answered_in_window"].as_f64().unwrap() / rate).into();
        run["answered_per_s"] = (*rate).into();
        run
    });
    results["stages"] = runs.collect();
    results
}

#[test]
fn compare_finds_what_is_really_worse_and_nothing_else() {
    let folder = std::env::temp_dir().join(format!("loadgen-compare-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name);
    let server = Server::good();
    let line = format!("rr {} -c 4 -d 100ms --runs 2 -q --json {}", server.address, file("real").display());
    assert_eq!(loadgen(&line).code, Some(0));
    let real: Value = serde_json::from_str(&fs::read_to_string(file("real")).unwrap()).unwrap();
    let results = |name: &str, rates: &[f64]| fs::write(file(name), with_rates(&real, rates).to_string()).unwrap();
    results("a", &[1000.0, 1010.0, 990.0, 1005.0, 995.0]);
    results("same", &[1003.0, 998.0, 1012.0, 991.0, 1001.0]);
    results("worse", &[900.0, 910.0, 890.0, 905.0, 895.0]);
    results("one", &[500.0]);
    let compare =
        |after: &str, rest: &str| loadgen(&format!("compare {} {} {rest}", file("a").display(), file(after).display()));
    let codes =
        [("same", ""), ("worse", ""), ("worse", "--tolerance 15"), ("one", "")].map(|(b, rest)| compare(b, rest).code);
    assert_eq!(codes, [Some(0), Some(5), Some(0), Some(4)], "of one run nobody can tell");
    let tolerances = ["inf", "nan", "-1"].map(|it| compare("same", &format!("--tolerance={it}")).code);
    assert_eq!(tolerances, [Some(2); 3]);
    let json = compare("worse", "--json").json();
    assert_eq!((&json["is_worse"], &json["figures"][0]["finding"]), (&true.into(), &"worse".into()));
    let target = server.address.to_string();
    for (index, name) in ["a", "worse"].into_iter().enumerate() {
        let told = &json["files"][index];
        assert_eq!(
            (&told["name"], &told["target"]),
            (&file(name).display().to_string().into(), &target.clone().into())
        );
        assert!(told["command"].is_array() && told["machine"]["cores"].is_u64() && told["version"].is_string());
    }
    assert_eq!((&json["version"], &json["command"][1]), (&env!("CARGO_PKG_VERSION").into(), &"compare".into()));
    let kept = file("kept");
    let beside = compare("worse", &format!("--json={}", kept.display()));
    assert!(beside.code == Some(5) && beside.stdout.contains("WORSE"), "{}", beside.stdout);
    for name in ["a", "worse"] {
        let line = beside.stdout.lines().find(|line| line.contains(&file(name).display().to_string())).unwrap();
        assert!(line.contains(&target), "each file with its server: {line}");
    }
    let mut again: Value = serde_json::from_str(&fs::read_to_string(kept).unwrap()).unwrap();
    again["command"] = json["command"].clone();
    assert_eq!(again, json);
    assert_eq!(compare("worse", "--json=/nowhere/at/all").code, Some(1));
    assert!(compare("one", "").stdout.contains("no telling"));
    // Real results are comparable with themselves.
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

/// What a user changes between two measurements is the server: with another load nobody can tell whose a difference is.
#[test]
fn other_loads_are_shown_and_not_judged_unless_that_is_meant() {
    let folder = std::env::temp_dir().join(format!("loadgen-unlike-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let (one, other) = (Server::good(), Server::good());
    let measured = |name: &str, line: &str| {
        let outcome = loadgen(&format!("{line} --runs 2 -q --json {}", file(name)));
        assert_eq!(outcome.code, Some(0), "{line}: {}", outcome.stderr);
    };
    measured("few", &format!("rr {} -c 2 -d 100ms", one.address));
    measured("elsewhere", &format!("rr {} -c 2 -d 100ms", other.address));
    measured("many", &format!("rr {} -c 20 -d 100ms", one.address));
    measured("long", &format!("rr {} -c 2 -d 200ms", one.address));
    measured("large", &format!("rr {} -c 2 -d 100ms -s 4KiB", one.address));
    measured("open", &format!("open {} -c 2 -d 100ms -R 500", one.address));
    measured("faster", &format!("open {} -c 2 -d 100ms -R 1k", one.address));
    let compare = |before: &str, after: &str, rest: &str| {
        let outcome = loadgen(&format!("compare {} {} {rest}", file(before), file(after)));
        (outcome.code, joined(&outcome.stdout))
    };
    let (code, said) = compare("few", "elsewhere", "");
    assert!(matches!(code, Some(0 | 5)) && !said.contains("NOT JUDGED"), "another server is what it is for: {said}");
    for (before, after, wanted) in [
        ("few", "many", "the number of connections (-c) was 2, then 20"),
        ("few", "long", "the duration of a run (-d) was 100 ms, then 200 ms"),
        ("few", "large", "the size of a message (-s) was 64 B, then 4.00 KiB"),
        ("few", "open", "the kind of loop was closed, then open"),
        ("open", "faster", "the rate (-R) was 500/s, then 1,000/s"),
    ] {
        let (code, said) = compare(before, after, "");
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains(wanted) && said.contains("NOT JUDGED: the loads differ"), "no '{wanted}' in {said}");
        assert!(said.contains("add --unlike") && !said.contains("WORSE") && !said.contains("BETTER"), "{said}");
        let (code, said) = compare(before, after, "--unlike");
        assert!(matches!(code, Some(0 | 5)) && said.contains(wanted) && !said.contains("NOT JUDGED"), "{said}");
    }
    let json = loadgen(&format!("compare {} {} --json", file("few"), file("many"))).json();
    assert_eq!((&json["is_judged"], &json["is_worse"]), (&false.into(), &false.into()));
    assert_eq!((&json["differences"][0]["before"], &json["differences"][0]["after"]), (&"2".into(), &"20".into()));
    fs::remove_dir_all(folder).unwrap();
}
