//! What a server of WebSockets is told: frames and requests, right and wrong, in pieces of any size.

use esockets::testing::TestClient as Plain;
use esockets::websocket::testing::{Received, TestClient};
use esockets::websocket::{Answer, Client, Handler, Request, WebSockets};
use esockets::{CloseReason, Peer};

/// Sends back what it is sent.
struct Echo;

impl Handler for Echo {
    type Session = ();
    type Message = ();

    fn handle_open(&mut self, request: &Request<'_>, _: &Peer) -> Answer<()> {
        assert!(request.path().starts_with('/') && !request.host().is_empty());
        request.subprotocols().next().into_iter().fold(Answer::accept(()), Answer::subprotocol)
    }

    fn handle_text(&mut self, client: &mut Client<'_, '_>, (): &mut (), text: &str) -> bool {
        client.send_text(text)
    }

    fn handle_binary(&mut self, client: &mut Client<'_, '_>, (): &mut (), bytes: &[u8]) -> bool {
        client.send_binary(bytes)
    }
}

fn echo() -> WebSockets<Echo> {
    WebSockets::new(Echo).message_max(300).frame_max(200).fragments_max(8).deflate(Some(20))
}

/// Beyond it pings may be so many in one call that only the newest is answered.
const LENGTH_MAX: usize = 3_000;

/// `data` behind a request that is right, one that offers compression and one that does not. What comes back is what a server may send, and a close frame is the last of it; it
/// is the same for the same bytes in one piece and one by one.
pub fn frames(data: &[u8]) {
    for headers in [&[][..], &[("Sec-WebSocket-Extensions", "permessage-deflate")]] {
        let whole = answers(data, data.len(), headers);
        let pieces = answers(data, 1, headers);
        if data.len() <= LENGTH_MAX {
            assert_eq!(whole, pieces, "in one piece, and byte by byte");
        }
    }
}

/// What comes back for `data` in pieces of this size, and how it ended.
fn answers(data: &[u8], piece: usize, headers: &[(&str, &str)]) -> (Vec<Received>, Option<CloseReason>) {
    let mut client = TestClient::open(echo(), "/", headers);
    assert_eq!((client.status(), client.deflates()), (101, !headers.is_empty()));
    data.chunks(piece.max(1)).for_each(|piece| client.send_raw(piece));
    let received = client.received();
    let closes = received.iter().filter(|received| matches!(received, Received::Close(..))).count();
    let ends_with_it = matches!(received.last(), Some(Received::Close(..)));
    assert_eq!(closes, usize::from(ends_with_it), "once, and nothing behind it");
    assert_eq!(
        client.is_open(),
        !ends_with_it,
        "the handler does not close, so whoever is told has closed or broken a rule"
    );
    (received, client.closed())
}

/// `data` in place of a request, its first byte being the size of the pieces. It is answered once: with a WebSocket or with a
/// refusal, after which nothing is read.
pub fn handshake(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let mut client = Plain::connect(echo());
    data.chunks(usize::from(piece).max(1)).for_each(|piece| client.send(piece));
    let answer = client.received();
    if answer.is_empty() {
        assert!(client.is_open(), "who is turned away is told why");
        return;
    }
    let is_accepted = answer.starts_with(b"HTTP/1.1 101 ");
    assert!(is_accepted || answer.starts_with(b"HTTP/1.1 4"), "{}", answer.escape_ascii());
    assert!(is_accepted || !client.is_open(), "a refused request leaves nothing open");
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let names =
        answer[..head].split(|&byte| byte == b'\n').skip(1).filter_map(|line| line.split(|&byte| byte == b':').next());
    assert!(names.clone().all(|name| name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')));
}
