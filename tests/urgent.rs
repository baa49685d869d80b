//! An urgent byte stops a read as the end does: what is behind it is shown all the same, without waiting for more.

mod support;

use std::io::Write;

use socket2::SockRef;
use support::{Script, builder, bytes, connect, expect, hold};

#[test]
fn what_comes_behind_an_urgent_byte_is_shown_at_once() {
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    let mut stream = connect(server.local_addr());
    for key in 0..20 {
        let go = hold(&server, 0);
        let all = bytes(key, 0, 60);
        stream.write_all(&all[..30]).unwrap();
        // Urgent data is not part of the stream (tcp(7)): it is not shown, and must not stop what is.
        SockRef::from(&stream).send_out_of_band(b"!").unwrap();
        stream.write_all(&all[30..]).unwrap();
        go.send(()).unwrap();
        expect(&stream, key, 0, 60);
    }
    drop(stream);
    script.log.stop_and_check(server);
}
