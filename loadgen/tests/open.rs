//! In an open loop the number of requests due is what arithmetic says, whatever the server does.

mod support;

use std::process::{Child, Command, Stdio};

use support::{SIZE, Server, failures, is_conserved, loadgen, measure, stage};

#[test]
fn what_was_due_is_rate_times_time_and_all_of_it_is_answered() {
    let server = Server::good();
    for threads in [1, 2, 3] {
        let line = format!("open {} -c 20 -R 1k --arrival constant -d 500ms --threads {threads}", server.address);
        let (code, results) = measure(&line);
        assert_eq!(code, Some(0), "{results:#}");
        let open = stage(&results, "open");
        assert_eq!((&open["requests_due"], &open["requests_answered"]), (&500.into(), &500.into()), "{open:#}");
        for histogram in ["latency", "service", "send_lag"] {
            assert_eq!(open[histogram]["samples"], 500, "{histogram}");
        }
        assert_eq!(open["rate_target_per_s"], 1000.0);
        assert!(is_conserved(&results));
    }
}

#[test]
fn the_report_shows_latency_service_and_lag_side_by_side() {
    let server = Server::good();
    let outcome = loadgen(&format!("open {} -c 5 -R 200 --arrival constant -d 300ms", server.address));
    assert!(outcome.stdout.starts_with("Open loop · "), "{}", outcome.stdout);
    for wanted in
        ["latency", "service", "send lag", "200 requests/s due", "60 due = 60 answered", "in the window of 300 ms + "]
    {
        assert!(outcome.says(wanted), "no '{wanted}' in\n{}", outcome.stdout);
    }
}

#[test]
fn a_server_that_never_answers_leaves_nothing_out_of_the_sum() {
    let server = Server::start(|_, stream| {
        support::echo_with_fault(stream, 0, |_, message| {
            message.clear();
            true
        })
    });
    // Each connection takes one request and keeps it until its timeout; the others wait for a connection for ever.
    let (code, results) =
        measure(&format!("open {} -c 4 -R 100 --arrival constant -d 300ms --timeout 100ms", server.address));
    assert_eq!(code, Some(1));
    let open = stage(&results, "open");
    assert_eq!(failures(open, "request_failures", "timed out"), 4, "{open:#}");
    assert_eq!(open["requests_answered"], 0);
    assert!(open["requests_unfinished"].as_u64() > Some(0));
    assert!(is_conserved(&results), "{open:#}");
}

#[test]
fn what_was_sent_and_never_answered_has_timed_out_to_the_last_request() {
    let server = Server::start(|_, stream| {
        support::echo_with_fault(stream, 0, |_, message| {
            message.clear();
            true
        })
    });
    for _ in 0..3 {
        let line = format!("open {} -c 400 -R 1k --arrival constant -d 300ms --timeout 170ms", server.address);
        let (_, results) = measure(&line);
        let open = stage(&results, "open");
        assert_eq!(failures(open, "request_failures", "timed out"), 300, "{open:#}");
        assert_eq!((&open["requests_due"], &open["requests_unfinished"]), (&300.into(), &0.into()));
        assert!(is_conserved(&results), "{open:#}");
    }
}

#[test]
fn requests_that_wait_for_a_connection_are_late_from_their_due_moment() {
    // One connection at 10 ms an answer takes at most 100 requests a second; twice as many are due.
    let server = Server::start(|_, stream| {
        let slow = |stream: std::net::TcpStream| {
            use std::io::{Read, Write};
            let mut stream = stream;
            let mut message = [0; SIZE];
            while stream.read_exact(&mut message).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(10));
                if stream.write_all(&message).is_err() {
                    break;
                }
            }
        };
        slow(stream);
    });
    let (code, results) = measure(&format!("open {} -c 1 -R 200 --arrival constant -d 2s", server.address));
    let open = stage(&results, "open");
    assert_eq!(open["requests_due"], 400);
    assert!(is_conserved(&results));
    let max = |histogram: &str| open[histogram]["max_ns"].as_u64().unwrap();
    assert_eq!(results["is_ok"], true, "late is not lost");
    let verdict = &results["verdict"];
    assert_eq!((code, &verdict["verdict"]), (Some(4), &"suspect".into()), "{verdict:#}");
    assert!(verdict["reasons"][0].as_str().unwrap().starts_with("achieved "), "{verdict:#}");
    // The last of them waits for at least 100 × 10 ms less its own due moment: half a second is a safe bound.
    assert!(max("send_lag") > 500_000_000 && max("latency") >= max("send_lag"), "{open:#}");
}

/// Programs that use up a core. They end when this is dropped.
struct Hogs(Vec<Child>);

impl Hogs {
    /// `None`: nobody here can bind a program to that core.
    fn on(core: usize, count: usize) -> Option<Hogs> {
        let mut hogs = Hogs(Vec::new());
        for _ in 0..count {
            let words = ["-c", &core.to_string(), "sh", "-c", "while :; do :; done"];
            hogs.0.push(Command::new("taskset").args(words).stderr(Stdio::null()).spawn().ok()?);
        }
        // A core that is not there ends it at once.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let all_run = hogs.0.iter_mut().all(|hog| matches!(hog.try_wait(), Ok(None)));
        all_run.then_some(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

#[test]
fn a_generator_without_a_processor_says_so_and_does_not_blame_the_server() {
    let server = Server::good();
    let Some(_hogs) = Hogs::on(1, 4) else { return support::skip("there is no core 1, or no taskset") };
    // So few requests that it is hardly ever ready to run; but when it is, it has to wait.
    let (code, results) = measure(&format!("open {} -c 20 -R 100 -d 3s --cores 1", server.address));
    assert_eq!(code, Some(4), "{results:#}");
    let reasons = results["verdict"]["reasons"].to_string();
    assert!(reasons.contains("ready to run, but had no processor"), "{reasons}");
    assert!(!reasons.contains("waiting for the server"), "{reasons}");
    assert!(stage(&results, "open")["generator_waited_s"].as_f64() > Some(0.0));
}
