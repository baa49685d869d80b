//! Answers each line with its length: messages that arrive in pieces, or many at once.
//!
//! `cargo run --release --example lines`, then `nc 127.0.0.1 1234`. Another port: `-- 4321`.
//!
//! What `handle_readable` does not consume is kept and stands in front of the next input. That is all that framing needs:
//! look for a whole message, take it, and leave the rest.

use esockets::{Builder, Client, Handler, Peer, Server};

struct Lines;

impl Handler for Lines {
    /// How many bytes of the unfinished line have been searched already: a line that trickles in is searched once.
    type Session = usize;
    type Message = ();

    fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<usize> {
        client.send(b"what do you say?\n");
        Some(0)
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, searched: &mut usize) -> bool {
        while let Some(found) = client.peek()[*searched..].iter().position(|&byte| byte == b'\n') {
            let length = *searched + found;
            client.consume(length + 1);
            *searched = 0;
            // Answers to lines that came together leave together, in one system call.
            if !client.send(format!("{length} bytes\n").as_bytes()) {
                return false;
            }
        }
        *searched = client.peek().len();
        true // a line longer than `input_max` ends the connection without our help
    }
}

fn builder() -> Builder {
    Server::builder().input_max(8 << 10)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(1234), |port| port.parse())?;
    let server = builder().port(port).start(|_shard| Lines)?;
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use esockets::CloseReason;
    use esockets::testing::TestClient;

    #[test]
    fn a_line_may_arrive_in_pieces_and_lines_may_arrive_together() {
        let mut client = TestClient::connect(Lines);
        assert_eq!(client.received(), b"what do you say?\n");
        client.send(b"hel");
        assert_eq!(client.received(), b"");
        client.send(b"lo\nwor\nld");
        assert_eq!(client.received(), b"5 bytes\n3 bytes\n");
        client.send(b"\n");
        assert_eq!(client.received(), b"2 bytes\n");
    }

    #[test]
    fn a_line_that_does_not_end_ends_the_connection() {
        let mut client = TestClient::connect_to(&builder(), Lines);
        client.send(&[b'x'; 8 << 10]);
        assert!(client.is_open());
        client.send(b"y");
        assert_eq!(client.closed(), Some(CloseReason::InputFull));
    }
}
