//! The page of a run: its command can be typed again, and it says of what it is what it is.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{Server, command};

/// A file of this test's own.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("loadgen page {name} {}.html", std::process::id()))
}

/// Runs loadgen with the arguments of `line` and these besides; its exit code, and its page.
fn page(line: &str, more: &[&str], name: &str) -> (Option<i32>, String) {
    let path = path(name);
    let output = command(&format!("{line} --quiet --html")).arg(&path).args(more).output().unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    (output.status.code(), page)
}

#[test]
fn its_command_can_be_pasted_into_a_shell() {
    let server = Server::start(|_, mut stream| {
        use std::io::{Read, Write};
        let mut request = [0; 8];
        while stream.read_exact(&mut request).is_ok() && stream.write_all(b"it's $1\r\n").is_ok() {}
    });
    let more = ["--send", r"a  $(b)'", "--expect", r"it's $1\r\n", "--slo", "err<99%"];
    let (code, page) = page(&format!("rr {} -c 2 -d 300ms", server.address), &more, "command");
    assert_eq!(code, Some(0), "{page}");
    let row = page.split("<td>Command</td><td>").nth(1).unwrap().split("</td>").next().unwrap();
    let typed = row.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").replace("&amp;", "&");
    // Its page goes where the first one went.
    let again = Command::new("sh").args(["-c", &typed]).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{typed}: {}", String::from_utf8_lossy(&again.stderr));
    std::fs::remove_file(path("command")).unwrap();
}

#[test]
fn connections_that_are_held_are_counted_with_and_without_heartbeats() {
    let server = Server::good();
    for (more, heads) in [
        (&[][..], ["<h2>Held</h2>"].as_slice()),
        (&["--heartbeat", "100ms"], &["<h2>Held</h2>", "<h2>Heartbeats</h2>"]),
    ] {
        let (code, page) = page(&format!("hold {} -c 7 -d 400ms", server.address), more, "hold");
        assert_eq!(code, Some(0), "{page}");
        for wanted in heads.iter().chain(&["<strong>7</strong><span class=\"dim\">connections held", "7 of 7</strong>"])
        {
            assert!(page.contains(wanted), "no {wanted} in {page}");
        }
        assert!(page.contains("<strong>0</strong><span class=\"dim\">lost meanwhile"), "{page}");
    }
}

#[test]
fn several_runs_lie_over_each_other() {
    let server = Server::good();
    let (code, page) = page(&format!("rr {} -c 2 -d 200ms --runs 3", server.address), &[], "runs");
    assert_eq!(code, Some(0), "{page}");
    assert!(page.contains("<h3>Latency by percentile, all runs"), "{page}");
    assert_eq!((page.matches("line thin").count(), page.matches("line blue bold").count()), (3, 1), "{page}");
}

#[test]
fn connections_that_come_and_go_and_fail_are_told_apart() {
    let server = Server::good();
    let line = format!("churn {},127.0.0.1:1 -c 2 -d 300ms --threads 1", server.address);
    let (code, page) = page(&line, &[], "churn");
    assert_eq!(code, Some(1), "{page}");
    for wanted in ["<h3>Connections a second</h3>", "<h3>Connects a second<span", ">failed<", "2 by 1 thread, "] {
        assert!(page.contains(wanted), "no {wanted} in {page}");
    }
    assert!(
        page.contains("; begun 20") && page.contains("<b>FAILED</b>") && !page.contains("Answers a second"),
        "{page}"
    );
}
