//! A handler that blocks for longer than the idle time while it welcomes a connection does not make that one idle.

mod support;

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use support::{builder, bytes, connect, expect};

#[test]
fn who_is_welcomed_slowly_is_served() {
    let idle_timeout = Duration::from_millis(500);
    let builder = builder().shards(1).idle_timeout(Some(idle_timeout)).handle_incoming(move |_, _| {
        // Less than what a shard takes for a pause of the whole process, after which it would look again.
        sleep(Duration::from_millis(800));
        true
    });
    let server = builder
        .handle_readable(|client| {
            let data = client.recv();
            client.send(data)
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addr());
    stream.write_all(&bytes(1, 0, 10)).unwrap();
    expect(&stream, 1, 0, 10);
}
