//! A peer that is gone is an error of the connection, never a signal: SIGPIPE would end a program that is not written in Rust.

mod support;

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esockets::CloseReason;
use signal_hook::consts::SIGPIPE;
use support::{Order, Script, builder, connect, converse, hold, reset, wait_until};

#[test]
fn sending_to_who_is_gone_raises_no_signal() {
    let raised = Arc::new(AtomicBool::new(false));
    // In the place of what Rust's runtime does, which is to ignore it.
    signal_hook::flag::register(SIGPIPE, Arc::clone(&raised)).unwrap();
    let finished = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&finished);
    let script = Script::echo().eof(move |_| {
        seen.store(true, Ordering::SeqCst);
        true
    });
    let server = script.start(builder().shards(1));
    let stream = connect(server.local_addr());
    converse(&stream, 1, 100, || 100);
    stream.shutdown(Shutdown::Write).unwrap();
    wait_until("its end is known", || finished.load(Ordering::SeqCst));
    let held = hold(&server, 0);
    // A reset after the peer's end makes the next send fail with EPIPE, which is what the signal comes with.
    reset(stream);
    let speak = Order::new(|shard| shard.each_client(|client, ()| client.send(b"hello")));
    server.remote().send(0, speak).unwrap();
    drop(held);
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::Reset]);
    assert!(!raised.load(Ordering::SeqCst), "SIGPIPE was raised");
}
