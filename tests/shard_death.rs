//! A shard that the system does not let wait any more dies, and what becomes of it is the builder's to say.

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use esockets::ShardDeath;
use support::{PATIENCE, builder, connect, wait_until};

/// What the process is told: where it reports to its parent, and what becomes of a dead shard there.
const REPORT_TO: &str = "ESOCKETS_TEST_REPORT_TO";
const THEN: &str = "ESOCKETS_TEST_THEN";

/// Connections that a death ends, one after the other. Each death makes the next pause longer.
const ENDS: u64 = 8;

/// Not a test of its own: a server whose calls of epoll_wait(2) fail now and then.
#[test]
fn mortal_process() {
    let Ok(parent) = std::env::var(REPORT_TO) else { return };
    let mut report = TcpStream::connect(parent).unwrap();
    let mut questions = BufReader::new(report.try_clone().unwrap()).lines();
    let then = std::env::var(THEN).unwrap();
    let builder = match then.as_str() {
        "leave" => builder().shard_death(ShardDeath::Leave),
        "abort" => builder().shard_death(ShardDeath::Abort),
        _ => builder(),
    };
    let builder = builder.handle_readable(|client| {
        let data = client.recv();
        client.send(data)
    });
    let server = if then == "respawn in a table of its own" {
        // SAFETY: the closure holds no descriptor, and sends none away.
        unsafe { builder.private_fd_tables() }.start().unwrap()
    } else {
        builder.start().unwrap()
    };
    writeln!(report, "{}", server.local_addr()).unwrap();
    while let Some(Ok(_)) = questions.next() {
        let total = server.stats().total;
        writeln!(report, "{} {} {}", total.deaths, total.accepted, total.closed_total()).unwrap();
    }
    server.stop();
    let ended = server.join().map_or_else(|error| error.to_string(), |_| "well".into());
    writeln!(report, "{ended}").unwrap();
}

struct Mortal {
    process: Child,
    report: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Mortal {
    /// `None` where strace is not there, or may not trace. Of each shard the calls fail that `when` says.
    fn start(then: &str, when: &str) -> Option<Mortal> {
        let may_trace = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
        if !may_trace.as_ref().is_ok_and(|status| status.success()) {
            println!("skipped: strace is not there, or may not trace: {may_trace:?}");
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inject = format!("inject=epoll_wait:error=EBADF:when={when}");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=epoll_wait", "-e", &inject]);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", "mortal_process", "--nocapture"]);
        command.env(REPORT_TO, listener.local_addr().unwrap().to_string()).env(THEN, then);
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        let (report, _) = listener.accept().unwrap();
        report.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut report = BufReader::new(report);
        let address = line(&mut report).parse().unwrap();
        Some(Mortal { process, report, address })
    }

    /// Deaths, accepted and closed connections.
    fn ask(&mut self) -> [u64; 3] {
        self.report.get_mut().write_all(b"how are you?\n").unwrap();
        let line = line(&mut self.report);
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }

    /// How the server has ended, after having been stopped.
    fn stop(mut self) -> String {
        self.report.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        line(&mut self.report)
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn line(report: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    report.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Talks until the connection ends, as it must before long, with its end or a reset and with nothing else.
fn talk_to_the_end(mut stream: &TcpStream) {
    let mut answer = [0; 5];
    loop {
        let exchanged = stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut answer));
        match exchanged.map_err(|error| error.kind()) {
            Ok(()) => assert_eq!(&answer, b"hello"),
            Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn another_takes_its_place_each_time() {
    for then in ["respawn", "respawn in a table of its own"] {
        let Some(mut mortal) = Mortal::start(then, "8+8") else { return };
        for _ in 0..ENDS {
            // While a shard has just died, those whom the kernel deals to it wait.
            talk_to_the_end(&connect(mortal.address));
        }
        // Nothing else ends them; a shard counts its death when all of its own have gone.
        wait_until("all deaths are counted", || mortal.ask()[0] >= ENDS);
        let [_, accepted, closed] = mortal.ask();
        assert_eq!((accepted, closed), (ENDS, ENDS), "{then}");
        // Both are there, or will be in a moment.
        let streams: Vec<TcpStream> = (0..20).map(|_| connect(mortal.address)).collect();
        wait_until("all are accepted", || mortal.ask()[1] == ENDS + 20);
        drop(streams);
        // One may be about to be replaced just now.
        let ended = mortal.stop();
        assert!(ended == "well" || ended.contains("cannot wait for events"), "{ended}");
    }
}

#[test]
fn who_is_left_dead_is_told_of_by_join() {
    let Some(mut mortal) = Mortal::start("leave", "8+1") else { return };
    // Both shards die in time, whoever is dealt to which.
    wait_until("both are dead", || match TcpStream::connect(mortal.address) {
        Ok(stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            talk_to_the_end(&stream);
            false
        }
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    });
    assert_eq!(mortal.ask()[0], 2);
    let ended = mortal.stop();
    assert!(ended.contains("cannot wait for events"), "{ended}");
}

#[test]
fn the_whole_process_may_die_with_it() {
    let Some(mut mortal) = Mortal::start("abort", "8") else { return };
    talk_to_the_end(&connect(mortal.address));
    wait_until("it has died", || mortal.process.try_wait().unwrap().is_some());
    // SIGABRT, which strace passes on by dying of it, too.
    assert_eq!(mortal.process.wait().unwrap().signal(), Some(6));
}
