//! Wrong usage ends with exit code 2 and a sentence that says what would be right; help teaches with examples.

mod support;

use support::loadgen;

#[test]
fn wrong_usage_is_exit_code_2() {
    for (line, wanted) in [
        ("rr", "TARGET"),
        ("open 127.0.0.1:1", "--rate"),
        ("rr 127.0.0.1", "no port"),
        ("rr udp://127.0.0.1:1", "not a protocol"),
        ("rr 127.0.0.1:1 -c 0", "at least 1"),
        ("rr 127.0.0.1:1 -c many", "20k"),
        ("rr 127.0.0.1:1 -d 5x", "500ms"),
        ("rr 127.0.0.1:1 -s 2000MiB", "8MiB"),
        ("open 127.0.0.1:1 -R 0", "20k"),
        ("rr 127.0.0.1:1 --threads 0", "1..=1024"),
        ("rr 127.0.0.1:1 --cores 1-", "0,2,4-7"),
        ("rr 127.0.0.1:1 --cores 65535", "core 65535"),
        ("serve --listen nowhere", "nowhere"),
        ("fly", "fly"),
    ] {
        let outcome = loadgen(line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{line}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(wanted), "{line}: no '{wanted}' in {}", outcome.stderr);
    }
}

#[test]
fn help_shows_examples_for_every_command() {
    for line in ["--help", "serve --help", "rr --help", "open --help", "hold --help", "doctor --help"] {
        let outcome = loadgen(line);
        assert_eq!(outcome.code, Some(0), "{line}");
        assert!(outcome.stdout.contains("Example"), "{line}: {}", outcome.stdout);
    }
}

#[test]
fn a_result_file_that_cannot_be_written_is_noticed_before_the_run() {
    let outcome = loadgen("rr 127.0.0.1:1 -d 1h --json /no/such/folder/results.json");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("cannot write /no/such/folder/results.json"), "{}", outcome.stderr);
}
