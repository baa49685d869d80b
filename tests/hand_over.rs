//! Listeners are handed from server to server, whatever their numbers of shards; a hand-over that fails has not happened.

mod support;

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use esockets::{Builder, CloseReason, Cores, Error, Listeners, Server, Steering};
use support::{Order, PATIENCE, Script, builder, connect, connect_many, converse, hold, wait_until};

/// Both ends of a hand-over.
fn meet() -> (UnixStream, UnixStream) {
    let (old, new) = UnixStream::pair().unwrap();
    old.set_read_timeout(Some(PATIENCE)).unwrap();
    new.set_read_timeout(Some(PATIENCE)).unwrap();
    (old, new)
}

/// Starts the next server with what the old one listens on, and drains that one.
fn replace(old: Server<Order>, script: &Script, builder: Builder) -> Server<Order> {
    let (here, there) = meet();
    let next = thread::scope(|scope| {
        let starts = scope.spawn(|| script.start(builder.listeners(Listeners::take_over(there).unwrap())));
        old.hand_over(&here).unwrap();
        starts.join().unwrap()
    });
    assert_eq!(next.local_addr(), old.local_addr());
    old.drain(PATIENCE);
    assert_eq!(old.join().unwrap().total.closed(CloseReason::Stopped), 0);
    next
}

fn still_serves(server: &Server<Order>) {
    let streams = connect_many(server, 20);
    streams.iter().for_each(|stream| converse(stream, 1, 100, || 100));
}

#[test]
fn each_listener_has_a_shard_whatever_the_number_of_shards() {
    let mut server = Script::echo().start(builder().shards(4));
    for shards in [1, 3, 8, 2, 4] {
        server = replace(server, &Script::echo(), builder().shards(shards));
        // A listener that nobody serves would show: the kernel deals them out among all four.
        still_serves(&server);
        let accepted = server.stats().shards.iter().map(|shard| shard.accepted).collect::<Vec<_>>();
        assert_eq!((accepted.len(), accepted.iter().sum()), (shards, 20));
    }
    let address = server.local_addr();
    drop(server);
    TcpStream::connect(address).expect_err("the last one has closed them all");
}

#[test]
fn who_waits_in_a_queue_is_served_by_the_successor() {
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    let (here, there) = meet();
    let listeners = thread::scope(|scope| {
        let hands_over = scope.spawn(|| server.hand_over(&here));
        let listeners = Listeners::take_over(there).unwrap();
        // The old one's only shard is held up, and so takes nobody any more.
        let go = hold(&server, 0);
        let waiting = connect_many(&server, 20);
        let next = script.start(builder().shards(2).listeners(listeners));
        hands_over.join().unwrap().unwrap();
        waiting.iter().for_each(|stream| converse(stream, 1, 100, || 100));
        drop(go);
        next
    });
    assert_eq!(listeners.stats().total.accepted, 20);
}

#[test]
fn the_claim_to_an_address_goes_with_the_listeners() {
    let script = Script::echo();
    let server = replace(script.start(builder()), &script, builder().shards(3));
    let sharing = || builder().port(server.local_addr().port()).share_port(true).handle_readable(|_| true).start();
    assert_eq!(sharing().unwrap_err().kind(), ErrorKind::AddrInUse);
    let exclusive = builder().port(server.local_addr().port()).handle_readable(|_| true).start();
    assert_eq!(exclusive.unwrap_err().kind(), ErrorKind::AddrInUse);
    let port = server.local_addr().port();
    drop(server);
    Script::echo().start(builder().port(port).share_port(true));
}

#[test]
fn a_hand_over_that_fails_has_not_happened() {
    let script = Script::echo();
    let server = script.start(builder());
    let fail = |successor: &(dyn Fn(UnixStream) -> Option<UnixStream> + Sync)| {
        let (here, there) = meet();
        let error = thread::scope(|scope| {
            let successor = scope.spawn(|| successor(there));
            let error = server.hand_over(&here).unwrap_err();
            drop(successor.join().unwrap());
            error
        });
        assert!(error.to_string().contains("goes on"), "{error}");
        still_serves(&server);
        error.kind()
    };
    // What its end of the stream had not read yet makes a difference in how the other sees it go.
    let ends = [ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
    let gone = fail(&|_| None);
    assert!(ends.contains(&gone), "{gone}");
    // Its sockets have arrived, and it ends.
    let gone = fail(&|there| {
        Listeners::take_over(there).unwrap();
        None
    });
    assert!(ends.contains(&gone), "{gone}");
    // It cannot start.
    let gone = fail(&|there| {
        let listeners = Listeners::take_over(there).unwrap();
        let failed = builder().mailbox_max(0).listeners(listeners).handle_readable(|_| true).start();
        assert!(matches!(failed, Err(Error::Config { .. })));
        None
    });
    assert!(ends.contains(&gone), "{gone}");
    let foreign = fail(&|mut there| {
        there.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        Some(there)
    });
    assert_eq!(foreign, ErrorKind::InvalidData);
    let (here, _there) = meet();
    here.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(server.hand_over(&here).unwrap_err().kind(), ErrorKind::WouldBlock, "nobody answers");
    still_serves(&replace(server, &script, builder()));
}

#[test]
fn what_a_successor_is_told_must_be_a_hand_over() {
    let (mut here, there) = meet();
    here.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(Listeners::take_over(there).unwrap_err().kind(), ErrorKind::InvalidData);
    let (here, there) = meet();
    drop(here);
    assert_eq!(Listeners::take_over(there).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_server_that_listens_no_longer_hands_nothing_over() {
    let script = Script::echo();
    let server = script.start(builder());
    let there = connect(server.local_addr());
    converse(&there, 1, 10, || 10);
    server.drain(PATIENCE);
    wait_until("nobody listens any more", || TcpStream::connect(server.local_addr()).is_err());
    let (here, _there) = meet();
    assert_eq!(server.hand_over(&here).unwrap_err().kind(), ErrorKind::NotConnected);
    converse(&there, 1, 10, || 10);
}

#[test]
fn sockets_of_whoever_opened_them_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = Script::echo();
    let of = |sockets: Vec<OwnedFd>| Listeners::of(sockets);
    // It is a blocking one, of one shard's or of several.
    for shards in [1, 3] {
        let listeners = of(vec![listener.try_clone().unwrap().into()]).unwrap();
        let server = script.start(builder().shards(shards).listeners(listeners));
        assert_eq!(server.local_addr(), address);
        still_serves(&server);
        drop(server);
        // It is open still, here.
        drop(connect(address));
    }
    let wrong = [
        of(vec![]),
        of(vec![UdpSocket::bind("127.0.0.1:0").unwrap().into()]),
        of(vec![TcpStream::connect(address).unwrap().into()]),
        of(vec![UnixStream::pair().unwrap().0.into()]),
    ];
    for error in wrong.map(Result::unwrap_err) {
        assert!(matches!(error, Error::Inherited { .. }), "{error}");
    }
}

#[test]
fn steering_goes_on_as_it_was() {
    let steered = |shards| Server::builder().port(0).shards(shards).steering(Steering::Cpu).cores(Cores::All);
    let Ok(server) = steered(2).start(|_| Script::echo()) else { return println!("skipped: it takes two cores") };
    let attempt = |builder: Builder| {
        let (here, there) = meet();
        thread::scope(|scope| {
            let starts =
                scope.spawn(|| builder.listeners(Listeners::take_over(there).unwrap()).start(|_| Script::echo()));
            let handed_over = server.hand_over(&here);
            let started = starts.join().unwrap();
            assert_eq!(handed_over.is_ok(), started.is_ok());
            started.map(|next| still_serves(&next))
        })
    };
    for other in [builder(), builder().shards(1), steered(1)] {
        assert!(matches!(attempt(other), Err(Error::Config { knob: "steering", .. })));
    }
    attempt(steered(2)).unwrap();
    let listeners = Listeners::of([TcpListener::bind("127.0.0.1:0").unwrap()]).unwrap();
    let unsteered = steered(2).listeners(listeners).start(|_| Script::echo());
    assert!(matches!(unsteered, Err(Error::Config { knob: "steering", .. })));
}
