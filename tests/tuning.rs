//! Options of TCP for experts do what they say, on connections that a server has accepted.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use esockets::{CloseReason, Listeners, Server, Tuning};
use socket2::SockRef;
use support::{Order, Script, builder, connect, converse, wait_until};

fn start(tuning: Tuning, script: &Script) -> Server<Order> {
    script.start(builder().tuning(tuning))
}

#[test]
fn who_says_nothing_is_not_accepted_and_who_speaks_and_ends_at_once_is_served() {
    let script = Script::echo();
    let server = start(Tuning { defer_accept: Some(Duration::from_secs(60)), ..Tuning::default() }, &script);
    let silent = connect(server.local_addr());
    // Words and the end are there before it is accepted: one event tells of all.
    for size in [1, 1000, 60_000] {
        for _ in 0..200 {
            let mut stream = connect(server.local_addr());
            stream.write_all(&vec![7; size]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer.len(), size);
        }
    }
    wait_until("all have gone", || server.stats().total.closed(CloseReason::PeerClosed) == 600);
    assert_eq!(server.stats().total.accepted, 600, "the silent one is not there yet");
    converse(&silent, 1, 100, || 100);
    assert_eq!(server.stats().total.accepted, 601);
}

#[test]
fn sockets_that_were_passed_on_are_tuned_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let own = Listeners::of([listener.try_clone().unwrap()]).unwrap();
    let tuning = Tuning { receive_buffer: Some(10_000), send_buffer: Some(20_000), ..Tuning::default() };
    let server = Script::echo().start(builder().tuning(tuning).listeners(own));
    converse(&connect(address), 1, 100, || 100);
    drop(server);
    // The socket is ours still, and so is who comes.
    listener.set_nonblocking(false).unwrap();
    let _client = thread::spawn(move || TcpStream::connect(address).unwrap());
    let accepted = listener.accept().unwrap().0;
    let accepted = SockRef::from(&accepted);
    assert_eq!((accepted.recv_buffer_size().unwrap(), accepted.send_buffer_size().unwrap()), (20_000, 40_000));
}

#[test]
fn what_the_system_does_not_allow_is_refused_by_name() {
    let tuning = Tuning { busy_poll: Some(Duration::from_millis(1)), ..Tuning::default() };
    match builder().tuning(tuning).handle_readable(|_| true).start() {
        Ok(_) => println!("skipped: this user may"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("SO_BUSY_POLL") && error.to_string().contains("`tuning`"), "{error}");
        }
    }
}
