//! What a server is told: the language of a hand-over, and bytes in pieces of any size.

use std::io::Write;
use std::os::unix::net::UnixStream;

use esockets::testing::TestClient;
use esockets::{Client, CloseReason, Handler, Listeners, Peer, Server};

/// A predecessor that says `data`, and hangs up.
pub fn take_over(data: &[u8]) {
    let Ok((mut predecessor, successor)) = UnixStream::pair() else { return };
    predecessor.write_all(data).expect("the socket holds more than a fuzzer says");
    drop(predecessor);
    assert!(Listeners::take_over(successor).is_err(), "there is no listener without a descriptor");
}

/// Sends back whole lines.
struct Lines;

const LINE_MAX: usize = 64;
const OUTPUT_MAX: usize = 512;

impl Handler for Lines {
    type Session = ();
    type Message = ();

    fn handle_incoming(&mut self, _: &mut Client<'_>, _: &Peer) -> Option<()> {
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        while let Some(end) = client.peek().iter().position(|&byte| byte == b'\n') {
            let line = client.peek()[..=end].to_vec();
            client.consume(line.len());
            if !client.send(&line) {
                return false;
            }
        }
        true
    }
}

/// The rest of `data` is sent to a handler in pieces, between which its peer takes and does not take; a piece is as long as
/// the byte before it says. What comes back is each whole line, in order, once; all of them unless a limit ended it.
pub fn handler(data: &[u8]) {
    let server = Server::builder().input_max(LINE_MAX).output_max(OUTPUT_MAX).read_budget(32);
    let mut client = TestClient::connect_to(&server, Lines);
    let (mut sent, mut received, mut rest) = (Vec::new(), Vec::new(), data);
    while let Some((&act, behind)) = rest.split_first() {
        let (piece, behind) = behind.split_at(behind.len().min(usize::from(act >> 2)));
        match act & 3 {
            0 => client.take_only(piece.len()),
            1 => client.take_only(usize::MAX / 2),
            _ => {
                client.send(piece);
                sent.extend_from_slice(piece);
            }
        }
        received.extend(client.received());
        rest = behind;
    }
    client.take_only(usize::MAX / 2);
    client.finish();
    received.extend(client.received());
    let whole = sent.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    assert!(sent[..whole].starts_with(&received), "in order, once");
    match client.closed() {
        Some(CloseReason::PeerClosed) => assert_eq!(received.len(), whole, "nothing is missing"),
        Some(_) => {}
        None => panic!("it is over when both have finished"),
    }
}
