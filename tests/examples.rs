//! The examples, run as programs and talked to by the clients that people have.

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::{Program, connect, connect_narrow, wait_until};

/// What a client says, to standard output and error; `None`, and that it was skipped, where it is not installed.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}", output.status);
            Some(said)
        }
        Err(error) => {
            println!("skipped: {program} is not there ({error})");
            None
        }
    }
}

#[test]
fn curl_wrk_and_h2load_are_content_with_the_web_server() {
    let program = Program::start("http");
    let url = format!("http://{}/", program.address);
    let echo = format!("{url}echo");
    if let Some(said) = said("curl", &["-sS", "--fail", "-v", &url, &url]) {
        assert_eq!(said.matches("Hello, world!\n").count(), 2, "{said}");
        assert!(said.contains("Re-using existing") || said.contains("Reusing existing"), "{said}");
    }
    // More than a kilobyte: curl asks before it sends that. And a megabyte, which comes in many pieces.
    for size in [1, 2_000, 1 << 20] {
        let body = "x".repeat(size);
        let path = std::env::temp_dir().join(format!("esockets-example-{}-{size}", std::process::id()));
        std::fs::write(&path, &body).unwrap();
        let expect = ["-sS", "-H", "Expect: 100-continue", "--data-binary"];
        let data = format!("@{}", path.display());
        for header in ["X-Body: in one", "Transfer-Encoding: chunked"] {
            let answer = said("curl", &[&expect[..], &[&data, "-H", header, &echo]].concat());
            assert!(answer.is_none_or(|answer| answer == body), "{size} bytes, {header}");
        }
        std::fs::remove_file(&path).unwrap();
    }
    // As it asks a proxy: by the whole address.
    if let Some(said) = said("curl", &["-sS", "--fail", "--proxy", &url, "http://example.invalid/"]) {
        assert_eq!(said, "Hello, world!\n");
    }
    if let Some(said) = said("wrk", &["-t1", "-c20", "-d1s", &url]) {
        assert!(
            said.contains("Requests/sec") && !said.contains("Non-2xx") && !said.contains("Socket errors"),
            "{said}"
        );
    }
    if let Some(said) = said("h2load", &["--h1", "-n2000", "-c20", "-m8", &url]) {
        assert!(said.contains("2000 succeeded, 0 failed, 0 errored"), "{said}");
    }
}

/// The sum of a metric over all shards.
fn sum(text: &str, name: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(&format!("esockets_{name}{{")));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn curl_fetches_the_metrics_with_what_has_happened() {
    let program = Program::start_with("metrics", &["0", "0"]);
    let mut client = connect(program.address);
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let url = program.said.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let url = url.trim_end_matches(',');
    // Who asks for something else, or for nothing, is not in the way of who comes next.
    let root = url.trim_end_matches("metrics");
    if let Some(said) = said("curl", &["-sS", "-o", "/dev/null", "-w", "%{http_code}", root]) {
        assert_eq!(said, "404");
    }
    let asking = || TcpStream::connect(root.trim_start_matches("http://").trim_end_matches('/')).unwrap();
    drop(asking());
    wait_until("who says nothing is still there when one who came later has been answered", || {
        let silent = asking();
        let answered = said("curl", &["-sS", "--fail", url]).is_none_or(|said| said.ends_with("# EOF\n"));
        silent.set_nonblocking(true).unwrap();
        answered && silent.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    let Some(said) = said("curl", &["-sS", "--fail", "-i", url]) else { return };
    let (head, text) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: application/openmetrics-text"), "{head}");
    assert_eq!((sum(text, "connections_open"), sum(text, "received_bytes_total")), (1.0, 5.0), "{text}");
    // It was greeted, and heard; it may have the answer before the call that sent it is over.
    let calls = |text: &str| sum(text, "handler_duration_seconds_count");
    wait_until("both calls are told", || self::said("curl", &["-sS", url]).is_some_and(|text| calls(&text) == 2.0));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn redis_cli_and_redis_benchmark_work_with_the_store() {
    let program = Program::start("kv");
    let port = program.port();
    let cli = |words: &[&str]| said("redis-cli", &[&["-p", &port][..], words].concat());
    if cli(&["SET", "greeting", "hello\r\n\tworld"]).is_some() {
        assert_eq!(cli(&["GET", "greeting"]).unwrap(), "hello\r\n\tworld\n");
        assert_eq!(cli(&["INCR", "n"]).unwrap().trim(), "1");
        assert_eq!(cli(&["MGET", "n", "none"]).unwrap(), "1\n\n");
        assert!(cli(&["LPUSH", "list", "x"]).unwrap().starts_with("ERR unknown command 'LPUSH'"));
    }
    for pipeline in ["1", "16"] {
        let tests = ["-p", &port, "-t", "ping,set,get,incr,mset", "-n", "5000", "-P", pipeline, "-d", "100", "-q"];
        if let Some(said) = said("redis-benchmark", &tests) {
            assert_eq!(said.matches("requests per second").count(), 6, "{said}");
            assert!(!said.contains("rror"), "{said}");
        }
    }
}

#[test]
fn curl_redis_cli_and_socat_find_the_unix_sockets_too_also_after_a_kill() {
    let path = |name| std::env::temp_dir().join(format!("esockets-example-{}-{name}.sock", std::process::id()));
    let (web, store) = (path("web"), path("store"));
    // Whoever drops a program kills it: the second one finds the file of the first.
    for _ in 0..2 {
        let _programs = [Program::start_at("http", &web), Program::start_at("kv", &store)];
        let [web, store] = [&web, &store].map(|path| path.to_str().unwrap());
        if let Some(said) = said("curl", &["-sS", "--fail", "--unix-socket", web, "http://localhost/"]) {
            assert_eq!(said, "Hello, world!\n");
        }
        if let Some(said) = said("redis-cli", &["-s", store, "SET", "greeting", "hello"]) {
            assert_eq!(said, "OK\n");
            assert_eq!(self::said("redis-cli", &["-s", store, "GET", "greeting"]).unwrap(), "hello\n");
        }
        if said("socat", &["-V"]).is_some() {
            let pipe = format!("printf '*1\\r\\n$4\\r\\nPING\\r\\n' | socat -t 30 - UNIX-CONNECT:{store}");
            assert_eq!(said("sh", &["-c", &pipe]).unwrap(), "+PONG\r\n");
        }
    }
    [web, store].iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

#[test]
fn a_signal_ends_the_servers_that_have_a_unix_socket_in_order_and_removes_its_file() {
    for (name, signal) in [("http", "TERM"), ("kv", "INT")] {
        let path = std::env::temp_dir().join(format!("esockets-example-{}-{name}-end.sock", std::process::id()));
        let mut program = Program::start_at(name, &path);
        let mut client = connect(program.address);
        client.write_all(if name == "http" { b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" } else { b"PING\r\n" }).unwrap();
        client.read_exact(&mut [0]).unwrap();
        assert!(path.exists());
        assert!(program.end_by(signal).success(), "{name}, after {signal}");
        assert!(!path.exists(), "{name}, after {signal}");
    }
}

/// Sends so many requests that their answers do not find room, begins to read when nothing more is taken, and counts the
/// answers.
fn answers_of_many(address: SocketAddr, request: &str, answer: &[u8], count: usize) -> usize {
    let stream = connect(address);
    let requests = request.repeat(count).into_bytes();
    let sent = send_until_stuck(&stream, &requests);
    assert!(sent < requests.len(), "all {sent} bytes were taken: who reads nothing is to be asked for nothing");
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&requests[sent..]).unwrap());
    let mut reader = BufReader::new(&stream);
    let (mut found, mut line) = (0, Vec::new());
    while found < count {
        line.clear();
        assert_ne!(reader.read_until(b'\n', &mut line).unwrap(), 0, "the end after {found} answers");
        found += usize::from(line.starts_with(answer));
    }
    writing.join().unwrap();
    found
}

/// How much was taken before nothing was for a while.
fn send_until_stuck(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut vain) = (0, 0);
    while sent < bytes.len() && vain < 300 {
        match stream.write(&bytes[sent..]) {
            Ok(count) => (sent, vain) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                vain += 1;
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("sending: {error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn who_asks_for_more_than_it_reads_has_all_its_answers_in_the_end() {
    let web = Program::start("http");
    assert_eq!(answers_of_many(web.address, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"Hello, world!", 400_000), 400_000);
    let store = Program::start("kv");
    assert_eq!(answers_of_many(store.address, "ECHO hello-hello-hello-hello\r\n", b"hello-", 2_000_000), 2_000_000);
}

#[test]
fn a_few_commands_with_more_answers_than_fit_have_them_all() {
    let store = Program::start("kv");
    let mut stream = connect(store.address);
    // Two kilobytes of commands come in one read, and are answered by a hundred megabytes.
    let (value, count) = ("x".repeat(500_000), 200);
    write!(stream, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len()).unwrap();
    stream.write_all("GET k\r\n".repeat(count).as_bytes()).unwrap();
    let answer = format!("${}\r\n{value}\r\n", value.len());
    let mut found = vec![0; 5];
    stream.read_exact(&mut found).unwrap();
    assert_eq!(found, b"+OK\r\n");
    found.resize(answer.len(), 0);
    for number in 0..count {
        stream.read_exact(&mut found).unwrap();
        assert!(found == answer.as_bytes(), "answer {number}");
    }
}

/// A guest's connection, and what it hears, line by line.
struct Guest {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Guest {
    fn new(address: SocketAddr) -> Guest {
        let stream = connect(address);
        let mut guest = Guest { reader: BufReader::new(stream.try_clone().unwrap()), stream };
        assert_eq!(guest.hears(), "* who are you?");
        guest
    }

    fn says(&mut self, words: &str) {
        self.stream.write_all(words.as_bytes()).unwrap();
    }

    fn hears(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next that is not about somebody who came before: a shard that nobody was on may learn of that late.
    fn hears_news(&mut self, known: &[&str]) -> String {
        loop {
            let line = self.hears();
            if !known.iter().any(|name| line == format!("* {name} is here")) {
                return line;
            }
        }
    }
}

#[test]
fn what_one_says_all_others_hear() {
    let program = Program::start("chat");
    let mut guests: Vec<Guest> = Vec::new();
    let names = ["Ann", "Bob", "Cy", "Dee", "Eve", "Flo"];
    for (index, name) in names.into_iter().enumerate() {
        let mut guest = Guest::new(program.address);
        guest.says(&format!("{name}\r\n"));
        // Until its name is taken it hears nothing of who comes next.
        assert_eq!(guest.hears(), format!("* welcome, {name}"));
        // They may be on different shards; each hears that somebody has come before it hears more.
        let is_here = format!("* {name} is here");
        guests.iter_mut().for_each(|other| assert_eq!(other.hears_news(&names[..index]), is_here));
        guests.push(guest);
    }
    guests[0].says("hel");
    guests[0].says("lo\x1b[2J\nagain\n");
    for other in &mut guests[1..] {
        assert_eq!([other.hears_news(&names), other.hears()], ["Ann: hello[2J", "Ann: again"]);
    }
    drop(guests.remove(2));
    guests.iter_mut().for_each(|other| assert_eq!(other.hears(), "* Cy is gone"));
    guests[1].says("bye\n");
    assert_eq!(guests[0].hears(), "Bob: bye", "and nothing of what it said itself");
}

/// What a subscriber hears, signs of life aside.
fn hear(subscriber: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(subscriber.read_line(&mut line).unwrap() > 0, "the connection stands");
        if line != "*\n" {
            return line;
        }
    }
}

/// Has the news said until all have heard it: whoever is in the kernel's queue yet hears nothing.
fn publish_until_heard(publisher: &mut BufReader<TcpStream>, subscribers: &mut [BufReader<TcpStream>]) {
    for subscriber in subscribers {
        subscriber.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while subscriber.fill_buf().is_err() {
            publisher.get_mut().write_all(b"publish first\n").unwrap();
        }
        subscriber.get_ref().set_read_timeout(Some(support::PATIENCE)).unwrap();
    }
}

#[test]
fn push_has_more_subscribers_than_one_table_of_descriptors_holds_and_otherwise_says_that_it_is_full() {
    let join = |address| BufReader::new(connect(address));
    // Tables for 400, whose other ends have this process's table.
    let program = Program::start_after("ulimit -n 256", "push", &["0", "400"]);
    let (mut publisher, mut subscribers) = (join(program.address), Vec::new());
    subscribers.resize_with(400, || join(program.address));
    publish_until_heard(&mut publisher, &mut subscribers);
    drop(subscribers);
    let path = std::env::temp_dir().join(format!("esockets-push-{}", std::process::id()));
    let setting = format!("ulimit -n 128; exec 2>'{}'", path.display());
    let program = Program::start_after(&setting, "push", &["0"]);
    let _subscribers: Vec<_> = (0..200).map(|_| join(program.address)).collect();
    wait_until("it says that descriptors ran out", || {
        std::fs::read_to_string(&path).unwrap().contains("because descriptors (or memory) ran out: a table holds 128")
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_is_published_goes_to_all_subscribers_and_who_does_not_read_holds_up_nobody() {
    let program = Program::start("push");
    let join = || BufReader::new(connect(program.address));
    let mut publisher = join();
    let mut subscribers: Vec<_> = (0..20).map(|_| join()).collect();
    let mut deaf = BufReader::new(connect_narrow(program.address));
    // Whoever hears a first message is there; until all have, it is said again.
    let mut publish = |news: &str| publisher.get_mut().write_all(format!("publish {news}\n").as_bytes()).unwrap();
    publish("first");
    for subscriber in &mut subscribers {
        subscriber.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while subscriber.fill_buf().is_err() {
            publish("first");
        }
        subscriber.get_ref().set_read_timeout(Some(support::PATIENCE)).unwrap();
    }
    // More than all the buffers on the way to one who does not read hold, each when the others have the one before.
    let long = "x".repeat(15_000);
    for number in 0..800 {
        publish(&format!("{number} {long}"));
        for subscriber in &mut subscribers {
            let mut news = hear(subscriber);
            while news == "first\n" {
                news = hear(subscriber);
            }
            assert_eq!(news, format!("{number} {long}\n"));
        }
    }
    // Now it reads: what was kept for it, one after the other, and how many it has missed.
    let mut number = 0;
    let note = loop {
        let news = hear(&mut deaf);
        publish("more");
        match news.split_once(' ') {
            Some(("*", note)) => break note.to_owned(),
            Some((heard, _)) => {
                assert_eq!(heard, number.to_string());
                number += 1;
            }
            None => assert_eq!(news, "first\n"),
        }
    };
    let missed = note.strip_suffix(" missed\n").and_then(|missed| missed.parse::<u32>().ok());
    assert!(number < 800 && missed >= Some(800 - number), "{number} heard, {note}");
}
