//! Several processes are one load, and their results one result: nothing is lost, doubled or averaged on the way.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;
use support::{
    SIZE, Server, command, echo, failures, is_conserved, joined, line_with, lines, loadgen, measure, signal, skip,
    stage, start,
};

/// How many processes share the load of these tests.
const SHARDS: usize = 3;

/// What they are to begin at: late enough for all of them to be ready.
fn soon(seconds: u64) -> u64 {
    (SystemTime::now() + Duration::from_secs(seconds)).duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("loadgen-merge-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The results of three processes that measured `loadgen serve` at the same time, each as it was written, and when that was.
static PARTS: LazyLock<(u64, Vec<String>)> = LazyLock::new(|| {
    let mut server = start("serve --listen 127.0.0.1:0 --shards 1");
    let mut said = lines(server.stdout.take());
    let listening = line_with(&mut said, "listening on");
    let address = listening.split_whitespace().nth(2).unwrap().to_owned();
    let load = format!("open {address} -c 20 -R 1k --arrival constant -d 2s --threads 1 --seed 7 -q --json -");
    let at = soon(5);
    let shards: Vec<_> =
        (0..SHARDS).map(|shard| start(&format!("{load} --start-at {at} --shard {shard}/{SHARDS}"))).collect();
    let outputs: Vec<_> = shards.into_iter().map(|shard| shard.wait_with_output().unwrap()).collect();
    signal(&server, "TERM");
    // What the other end counted is the whole, whoever sent it: 2,000 messages of 64 bytes.
    let stopped = line_with(&mut said, "stopped");
    assert!(stopped.contains("20 connections accepted, 125 KiB received, 125 KiB sent"), "{stopped}");
    server.wait().unwrap();
    let text = |output: std::process::Output| {
        let (code, said) = (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(matches!(code, Some(0 | 4)), "{code:?} {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    (at, outputs.into_iter().map(text).collect())
});

/// Them in files of a folder.
fn files(folder: &std::path::Path) -> Vec<String> {
    let written = PARTS.1.iter().enumerate().map(|(index, text)| {
        let path = folder.join(format!("{index}.json"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    });
    written.collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn number(results: &Value, field: &str) -> u64 {
    stage(results, "open")[field].as_u64().unwrap()
}

/// Each value of a histogram of the open loop with how often it was seen.
fn buckets(results: &Value, field: &str) -> Vec<(u64, u64)> {
    let bytes = STANDARD.decode(stage(results, "open")[field]["histogram"].as_str().unwrap()).unwrap();
    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
    histogram.iter_recorded().map(|it| (it.value_iterated_to(), it.count_at_value())).collect()
}

#[test]
fn the_sum_has_every_bucket_and_every_count_of_its_parts() {
    let folder = folder("sum");
    let (code, whole) = measure(&format!("merge {}", files(&folder).join(" ")));
    assert!(matches!(code, Some(0 | 4)), "{whole:#}");
    let parts: Vec<Value> = PARTS.1.iter().map(|text| json(text)).collect();
    for field in ["latency", "service", "send_lag"] {
        let mut expected = std::collections::BTreeMap::new();
        for (value, count) in parts.iter().flat_map(|part| buckets(part, field)) {
            *expected.entry(value).or_insert(0) += count;
        }
        assert_eq!(buckets(&whole, field), expected.into_iter().collect::<Vec<_>>(), "{field}");
    }
    for field in ["requests_due", "requests_answered", "bytes_sent", "bytes_received", "resident_bytes"] {
        assert_eq!(number(&whole, field), parts.iter().map(|part| number(part, field)).sum::<u64>(), "{field}");
    }
    assert_eq!(number(&whole, "requests_due"), 2000, "that of one process at this rate");
    assert_eq!(stage(&whole, "connect")["connections_established"], 20);
    assert_eq!(stage(&whole, "open")["rate_target_per_s"], 1000.0);
    assert_eq!((&whole["plan"]["connections"], &whole["plan"]["threads"]), (&20.into(), &3.into()));
    assert!(is_conserved(&whole));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn hdrhistograms_own_reader_finds_the_same_sum() {
    let program = "
import json, sys
from collections import Counter
from hdrh.histogram import HdrHistogram
def counts(path):
    stage = next(stage for stage in json.load(open(path))['stages'] if stage['stage'] == 'open')
    histogram = HdrHistogram.decode(stage['latency']['histogram'])
    steps = histogram.get_recorded_iterator()
    return Counter({step.value_iterated_to: step.count_added_in_this_iter_step for step in steps})
whole, *parts = map(counts, sys.argv[1:])
print(sum(whole.values()), whole == sum(parts, Counter()))
";
    let has_it = Command::new("python3").args(["-c", "import hdrh"]).output().is_ok_and(|out| out.status.success());
    if !has_it {
        return skip("the Python package hdrhistogram is not installed");
    }
    let folder = folder("hdrh");
    let (files, whole) = (files(&folder), folder.join("whole.json"));
    loadgen(&format!("merge {} --json {}", files.join(" "), whole.display()));
    let output = Command::new("python3").args(["-c", program]).arg(whole).args(files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim(), "2000 True");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn shards_say_which_they_are_and_begin_when_they_were_asked_to() {
    let (at, texts) = &*PARTS;
    let parts: Vec<Value> = texts.iter().map(|text| json(text)).collect();
    let said: Vec<_> = parts.iter().map(|part| &part["plan"]["shard"]).collect();
    let expected: Vec<Value> =
        (0..SHARDS).map(|index| serde_json::json!({ "index": index, "count": SHARDS })).collect();
    assert_eq!(said, expected.iter().collect::<Vec<_>>());
    let connections: Vec<_> = parts.iter().map(|part| part["plan"]["connections"].as_u64().unwrap()).collect();
    assert_eq!(connections, [6, 7, 7]);
    let begins: Vec<_> =
        parts.iter().map(|part| stage(part, "open")["window_begin_unix_s"].as_f64().unwrap()).collect();
    // Later only where a machine let none of its threads run: then the sum is SUSPECT.
    assert!(begins.iter().all(|begin| *begin >= *at as f64), "{begins:?} of {at}");
}

#[test]
fn a_sum_reads_like_a_run_and_can_be_merged_and_compared_again() {
    let folder = folder("again");
    let files = files(&folder);
    let [two, whole] = ["two.json", "whole.json"].map(|name| folder.join(name).display().to_string());
    let suspect = loadgen(&format!("merge {} {} --json {two}", files[0], files[2]));
    assert_eq!(suspect.code, Some(4));
    let said = joined(&suspect.stdout);
    for wanted in
        ["SUSPECT: shard 1 of 3 is missing", "Open loop · ", "Parts 2 results added up, of 1 machine", "OK: every byte"]
    {
        assert!(said.contains(wanted), "no '{wanted}' in\n{}", suspect.stdout);
    }
    let formats = ["json", "hgrm", "html"].map(|it| format!("--{it} {}", folder.join(format!("whole.{it}")).display()));
    let merged = loadgen(&format!("merge {} {two} --slo p50<1us,rate>1 {}", files[1], formats.join(" ")));
    assert_eq!(merged.code, Some(3), "a condition of the sum: {}", merged.stdout);
    let results = json(&fs::read_to_string(&whole).unwrap());
    assert_eq!((number(&results, "requests_due"), results["parts"].as_array().unwrap().len()), (2000, SHARDS));
    assert!(!results["verdict"].to_string().contains("missing"), "the third shard was there in the end");
    let hgrm = fs::read_to_string(folder.join("whole.hgrm")).unwrap();
    assert!(hgrm.contains(&format!("Total count    = {:>12}]", number(&results, "requests_answered"))), "{hgrm}");
    let page = fs::read_to_string(folder.join("whole.html")).unwrap();
    assert!(page.contains("Latency by percentile"));
    for (index, part) in results["parts"].as_array().unwrap().iter().enumerate() {
        let shard = format!("{index}/{SHARDS}");
        assert!(part["command"].as_array().unwrap().contains(&shard.as_str().into()), "{part:#}");
        assert!(page.contains(&format!("--shard {shard}")), "the page shows how each was made");
    }
    // A machine that stands still lets the parts begin apart, and what was not one load is not drawn as one.
    let windows = results["parts"].as_array().unwrap().iter().map(|part| &part["windows"][0]);
    let begins: Vec<f64> = windows.map(|window| window["begin_unix_s"].as_f64().unwrap()).collect();
    let late_s = begins.iter().fold(0.0, |late: f64, begin| late.max(begin - PARTS.0 as f64));
    let course = &stage(&results, "open")["latency_over_time"];
    if late_s <= 0.09 {
        for title in ["<h3>Latency over time", "<h3>Answers a second"] {
            assert!(page.contains(title), "no {title}");
        }
        assert!(course["histograms"].as_array().unwrap().len() >= 8, "of a quarter of a second each: {course}");
    } else {
        skip("the parts did not begin at the same time, so there is nothing to be drawn over time");
    }
    let compared = loadgen(&format!("compare {whole} {whole}"));
    assert_eq!(compared.code, Some(4), "of one run nobody can tell: {}", compared.stderr);
    assert!(compared.stdout.contains("+0.0 %"), "{}", compared.stdout);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn logs_of_pods_are_one_file_of_several_results() {
    let folder = folder("logs");
    let log = folder.join("pods.log");
    fs::write(&log, format!("{}loadgen: a line of standard error\n{}{}", PARTS.1[2], PARTS.1[0], PARTS.1[1])).unwrap();
    let (_, whole) = measure(&format!("merge {}", log.display()));
    assert_eq!(number(&whole, "requests_due"), 2000);
    let names: Vec<_> = whole["parts"].as_array().unwrap().iter().map(|part| &part["name"]).collect();
    assert_eq!(names, ["shard 0/3", "shard 1/3", "shard 2/3"]);
    fs::write(&log, format!("{}{}", PARTS.1[0], PARTS.1[0])).unwrap();
    let twice = loadgen(&format!("merge {}", log.display()));
    assert_eq!(twice.code, Some(4));
    assert!(twice.stdout.contains("shard 0 of 3 is there more"), "{}", twice.stdout);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_no_result_is_refused_and_named() {
    let folder = folder("refused");
    let file = folder.join("odd.json");
    let merged = |text: &str| {
        fs::write(&file, text).unwrap();
        let outcome = loadgen(&format!("merge {}", file.display()));
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("odd.json"), "{}", outcome.stderr);
        outcome.stderr
    };
    assert!(merged("nothing").contains("no JSON object"));
    assert!(merged("{\"format\": 1").contains("no JSON at line 1, column 12"));
    let other = merged("{\"format\": 2, \"version\": \"9.0.0\"}");
    assert!(other.contains("format 2") && other.contains("loadgen 9.0.0 wrote it"), "{other}");
    for command in ["merge /dev/zero", "compare /dev/zero /dev/zero"] {
        let endless = loadgen(command);
        assert_eq!(endless.code, Some(1));
        assert!(endless.stderr.contains("/dev/zero: it is longer than 128 MiB"), "{}", endless.stderr);
    }
    let refused = loadgen("rr 127.0.0.1:1 --shard 0/2 --seed 1 -c 1 -q --json -");
    assert_eq!(refused.code, Some(2));
    assert!(merged(&refused.stdout).contains("nothing was run: -c 1 is fewer than 2 shards"));
    assert!(loadgen("merge /nowhere/a.json").stderr.contains("/nowhere/a.json"));
    let kept = fs::read_to_string(&file).unwrap();
    assert_eq!(loadgen(&format!("merge {0} --json {0}", file.display())).code, Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), kept, "no part is written over by what was wrong with it");
    let logs = loadgen(&format!("merge {} --hlog x", file.display()));
    assert_eq!(logs.code, Some(2));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_makes_no_sense_for_a_shard_is_refused_before_anything_is_opened() {
    for (line, wanted) in [
        ("rr 127.0.0.1:1 --shard 0/2", "--seed"),
        ("rr 127.0.0.1:1 --shard 2/2 --seed 1", "count from 0 to 1"),
        ("rr 127.0.0.1:1 --shard 2 --seed 1", "JOB_COMPLETION_INDEX"),
        ("hold --shard 0/2 --seed 1 -c 5", "without a target"),
        ("rr 127.0.0.1:1 --start-at 2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z has passed"),
        ("rr 127.0.0.1:1 --start-at tomorrow", "give 2026-11-25T10:00:00Z"),
    ] {
        let outcome = loadgen(&format!("{line} -q"));
        assert_eq!(outcome.code, Some(2), "{line}");
        assert!(outcome.stderr.contains(wanted), "{line}: {}", outcome.stderr);
    }
}

#[test]
fn a_pod_knows_its_number_from_its_job() {
    let server = Server::good();
    let line = format!("rr {} -c 4 -d 100ms --shard 4 --seed 1 -q --json -", server.address);
    let output = command(&line).env("JOB_COMPLETION_INDEX", "2").output().unwrap();
    let results = json(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(results["plan"]["shard"]["index"], 2);
    assert_eq!(results["plan"]["connections"], 1);
}

/// The arguments in kubernetes.yaml, of one container; for less load, and for a server that is here.
fn manifest_arguments(target: &str, at: u64) -> String {
    let manifest = include_str!("../kubernetes.yaml");
    let list = manifest.split("args:").nth(1).unwrap().split("resources:").next().unwrap();
    let arguments = list.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(" #").next());
    let arguments = arguments.map(str::trim).collect::<Vec<_>>().join(" ");
    let smaller = [("=40k", "=40"), ("=100k", "=400"), ("=30s", "=500ms"), ("--threads=2", "--threads=1")];
    let smaller = smaller.into_iter().fold(arguments, |all, (large, small)| {
        assert!(all.contains(large), "no {large} in {all}");
        all.replace(large, small)
    });
    smaller.replace("TARGET", target).replace("START_AT", &at.to_string())
}

#[test]
fn the_manifest_asks_for_a_load_that_its_pods_share() {
    let manifest = include_str!("../kubernetes.yaml");
    for line in ["completions: 4", "parallelism: 4", "- --shard=4"] {
        assert!(manifest.contains(line), "all three say how many shards there are: no {line}");
    }
    let server = Server::good();
    let arguments = manifest_arguments(&server.address.to_string(), soon(5));
    let pods: Vec<_> = (0..4)
        .map(|index| command(&arguments).env("JOB_COMPLETION_INDEX", index.to_string()).spawn().unwrap())
        .collect();
    let folder = folder("pods");
    let logs = pods.into_iter().map(|pod| String::from_utf8(pod.wait_with_output().unwrap().stdout).unwrap());
    fs::write(folder.join("pods.log"), logs.collect::<String>()).unwrap();
    let (code, whole) = measure(&format!("merge {}", folder.join("pods.log").display()));
    assert!(matches!(code, Some(0 | 4)), "{whole:#}");
    assert_eq!((&whole["plan"]["connections"], whole["parts"].as_array().unwrap().len()), (&40.into(), 4));
    // A machine that stands still lets them begin apart; nothing else may be wrong with them.
    let reasons = whole["verdict"]["reasons"].as_array().unwrap().iter().map(Value::to_string);
    assert!(reasons.clone().all(|reason| reason.contains("at the same time")), "{:?}", reasons.collect::<Vec<_>>());
    fs::remove_dir_all(folder).unwrap();
}

/// What one shard's connection sent comes back on another's: known as swapped, for the bytes of all shards are one load's.
#[test]
fn a_swap_between_shards_is_told() {
    let first = Mutex::new(Vec::new());
    let server = Server::start(move |number, mut stream| {
        let mut message = vec![0; SIZE];
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        if number == 0 {
            first.lock().unwrap().clone_from(&message);
        }
        let reply = first.lock().unwrap().clone();
        if stream.write_all(&reply).is_ok() {
            echo(stream);
        }
    });
    let load = format!("rr {} -c 2 -d 100ms --threads 1 --seed 7 --shard", server.address);
    let (code, _) = measure(&format!("{load} 0/2"));
    assert_eq!(code, Some(0));
    let (code, swapped) = measure(&format!("{load} 1/2"));
    assert_eq!((code, failures(stage(&swapped, "closed"), "request_failures", "swapped")), (Some(1), 1));
}

#[test]
fn who_is_not_ready_in_time_fails_and_who_waits_can_be_interrupted() {
    let server = Server::good();
    let load = format!("rr {} -c 40 -d 100ms", server.address);
    let late = loadgen(&format!("{load} --connect-rate 10 -q --start-at {}", soon(2)));
    assert_eq!(late.code, Some(1));
    assert!(late.stderr.contains("came before everything was ready"), "{}", late.stderr);
    let mut waiting = start(&format!("{load} --json - --start-at {}", soon(600)));
    line_with(&mut lines(waiting.stderr.take()), "waiting for ");
    signal(&waiting, "INT");
    let output = waiting.wait_with_output().unwrap();
    let results = json(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((output.status.code(), &results["ending"]), (Some(1), &"interrupted".into()));
    assert_eq!(stage(&results, "connect")["connections_established"], 40);
}

#[test]
fn a_warm_up_ends_before_the_moment_and_runs_follow_it() {
    let server = Server::good();
    let at = soon(6);
    let line = format!("rr {} -c 2 -d 500ms --warmup 500ms --runs 2 --threads 1 --start-at {at}", server.address);
    let (_, results) = measure(&line);
    let begins: Vec<_> = results["stages"].as_array().unwrap()[1..]
        .iter()
        .map(|stage| (stage["is_warmup"] == true, stage["window_begin_unix_s"].as_f64().unwrap() - at as f64))
        .collect();
    // Not before; and at once where the machine, or the run before, took longer.
    let asked = [(true, -1.5), (false, 0.0), (false, 1.5)];
    let kept = begins.iter().zip(asked).all(|(begin, asked)| begin.0 == asked.0 && begin.1 >= asked.1);
    assert!(kept && begins.len() == 3, "{begins:?}");
}

#[test]
fn connections_that_come_and_go_begin_when_they_were_asked_to_and_add_up() {
    let (folder, server) = (folder("churn"), Server::good());
    let at = soon(3);
    let load = format!("churn {} -c 10 -R 300 --arrival constant -d 1s --seed 3 -q --start-at {at}", server.address);
    let shards: Vec<_> = (0..2)
        .map(|shard| {
            start(&format!("{load} --shard {shard}/2 --json {}", folder.join(format!("{shard}.json")).display()))
        })
        .collect();
    for shard in shards {
        let output = shard.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let read = |name: &str| json(&fs::read_to_string(folder.join(name)).unwrap());
    let one = read("0.json");
    assert_eq!(stage(&one, "churn")["rate_target_per_s"], 150.0, "a shard's is its part");
    let names = ["0.json", "1.json"].map(|name| folder.join(name).display().to_string()).join(" ");
    let (_, whole) = measure(&format!("merge {names}"));
    let churn = stage(&whole, "churn");
    assert_eq!((&churn["requests_due"], &churn["rate_target_per_s"]), (&300.into(), &300.0.into()), "{churn:#}");
    let text = loadgen(&format!("merge {names}")).stdout;
    assert!(text.starts_with("Churn"), "{text}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn counts_that_cannot_be_are_refused() {
    let folder = folder("corrupt");
    let path = folder.join("0.json");
    let changes: [(&str, Value); 10] = [
        ("/stages/1/generator_busy_part", "NaN".into()),
        ("/stages/1/requests_unfinished", (-1).into()),
        ("/stages/1/latency/p50_ns", 1_000_000_000_000_u64.into()),
        ("/begun_at_unix_s", 1e19.into()),
        ("/stages/1/window_begin_unix_s", 1e19.into()),
        ("/connections/0/second", u64::MAX.into()),
        ("/plan/connections", u64::MAX.into()),
        ("/plan/shard/index", 7.into()),
        ("/stages/1/requests_due", u64::MAX.into()),
        ("/stages/1/requests_answered_in_window", 1_000_000.into()),
    ];
    for (field, value) in changes {
        let mut part = json(&PARTS.1[0]);
        *part.pointer_mut(field).unwrap_or_else(|| panic!("{field}")) = value;
        fs::write(&path, part.to_string()).unwrap();
        let output = loadgen(&format!("merge {}", path.display()));
        assert_eq!(output.code, Some(1), "{field}: {}", output.stderr);
        let named = field.rsplit('/').find(|name| name.parse::<u32>().is_err()).unwrap();
        let wanted = ["cannot merge ", &path.display().to_string(), ": its field ", named];
        assert!(wanted.iter().all(|part| output.stderr.contains(part)), "{field}: {}", output.stderr);
    }
    fs::remove_dir_all(folder).unwrap();
}
