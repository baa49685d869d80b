//! One message for many: nobody's copy of it, everybody's bytes.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use esockets::{CloseReason, Server};
use support::{Order, Script, builder, bytes, connect_narrow, expect, wait_until};

const CLIENTS: usize = 12;
const LONG: usize = 6 << 20;

fn start(output_max: usize) -> (Server<Order>, Script, Vec<TcpStream>) {
    let script = Script::echo();
    let server = script.start(builder().output_max(output_max));
    let streams: Vec<TcpStream> = (0..CLIENTS).map(|_| connect_narrow(server.local_addr())).collect();
    wait_until("all are there", || script.log.opened().len() == CLIENTS);
    (server, script, streams)
}

fn tell_all(server: &Server<Order>, message: &Arc<[u8]>) {
    let message = Arc::clone(message);
    let tell = Order::new(move |shard| shard.each_client(|client, ()| client.send_shared(&message)));
    assert_eq!(server.remote().send_to_all(&tell), 2);
}

#[test]
fn what_slow_readers_do_not_take_waits_by_reference_and_arrives_in_order() {
    let (server, _script, streams) = start(16 << 20);
    let long: Arc<[u8]> = bytes(0, 0, LONG).into();
    let short: Arc<[u8]> = bytes(0, LONG, 200).into();
    tell_all(&server, &long);
    wait_until("all have a part of it", || Arc::strong_count(&long) == 1 + CLIENTS);
    tell_all(&server, &short);
    wait_until("that waits, too", || Arc::strong_count(&short) == 1 + CLIENTS);
    for stream in &streams {
        expect(stream, 0, 0, LONG + 200);
    }
    wait_until("it is let go", || Arc::strong_count(&long) == 1 && Arc::strong_count(&short) == 1);
    // What is said otherwise stays in order with it.
    let mut stream = &streams[7];
    stream.write_all(&bytes(0, LONG + 200, 1000)).unwrap();
    expect(stream, 0, LONG + 200, 1000);
}

#[test]
fn it_counts_towards_the_limit_and_is_let_go_with_the_connection() {
    let (server, script, streams) = start(4 << 20);
    let long: Arc<[u8]> = bytes(0, 0, 3 << 20).into();
    tell_all(&server, &long);
    wait_until("all have a part of it", || Arc::strong_count(&long) == 1 + CLIENTS);
    tell_all(&server, &vec![0; 4 << 20].into());
    script.log.wait_closed(CLIENTS);
    assert!(script.log.reasons().iter().all(|&reason| reason == CloseReason::OutputFull));
    wait_until("it is let go", || Arc::strong_count(&long) == 1);
    drop(streams);
}
