//! Results as files: what each format says is what the others say, read by those who read such formats.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::{Server, loadgen, skip, stage};

/// A folder of its own for each test.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("loadgen-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A run with all of them, and its JSON.
fn run(folder: &std::path::Path) -> Value {
    let server = Server::good();
    let at = |name: &str| folder.join(name).display().to_string();
    let files = ["json", "hgrm", "hlog", "csv", "html"].map(|format| format!("--{format} {}", at(format))).join(" ");
    let outcome = loadgen(&format!("open {} -c 10 -R 2k -d 1s -q {files}", server.address));
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with("Open loop"), "the text goes to standard output all the same");
    serde_json::from_str(&fs::read_to_string(folder.join("json")).unwrap()).unwrap()
}

#[test]
fn all_formats_have_the_same_samples() {
    let folder = folder("formats");
    let results = run(&folder);
    let samples = stage(&results, "open")["latency"]["samples"].as_u64().unwrap();
    let hgrm = fs::read_to_string(folder.join("hgrm")).unwrap();
    assert!(hgrm.contains(&format!("Total count    = {samples:>12}]")), "{hgrm}");
    let csv = fs::read_to_string(folder.join("csv")).unwrap();
    let answered = csv.lines().filter(|line| line.starts_with("open,")).map(|line| line.split(',').nth(3).unwrap());
    assert_eq!(answered.map(|number| number.parse::<u64>().unwrap()).sum::<u64>(), samples, "{csv}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn hdrhistograms_own_reader_accepts_the_log() {
    let program = "
import sys
from hdrh.log import HistogramLogReader
from hdrh.histogram import HdrHistogram
whole = HdrHistogram(1, 3600 * 10**9, 3)
reader = HistogramLogReader(sys.argv[1], whole)
while True:
    interval = reader.get_next_interval_histogram()
    if interval is None:
        break
    whole.add(interval)
p99 = int(sys.argv[2])
below = sum(it.count_added_in_this_iter_step for it in whole.get_recorded_iterator() if it.value_iterated_to < p99)
same = whole.get_count_at_value(p99)
print(whole.get_total_count(), whole.get_max_value(), below < 0.99 * whole.get_total_count() <= below + same)
";
    let has_it = Command::new("python3").args(["-c", "import hdrh"]).output().is_ok_and(|out| out.status.success());
    if !has_it {
        return skip("the Python package hdrhistogram is not installed");
    }
    let folder = folder("hlog");
    let results = run(&folder);
    let latency = &stage(&results, "open")["latency"];
    let p99_ns = latency["p99_ns"].to_string();
    let output = Command::new("python3").args(["-c", program]).arg(folder.join("hlog")).arg(p99_ns).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Which rank a percentile has, of two, is no matter of the format; that its value lies there is.
    let wanted = format!("{} {} True", latency["samples"], latency["max_ns"]);
    assert_eq!(said.trim(), wanted);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_browser_shows_the_page() {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success());
    let Some(browser) = browsers.into_iter().find(runs) else { return skip("no Chromium is installed") };
    let folder = folder("html");
    run(&folder);
    // A browser knows a page by its name.
    fs::rename(folder.join("html"), folder.join("page.html")).unwrap();
    let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                 --disable-component-update --disable-sync --enable-logging=stderr --dump-dom --window-size=360,800";
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    let page = format!("file://{}", folder.join("page.html").display());
    let output = Command::new(browser).args(flags.split_whitespace()).args([&profile, &page]).output().unwrap();
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(dom.matches("<svg").count(), 5, "{log}");
    assert!(dom.contains("Latency by percentile") && !log.contains("CONSOLE"), "{log}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_cannot_be_written_and_two_for_standard_output_are_told_before_the_run() {
    let outcome = loadgen("rr 127.0.0.1:1 -q --html /proc/none/page.html");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("/proc/none/page.html"), "{}", outcome.stderr);
    assert_eq!(loadgen("rr 127.0.0.1:1 -q --json - --csv -").code, Some(2));
    let server = Server::good();
    let csv = loadgen(&format!("rr {} -c 2 -d 100ms -q --csv -", server.address)).stdout;
    assert!(csv.starts_with("stage,begin_s,"), "{csv}");
}
