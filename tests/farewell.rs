//! The last answer arrives whole, even if the peer goes on talking after the server has finished.

mod support;

use std::io::Write;

use support::{Script, builder, bytes, connect_narrow, expect, expect_end, wait_until};

const ANSWER: usize = 1 << 20;

#[test]
fn who_goes_on_talking_still_gets_the_whole_answer() {
    let script = Script::echo().readable(|client| {
        client.recv();
        assert!(client.send(&bytes(1, 0, ANSWER)));
        false
    });
    let server = script.start(builder().output_max(2 * ANSWER));
    for round in 0..20 {
        let mut stream = connect_narrow(server.local_addr());
        stream.write_all(b"question").unwrap();
        wait_until("the answer is with the kernel", || server.stats().total.bytes_out == (round + 1) * ANSWER as u64);
        // Nobody is interested in this any more; it must not cost the answer.
        let _ = stream.write_all(b"another question");
        expect(&stream, 1, 0, ANSWER);
        expect_end(&stream);
    }
    script.log.stop_and_check(server);
}
