//! Wrong usage ends with exit code 2 and a sentence that says what would be right; help teaches with examples.

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use support::{Server, command, loadgen, signal, start};

#[test]
fn wrong_usage_is_exit_code_2() {
    for (line, wanted) in [
        ("rr", "TARGET"),
        ("open 127.0.0.1:1", "--rate"),
        ("open 127.0.0.1:1", "--ramp"),
        ("rr http://127.0.0.1:1/ -s 100", "leave it out"),
        ("rr 127.0.0.1", "no port"),
        ("rr udp://127.0.0.1:1", "not a protocol"),
        ("rr 127.0.0.1:1 -c 0", "at least 1"),
        ("rr 127.0.0.1:1 -c many", "20k"),
        ("rr 127.0.0.1:1 -c -1", "'-1' is below zero: give a count"),
        ("open 127.0.0.1:1 -R -5", "'-5' is below zero: give a rate"),
        ("churn 127.0.0.1:1 -d -1.5", "'-1.5' is below zero: give a time"),
        ("rr 127.0.0.1:1 -d 5x", "500ms"),
        ("rr 127.0.0.1:1 -s 2000MiB", "8MiB"),
        ("open 127.0.0.1:1 -R 0", "20k"),
        ("rr 127.0.0.1:1 --connect-rate 0.000000000001", "between 0.001 and 1G"),
        ("rr 127.0.0.1:1 -s 2GiB", "at most 1GiB"),
        ("rr 127.0.0.1:1 --source ::1", "family"),
        ("rr 127.0.0.1:1 --threads 0", "1..=1024"),
        ("rr 127.0.0.1:1 --cores 1-", "0,2,4-7"),
        ("hold 127.0.0.1:1 --runs 3", "holds them once"),
        ("hold 127.0.0.1:1 --warmup 1s", "holds them once"),
        ("serve --listen nowhere", "nowhere"),
        ("fly", "fly"),
    ] {
        let outcome = loadgen(line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{line}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(wanted), "{line}: no '{wanted}' in {}", outcome.stderr);
    }
}

#[test]
fn help_says_nothing_of_what_is_refused() {
    for (command, options) in [("hold", ["--runs", "--warmup"]), ("merge", ["--csv", "--hlog"])] {
        let help = loadgen(&format!("{command} --help")).stdout;
        assert!(options.iter().all(|option| !help.contains(&format!("{option} "))), "{command}: {help}");
    }
}

#[test]
fn help_shows_examples_for_every_command() {
    for line in ["--help", "-h", "serve --help", "rr --help", "open -h", "hold --help", "doctor --help"] {
        let outcome = loadgen(line);
        assert_eq!(outcome.code, Some(0), "{line}");
        assert!(outcome.says("Example"), "{line}: {}", outcome.stdout);
    }
}

#[test]
fn a_result_file_that_cannot_be_written_is_noticed_before_the_run() {
    let outcome = loadgen("rr 127.0.0.1:1 -d 1h --json /no/such/folder/results.json");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("cannot write /no/such/folder/results.json"), "{}", outcome.stderr);
}

#[test]
fn two_formats_do_not_go_into_one_file_however_it_is_written() {
    let folder = std::env::temp_dir().join(format!("loadgen-one-file-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [one, other] = ["a", "./a"].map(|name| format!("{}/{name}", folder.display()));
    let outcome = loadgen(&format!("rr 127.0.0.1:1 --json {one} --csv {other}"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("each needs a file of its own"), "{}", outcome.stderr);
}

#[test]
fn what_this_machine_does_not_have_is_exit_code_1() {
    let outcome = loadgen("rr 127.0.0.1:1 --cores 65535");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("core 65535"), "{}", outcome.stderr);
}

#[test]
fn a_script_finds_an_object_whatever_went_wrong() {
    for (line, code, wanted) in [
        ("rr 127.0.0.1:1 --cores 65535 --json -", 1, "core 65535"),
        ("rr no-such-host.invalid:80 --json -", 1, "no-such-host.invalid"),
        ("rr 127.0.0.1:1 --source ::1 --json -", 2, "family"),
        ("rr 127.0.0.1 --json -", 2, "no port"),
        ("rr 127.0.0.1:1 -c 0 --json=-", 2, "at least 1"),
    ] {
        let outcome = loadgen(line);
        let results = outcome.json();
        assert_eq!((outcome.code, &results["is_ok"]), (Some(code), &false.into()), "{line}: {results:#}");
        assert!(results["problem"].as_str().unwrap().contains(wanted), "{line}: {results:#}");
        assert!(outcome.stderr.contains(wanted), "{line}: {}", outcome.stderr);
    }
}

#[test]
fn an_argument_need_not_be_utf_8() {
    let server = Server::good();
    let path = std::env::temp_dir().join(OsStr::from_bytes(b"loadgen-\xff-"));
    let path = path.with_extension(std::process::id().to_string());
    let mut command = command(&format!("rr {} -c 1 -d 200ms --json", server.address));
    assert_eq!(command.arg(&path).output().unwrap().status.code(), Some(0));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_fifo_that_nobody_reads_does_not_swallow_signals() {
    let path = std::env::temp_dir().join(format!("loadgen-fifo-{}", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut child = start(&format!("rr 127.0.0.1:1 --json {}", path.display()));
    while !catches_signals(child.id()) {
        std::thread::yield_now();
    }
    signal(&child, "TERM");
    let code = child.wait().unwrap().code();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code, Some(1));
}

#[test]
fn a_fifo_gives_its_reader_the_results() {
    let server = Server::good();
    let path = std::env::temp_dir().join(format!("loadgen-fifo-read-{}", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut child = start(&format!("rr {} -c 1 -d 200ms --quiet --json {}", server.address, path.display()));
    let results: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!((child.wait().unwrap().code(), &results["is_ok"]), (Some(0), &true.into()), "{results:#}");
}

/// Whether the process has a handler for SIGTERM: bit 14 of SigCgt, see proc_pid_status(5).
fn catches_signals(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap() & (1 << 14) != 0
}

#[test]
fn examples_in_the_help_can_be_typed_as_they_stand() {
    let help = loadgen("--help").stdout;
    for told in
        ["without a processor for more than 20 %", "is not counted", "no headers of one's own", "spelled as curl does"]
    {
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(told), "no '{told}' in {help}");
    }
    let redis = help.lines().find(|line| line.trim_start().starts_with("redis-benchmark -t ping")).unwrap();
    assert!(redis.ends_with(r"--send 'PING\r\n' --expect '+PONG\r\n'"), "{redis}");
    assert!(help.contains("Exit code: 0 all is well") && help.contains("wrk -t2 -c100"), "{help}");
    assert!(!loadgen("-h").stdout.contains("Exit code: 0 all is well"), "that is for the long one");
    assert!(help.contains(r"--send 'PING\r\n' --expect '+PONG\r\n'") && !help.contains('\r'), "{help}");
}

#[test]
fn a_target_without_a_command_is_told_which_there_are() {
    let outcome = loadgen("127.0.0.1:1234");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("`loadgen rr 127.0.0.1:1234`"), "{}", outcome.stderr);
    // As it was typed for another tool.
    let outcome = loadgen("-t2 -c100 -d30s --latency http://127.0.0.1:1234/");
    let tip = "`loadgen rr -t2 -c100 -d30s --latency http://127.0.0.1:1234/`";
    assert!(outcome.code == Some(2) && outcome.stderr.contains(tip), "{}", outcome.stderr);
    assert!(!loadgen("rr 127.0.0.1:1234 --no-such").stderr.contains("tip: to measure it"));
    let outcome = loadgen("bench http://127.0.0.1:1234/ -c 5");
    let tip = "'bench' is no command; to measure it: `loadgen rr http://127.0.0.1:1234/ -c 5`";
    assert!(outcome.code == Some(2) && outcome.stderr.contains(tip), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("'search'"), "what clap proposes is something else: {}", outcome.stderr);
    for line in ["rr http://127.0.0.1:1/ -H A:b", "rr http://127.0.0.1:1/ -m POST"] {
        let outcome = loadgen(line);
        assert!(outcome.code == Some(2) && outcome.stderr.contains("GET of a path"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("as a value"), "{}", outcome.stderr);
    }
}

/// That tip can be typed: the request is sent as it stands, and its reply known by its end.
#[test]
fn a_request_that_is_no_get_can_be_sent_as_the_tip_says() {
    use std::io::{Read, Write};
    let server = Server::start(|_, mut stream| {
        let wanted = b"POST /path HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
        let mut request = vec![0; wanted.len()];
        while stream.read_exact(&mut request).is_ok() && request == wanted {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let told = loadgen("rr http://127.0.0.1:80/ -X POST").stderr;
    let typed = told.lines().find(|line| line.trim_start().starts_with("loadgen rr")).unwrap();
    let typed = typed.trim_start().replacen("loadgen", env!("CARGO_BIN_EXE_loadgen"), 1);
    let typed = typed.replace("127.0.0.1:80", &server.address.to_string()) + " -c 2 -d 200ms -q";
    let output = std::process::Command::new("sh").args(["-c", &typed]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{typed}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_doctor_speaks_json_too() {
    let findings = loadgen("doctor -c 10 --json -").json();
    assert_eq!((&findings["fits"], &findings["connections"]), (&true.into(), &10.into()));
    assert!(findings["findings"][0]["grade"] == "fits", "{findings:#}");
}

/// What a shell's words behind the program and its arguments come to: the exit code, and what stood on standard error.
fn in_shell(line: &str, redirections: &str) -> (Option<i32>, String) {
    let text = format!("{} {line} {redirections}", env!("CARGO_BIN_EXE_loadgen"));
    let output = std::process::Command::new("sh").args(["-c", &text]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_standard_output_that_is_closed_is_told_before_anything_is_sent() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&asked);
    let server = Server::start(move |_, stream| {
        seen.store(true, std::sync::atomic::Ordering::Relaxed);
        support::echo(stream);
    });
    let line = format!("rr {} -c 2 -d 100ms -q", server.address);
    for rest in ["", "--json -", "--json /dev/null"] {
        let (code, said) = in_shell(&format!("{line} {rest}"), ">&-");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("standard output is closed") && said.contains("/dev/null"), "{said}");
    }
    assert!(!asked.load(std::sync::atomic::Ordering::Relaxed), "no load was begun");
    assert_eq!(in_shell("doctor -c 10", ">&-").0, Some(1));
    // Others open /dev/null as std does.
    for good in [">/dev/null", "1<>/dev/null", "2>&-", "<&-", "<&- 2>&- >/dev/null"] {
        assert_eq!(in_shell("doctor -c 10", good), (Some(0), String::new()), "{good}");
    }
    assert_eq!(in_shell("rr 127.0.0.1:1 -q", ">&- 2>&-").0, Some(1));
}
