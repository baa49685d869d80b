//! Out of descriptors a server waits without spinning, and serves everyone when there are some again.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use esockets::CloseReason;
use esockets::sys::{process_cpu_time, set_descriptor_limit};
use support::{PATIENCE, Script, builder, bytes, connect, connect_many, conserve, expect, hold, wait_until};

/// Where the starved process reports to its parent, which runs it.
const REPORT_TO: &str = "ESOCKETS_TEST_REPORT_TO";
/// More than that process has room for.
const CLIENTS: usize = 150;
const DESCRIPTORS: u64 = 64;
/// How often they run out and are freed again.
const ROUNDS: usize = 20;
/// What the parent says when the process is to drain, or to stop.
const DRAIN: &str = "drain";
const STOP: &str = "stop";

/// Not a test of its own: the process that is out of descriptors.
#[test]
fn starved_process() {
    let Ok(parent) = std::env::var(REPORT_TO) else { return };
    let mut report = TcpStream::connect(parent).unwrap();
    let mut questions = BufReader::new(report.try_clone().unwrap()).lines();
    let script = Script::echo();
    let server = script.start(builder());
    set_descriptor_limit(DESCRIPTORS).unwrap();
    writeln!(report, "{}", server.local_addr().port()).unwrap();
    let mut ends = false;
    while let Some(Ok(question)) = questions.next() {
        // Longer than anybody waits for it: it has to end by itself.
        match question.as_str() {
            DRAIN => server.drain(2 * PATIENCE),
            STOP => server.stop_within(2 * PATIENCE),
            _ => {}
        }
        ends |= question == DRAIN || question == STOP;
        let total = server.stats().total;
        let cpu = process_cpu_time().as_millis();
        writeln!(report, "{} {} {} {cpu}", total.accepted, total.accept_pauses, total.turns).unwrap();
    }
    if !ends {
        script.log.stop_and_check(server);
        return;
    }
    script.log.check(&server.join().unwrap());
    let stopped = script.log.reasons().iter().filter(|&&reason| reason == CloseReason::Stopped).count();
    writeln!(report, "over, {stopped} stopped").unwrap();
}

struct Starved {
    process: Child,
    report: BufReader<TcpStream>,
    port: u16,
}

#[derive(Debug, Clone, Copy)]
struct Numbers {
    accepted: usize,
    pauses: u64,
    turns: u64,
    cpu_ms: u64,
}

impl Starved {
    fn start() -> Starved {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "starved_process"]).stdout(Stdio::null());
        let process = command.env(REPORT_TO, listener.local_addr().unwrap().to_string()).spawn().unwrap();
        let (report, _) = listener.accept().unwrap();
        report.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut starved = Starved { process, report: BufReader::new(report), port: 0 };
        starved.port = starved.line().parse().unwrap();
        starved
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.report.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn ask(&mut self) -> Numbers {
        self.tell("how are you?")
    }

    fn tell(&mut self, what: &str) -> Numbers {
        writeln!(self.report.get_mut(), "{what}").unwrap();
        let line = self.line();
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [accepted, pauses, turns, cpu_ms] = numbers[..] else { panic!("four numbers: {line}") };
        Numbers { accepted: accepted as usize, pauses, turns, cpu_ms }
    }

    /// Lets it stop and check its ledger.
    fn end(mut self) {
        drop(self.report);
        assert!(self.process.wait().unwrap().success(), "the starved process has failed");
    }
}

fn is_answered(key: u64, stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let answered = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    if answered {
        expect(stream, key, 0, 1000);
    }
    answered
}

#[test]
fn out_of_descriptors_it_waits_without_spinning_and_serves_everyone_later_twenty_times() {
    let mut starved = Starved::start();
    let address = ([127, 0, 0, 1], starved.port).into();
    for round in 0..ROUNDS {
        let before = starved.ask();
        let mut waiting: Vec<(u64, TcpStream)> = (0..CLIENTS as u64).map(|key| (key, connect(address))).collect();
        for (key, stream) in &mut waiting {
            stream.write_all(&bytes(*key, 0, 1000)).unwrap();
        }
        wait_until("accepting has paused", || starved.ask().pauses > before.pauses);
        starve(&mut starved);
        wait_until("everyone has been served", || {
            // Whoever has the answer leaves, and frees a descriptor for the next.
            waiting.retain(|(key, stream)| !is_answered(*key, stream));
            waiting.is_empty()
        });
        assert_eq!(starved.ask().accepted, CLIENTS * (round + 1));
    }
    conserve(&connect(address), 1, 1000, || 1000);
    starved.end();
}

/// While it has no descriptors it tries again now and then, and does nothing else.
fn starve(starved: &mut Starved) {
    let before = starved.ask();
    wait_until("accepting has been tried again four times", || {
        thread::sleep(Duration::from_millis(20));
        starved.ask().pauses >= before.pauses + 4
    });
    let after = starved.ask();
    let turns = after.turns - before.turns;
    assert!(turns < 50, "{turns} turns for four attempts: it spins");
    assert!(after.cpu_ms - before.cpu_ms < 300, "{before:?} {after:?}");
}

/// Tells it to end while so many wait that it has no descriptors for, and says how many were stopped: all are answered.
fn end_without_descriptors(how: &str) -> String {
    let mut starved = Starved::start();
    let address = ([127, 0, 0, 1], starved.port).into();
    let mut waiting: Vec<(u64, TcpStream)> = (0..CLIENTS as u64).map(|key| (key, connect(address))).collect();
    for (key, stream) in &mut waiting {
        stream.write_all(&bytes(*key, 0, 1000)).unwrap();
    }
    wait_until("accepting has paused", || starved.ask().pauses > 0);
    // Asked before, not with the reply: a server that stops closes whom it has answered, and has room for the others at once.
    assert!(starved.ask().accepted < CLIENTS, "some have to wait");
    starved.tell(how);
    wait_until("everyone has been served", || {
        waiting.retain(|(key, stream)| !is_answered(*key, stream));
        waiting.is_empty()
    });
    starved.report.get_ref().shutdown(Shutdown::Write).unwrap();
    let over = starved.line();
    starved.end();
    over
}

#[test]
fn a_drain_that_begins_without_descriptors_takes_those_who_wait_and_ends_by_itself() {
    assert_eq!(end_without_descriptors(DRAIN), "over, 0 stopped");
}

#[test]
fn a_stop_that_begins_without_descriptors_takes_and_answers_those_who_wait() {
    assert!(end_without_descriptors(STOP).starts_with("over, "));
}

#[test]
fn more_than_the_budget_come_in_at_once_and_all_are_accepted() {
    for budget in [1, 7] {
        let script = Script::echo();
        let server = script.start(builder().shards(1).accept_budget(budget));
        let go = hold(&server, 0);
        let streams = connect_many(&server, 200);
        go.send(()).unwrap();
        wait_until("all are accepted", || server.stats().total.accepted == 200);
        let served = |(key, mut stream): (usize, &TcpStream)| {
            stream.write_all(&bytes(key as u64, 0, 10)).unwrap();
            expect(stream, key as u64, 0, 10);
        };
        streams.iter().enumerate().for_each(served);
        script.log.stop_and_check(server);
        streams.iter().for_each(|mut stream| assert_eq!(stream.read(&mut [0]).unwrap(), 0));
    }
}
