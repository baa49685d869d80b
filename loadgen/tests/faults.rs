//! Every fault that a server commits is found, named and counted, and the run fails; none is invented beside it.

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use socket2::SockRef;
use support::{SIZE, Server, echo, echo_with_fault, failures, failures_total, is_conserved, loadgen, measure, stage};

/// Connections that the faulty servers serve badly, of the ten that are opened.
const FAULTY: usize = 3;

type Fault = fn(&mut TcpStream, &mut Vec<u8>) -> bool;

/// A closed loop on ten connections, the first three of which meet `fault` in their third message. Expects three failures
/// of `kind` and nothing else.
fn expect(kind: &str, fault: Fault) {
    let server = Server::start(
        move |number, stream| {
            if number < FAULTY { echo_with_fault(stream, 2, fault) } else { echo(stream) }
        },
    );
    let (code, results) = measure(&format!("rr {} -c 10 -d 1s -s {SIZE} --timeout 2s", server.address));
    let closed = stage(&results, "closed");
    assert_eq!(code, Some(1), "{kind}: {closed:#}");
    assert_eq!(results["is_ok"], false);
    assert_eq!(failures(closed, "request_failures", kind), FAULTY as u64, "{kind}: {closed:#}");
    assert_eq!(failures_total(closed, "request_failures"), FAULTY as u64, "{kind}: {closed:#}");
    assert_eq!(failures_total(closed, "losses"), 0, "{kind}: {closed:#}");
    assert_eq!(failures_total(stage(&results, "connect"), "connect_failures"), 0);
    assert!(is_conserved(&results), "{kind}: {closed:#}");
}

#[test]
fn a_changed_byte() {
    expect("corrupted", |_, message| {
        message[SIZE - 1] ^= 0x10;
        true
    });
}

#[test]
fn bytes_out_of_order_leave_a_gap() {
    expect("bytes lost", |_, message| {
        message.rotate_left(8);
        true
    });
}

#[test]
fn the_reply_before_once_more() {
    let last: Mutex<HashMap<usize, Vec<u8>>> = Mutex::new(HashMap::new());
    let server = Server::start(move |number, mut stream| {
        let mut message = vec![0; SIZE];
        for turn in 0.. {
            if std::io::Read::read_exact(&mut stream, &mut message).is_err() {
                break;
            }
            let mut last = last.lock().unwrap();
            let reply = if number == 0 && turn == 2 { last[&number].clone() } else { message.clone() };
            last.insert(number, message.clone());
            drop(last);
            if stream.write_all(&reply).is_err() {
                break;
            }
        }
    });
    let (code, results) = measure(&format!("rr {} -c 2 -d 1s", server.address));
    assert_eq!((code, failures(stage(&results, "closed"), "request_failures", "bytes doubled")), (Some(1), 1));
}

#[test]
fn another_connections_reply() {
    // Both replies are whole and right, for the other one.
    let waiting: Mutex<Option<(TcpStream, Vec<u8>)>> = Mutex::new(None);
    let server = Server::start(move |_, mut stream| {
        let mut message = vec![0; SIZE];
        if std::io::Read::read_exact(&mut stream, &mut message).is_err() {
            return;
        }
        let mut waiting = waiting.lock().unwrap();
        if let Some((mut other, others)) = waiting.take() {
            stream.write_all(&others).unwrap();
            other.write_all(&message).unwrap();
            // They stay open until loadgen has had enough of them.
            drop(waiting);
            echo(stream);
        } else {
            *waiting = Some((stream, message));
        }
    });
    let (code, results) = measure(&format!("rr {} -c 2 -d 1s", server.address));
    let closed = stage(&results, "closed");
    assert_eq!((code, failures(closed, "request_failures", "swapped")), (Some(1), 2), "{closed:#}");
    assert_eq!(results["ending"], "all connections lost");
}

#[test]
fn a_reply_twice() {
    expect("bytes doubled", |_, message| {
        message.extend_from_within(..);
        true
    });
}

#[test]
fn bytes_of_the_servers_own() {
    expect("surplus bytes", |_, message| {
        message.extend_from_slice(b"and more");
        true
    });
}

#[test]
fn the_last_byte_lost() {
    expect("timed out", |_, message| {
        message.pop();
        true
    });
}

#[test]
fn a_byte_lost() {
    expect("bytes lost", |_, message| {
        message.remove(20);
        true
    });
}

#[test]
fn no_reply() {
    expect("timed out", |_, message| {
        message.clear();
        true
    });
}

#[test]
fn a_reply_cut_off() {
    expect("truncated", |stream, message| {
        stream.write_all(&message[..SIZE / 2]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        false
    });
}

#[test]
fn a_connection_closed() {
    expect("closed by the server", |_, _| false);
}

#[test]
fn a_connection_reset() {
    expect("reset", |stream, _| {
        SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
        false
    });
}

#[test]
fn a_connection_closed_after_its_last_reply_is_a_loss_and_no_failed_request() {
    let server = Server::start(|_, stream| {
        echo_with_fault(stream, 2, |stream, message| {
            stream.write_all(message).unwrap();
            false
        });
    });
    let (code, results) = measure(&format!("rr {} -c 4 -d 5s", server.address));
    let closed = stage(&results, "closed");
    assert_eq!(code, Some(1));
    let ended = failures_total(closed, "losses") + failures_total(closed, "request_failures");
    assert_eq!(ended, 4, "{closed:#}");
    assert_eq!(closed["requests_answered"], 12, "{closed:#}");
    assert_eq!(results["ending"], "all connections lost");
}

#[test]
fn a_server_that_speaks_first() {
    let server = Server::start(|_, mut stream| {
        stream.write_all(b"220 welcome\r\n").unwrap();
        echo(stream);
    });
    let outcome = loadgen(&format!("rr {} -c 4 -d 200ms --quiet", server.address));
    assert_eq!(outcome.code, Some(1));
    // A welcome that is read alone, while an echo is waited for, could as well be that echo, changed.
    assert!(outcome.says("surplus bytes") || outcome.says("corrupted"), "{}", outcome.stdout);
    let text = outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let first = text.split("! ").nth(1).expect("there is advice");
    assert!(first.contains("is no echo server") && first.contains(r#""220 welcome\r\n"#), "{text}");
    assert!(!text.contains("hold"), "there was none: {text}");
}
