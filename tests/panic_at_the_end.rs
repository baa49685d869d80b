//! A panic in `handle_closed`, or a value of a panic that panics itself, costs nothing more than it did before.

mod support;

use esockets::{Client, ClientId, CloseReason, Handler, Peer};
use support::wait_until;
use support::{
    Script, builder, connect, conserve, converse, echo_unless_told, expect_reset, meant, say_panic, silence,
};

/// Panics when it hears of the end of a connection.
struct Sore;

impl Handler for Sore {
    type Session = ();
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        echo_unless_told(client)
    }

    fn handle_closed(&mut self, (): (), _id: ClientId, _reason: CloseReason) {
        meant();
    }
}

#[test]
fn in_handle_closed() {
    silence();
    let server = builder().shards(1).start(|_| Sore).unwrap();
    let bystander = connect(server.local_addr());
    for round in 1..=3 {
        conserve(&connect(server.local_addr()), 1, 1000, || 1000);
        wait_until("it is counted", || server.stats().total.panics == round);
        converse(&bystander, round, 1000, || 1000);
    }
    let both = connect(server.local_addr());
    say_panic(&both);
    expect_reset(&both);
    conserve(&bystander, 5, 1000, || 1000);
    server.stop();
    let stats = server.join().unwrap();
    let by = |reason| stats.total.closed(reason);
    assert_eq!((stats.total.panics, by(CloseReason::PeerClosed), by(CloseReason::Panicked)), (6, 4, 1), "{stats}");
}

/// A panic whose value panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        meant();
    }
}

#[test]
fn with_a_value_that_panics_when_it_is_dropped() {
    let script = Script::echo().readable(|client| {
        if client.peek().starts_with(b"panic") {
            std::panic::resume_unwind(Box::new(Bomb));
        }
        echo_unless_told(client)
    });
    silence();
    let server = script.start(builder().shards(1));
    let bystander = connect(server.local_addr());
    for round in 1..=3 {
        let stream = connect(server.local_addr());
        say_panic(&stream);
        expect_reset(&stream);
        converse(&bystander, round, 1000, || 1000);
    }
    script.log.wait_closed(3);
    assert_eq!(script.log.reasons(), [CloseReason::Panicked; 3]);
    script.log.stop_and_check(server);
}
