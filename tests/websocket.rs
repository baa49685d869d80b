//! What a WebSocket's peer may do and what it may not, frame by frame, without a socket.

use std::time::Duration;

use esockets::testing::TestClient as Plain;
use esockets::websocket::testing::{Received, TestClient, frame, request};
use esockets::websocket::{Answer, Client, Frame, Handler, Request, Shard, WebSockets};
use esockets::{ClientId, CloseReason, Peer, Server};

/// Sends back what it is sent, says goodbye when it is told to, and writes down what else it is told.
#[derive(Default)]
struct Echo {
    log: Vec<String>,
}

impl Handler for Echo {
    type Session = u32;
    type Message = Option<Frame>;

    fn handle_open(&mut self, request: &Request<'_>, _: &Peer) -> Answer<u32> {
        match request.path() {
            "/secret" => Answer::refuse(401),
            _ => Answer::accept(0).subprotocol("echo"),
        }
    }

    fn handle_opened(&mut self, client: &mut Client<'_, '_>, _: &mut u32) -> bool {
        self.log.push(format!("opened {}", client.is_open()));
        true
    }

    fn handle_text(&mut self, client: &mut Client<'_, '_>, count: &mut u32, text: &str) -> bool {
        *count += 1;
        match text {
            "bye" => false,
            "panic" => panic!("as it was told"),
            "close" => {
                client.close(4001, "enough");
                assert!(!client.is_open() && !client.send_text("more"), "nothing follows a close frame");
                true
            }
            "pause" => {
                client.pause();
                client.send_text("paused")
            }
            text => client.send_text(text),
        }
    }

    fn handle_binary(&mut self, client: &mut Client<'_, '_>, _: &mut u32, bytes: &[u8]) -> bool {
        client.send_binary(bytes)
    }

    fn handle_pong(&mut self, _: &mut Client<'_, '_>, _: &mut u32, payload: &[u8]) -> bool {
        self.log.push(format!("pong {}", payload.escape_ascii()));
        true
    }

    fn handle_close(&mut self, _: &mut u32, code: Option<u16>, reason: &str) {
        self.log.push(format!("close {code:?} {reason}"));
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, '_, u32>, message: Option<Frame>) {
        shard.each_client(|client, _| match &message {
            Some(frame) => client.send_frame(frame),
            None => {
                client.resume();
                true
            }
        });
    }

    fn handle_closed(&mut self, count: u32, _: ClientId, reason: CloseReason) {
        self.log.push(format!("closed {count} {reason}"));
    }
}

fn open() -> TestClient<Echo> {
    let client = TestClient::open(WebSockets::new(Echo::default()), "/", &[]);
    assert_eq!(client.status(), 101);
    client
}

/// What comes back for these bytes of an open WebSocket, sent as one piece; the same must come back byte by byte.
fn answers(bytes: &[u8]) -> Vec<Received> {
    let (mut whole, mut pieces) = (open(), open());
    whole.send_raw(bytes);
    bytes.chunks(1).for_each(|byte| pieces.send_raw(byte));
    let received = whole.received();
    assert_eq!(received, pieces.received(), "byte by byte");
    assert_eq!(whole.closed(), pieces.closed());
    received
}

/// The code with which these bytes end the connection, and that they do.
fn ends_with(bytes: &[u8]) -> Option<u16> {
    let mut client = open();
    client.send_raw(bytes);
    assert_eq!(client.is_open(), client.closed().is_none());
    match client.received().as_slice() {
        [.., Received::Close(code, _)] if !client.is_open() => Some(*code),
        received => panic!("{received:?}"),
    }
}

fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}

#[test]
fn messages_come_back_whole_in_whatever_frames() {
    let long = "x".repeat(70_000);
    for message in ["", "a", "κόσμε", &long[..125], &long[..126], &long[..65_535], &long[..65_536], &long] {
        let mut client = open();
        client.send_text(message);
        client.send_binary(message.as_bytes());
        assert_eq!(client.received(), [text(message), Received::Binary(message.into())], "{} bytes", message.len());
    }
    let pieces = [frame(0x01, "κό".as_bytes()), frame(0x00, b""), frame(0x00, &[0xCF]), frame(0x80, &[0x83])].concat();
    assert_eq!(answers(&pieces), [text("κόσ")]);
    let both = [frame(0x02, b"ab"), frame(0x80, b"c"), frame(0x81, b"d")].concat();
    assert_eq!(answers(&both), [Received::Binary(b"abc".into()), text("d")]);
}

#[test]
fn frames_may_follow_the_request_at_once() {
    let mut client = Plain::connect(WebSockets::new(Echo::default()));
    client.send(&[request("/", &[]), frame(0x81, b"early")].concat());
    let received = client.received();
    assert!(received.starts_with(b"HTTP/1.1 101 ") && received.ends_with(b"\r\n\r\n\x81\x05early"), "{received:?}");
    assert_eq!(client.handler().handler().log, ["opened true"]);
}

#[test]
fn a_request_may_be_refused_by_the_handler_or_choose_a_protocol() {
    let client = TestClient::open(WebSockets::new(Echo::default()), "/secret", &[]);
    assert_eq!((client.status(), client.closed()), (401, Some(CloseReason::Finished)));
    let mut plain = Plain::connect(WebSockets::new(Echo::default()));
    plain.send(&request("/", &[("Sec-WebSocket-Protocol", "other, echo")]));
    let answer = String::from_utf8(plain.received()).unwrap();
    assert!(answer.contains("\r\nSec-WebSocket-Protocol: echo\r\n"), "{answer}");
    let mut plain = Plain::connect(WebSockets::new(Echo::default()));
    plain.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = String::from_utf8(plain.received()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert!(!plain.is_open() && plain.handler().handler().log.is_empty(), "there was no session");
}

#[test]
fn who_does_not_finish_its_request_is_told_so_and_let_go() {
    let mut plain = Plain::connect(WebSockets::new(Echo::default()));
    request("/", &[]).split_last().unwrap().1.chunks(1).for_each(|byte| plain.send(byte));
    assert!(plain.is_open() && plain.received().is_empty());
    plain.time_out();
    assert!(plain.received().starts_with(b"HTTP/1.1 408 ") && !plain.is_open());
    let mut plain = Plain::connect(WebSockets::new(Echo::default()).handshake_max(50));
    plain.send(&request("/", &[])[..50]);
    assert!(plain.received().starts_with(b"HTTP/1.1 431 ") && !plain.is_open());
}

#[test]
fn what_the_rfc_forbids_ends_with_1002() {
    assert_eq!(ends_with(b"\x81\x01a"), Some(1002), "no mask");
    assert_eq!(ends_with(&[0x81, 0xFE, 0, 5]), Some(1002), "not minimal");
    assert_eq!(ends_with(&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]), Some(1002), "63 bits");
    assert_eq!(ends_with(&[0xC1]), Some(1002), "a reserved bit");
    assert_eq!(ends_with(&[0x83]), Some(1002), "a reserved opcode");
    assert_eq!(ends_with(&[0x09]), Some(1002), "a ping in fragments");
    assert_eq!(ends_with(&[0x89, 0xFE]), Some(1002), "a long ping");
    assert_eq!(ends_with(&frame(0x80, b"a")), Some(1002), "nothing to continue");
    assert_eq!(ends_with(&[frame(0x01, b"a"), frame(0x81, b"b")].concat()), Some(1002), "unfinished");
}

#[test]
fn what_came_before_is_answered_and_what_comes_after_is_not() {
    let bytes = [frame(0x81, b"a"), vec![0x83], frame(0x81, b"b")].concat();
    let mut client = open();
    client.send_raw(&bytes);
    let received = client.received();
    assert_eq!(received, [text("a"), Received::Close(1002, "a reserved opcode".into())]);
    assert_eq!(client.handler().log, ["opened true", "closed 1 finished"]);
}

#[test]
fn wrong_text_ends_with_1007_at_its_first_wrong_byte() {
    assert_eq!(ends_with(&frame(0x81, &[0xC0, 0xAF])), Some(1007));
    assert_eq!(ends_with(&frame(0x81, &[0xE2, 0x82])), Some(1007), "cut off at the end");
    assert_eq!(ends_with(&frame(0x01, &[b'a', 0xED, 0xA0])), Some(1007), "the message goes on");
    assert_eq!(ends_with(&[frame(0x01, &[0xF4]), frame(0x00, &[0x90])].concat()), Some(1007));
    // The frame goes on, too: of its 10 bytes only two are there.
    assert_eq!(ends_with(&frame(0x81, b"a\xFF34567890")[..8]), Some(1007));
    assert_eq!(ends_with(&frame(0x88, b"\x03\xe8\xff")), Some(1007), "in a reason");
    assert_eq!(answers(&frame(0x82, &[0xFF])), [Received::Binary(vec![0xFF])], "bytes may be any");
}

#[test]
fn what_is_too_long_ends_before_any_of_it_is_kept() {
    let sockets = || WebSockets::new(Echo::default()).message_max(100).frame_max(60).fragments_max(4);
    let ends = |bytes: &[u8]| {
        let mut client = TestClient::open(sockets(), "/", &[]);
        client.send_raw(bytes);
        match client.received().pop() {
            Some(Received::Close(code, _)) => Some(code),
            _ => None,
        }
    };
    let zeros = [0; 200];
    assert_eq!(ends(&frame(0x82, &zeros[..60])), None);
    assert_eq!(ends(&frame(0x82, &zeros[..61])[..6]), Some(1009), "the head is enough");
    assert_eq!(ends(&frame(0x02, &zeros[..61])[..6]), Some(1009));
    assert_eq!(ends(&[frame(0x02, &zeros[..60]), frame(0x80, &zeros[..40])].concat()), None);
    assert_eq!(ends(&[frame(0x02, &zeros[..60]), frame(0x80, &zeros[..41])[..6].to_vec()].concat()), Some(1009));
    let empty = [frame(0x01, b""), frame(0x00, b"").repeat(3)].concat();
    assert_eq!(ends(&empty), None);
    assert_eq!(ends(&[empty, frame(0x00, b"")].concat()), Some(1008), "four fragments are enough");
    assert_eq!(ends_with(&[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4]), Some(1009));
    assert_eq!(ends_with(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1, 1, 2, 3, 4]), Some(1009), "1 MiB and a byte");
}

#[test]
fn pings_are_answered_between_fragments_too_and_a_flood_by_its_newest() {
    let bytes = [frame(0x01, b"fr"), frame(0x89, b"1"), frame(0x00, b""), frame(0x89, &[7; 125]), frame(0x80, b"ag")];
    assert_eq!(answers(&bytes.concat()), [Received::Pong(b"1".into()), Received::Pong(vec![7; 125]), text("frag")]);
    assert_eq!(answers(&frame(0x8A, b"unasked")), []);
    let mut client = open();
    let flood: Vec<u8> = (0..8000_u32).flat_map(|number| frame(0x89, &number.to_be_bytes())).collect();
    client.send_raw(&flood);
    let received = client.received();
    assert!(received.len() < 2000, "{} pongs", received.len());
    assert_eq!(received.last(), Some(&Received::Pong(7999_u32.to_be_bytes().into())));
}

#[test]
fn a_peer_that_takes_nothing_does_not_make_pongs_pile_up() {
    let mut client = open();
    client.connection().take_only(0);
    for number in 0..300_u32 {
        client.send_raw(&frame(0x89, &[number as u8; 125]).repeat(100));
    }
    let waiting = client.connection().act(|client| client.output_waiting()).unwrap();
    assert!(waiting < 2000 + 300 * 127, "one pong for each call, of a hundred: {waiting} bytes");
    client.connection().take_only(usize::MAX / 2);
    assert_eq!(client.received().last(), Some(&Received::Pong(vec![43; 125])));
}

#[test]
fn the_peers_close_is_answered_once_with_its_code() {
    for code in [1000, 1001, 3000, 4999] {
        let mut client = open();
        client.send_close(code, "reason");
        assert_eq!(client.received(), [Received::Close(code, String::new())]);
        assert_eq!(client.closed(), Some(CloseReason::Finished));
        let log = client.handler().log.clone();
        assert_eq!(log, ["opened true", &format!("close Some({code}) reason"), "closed 0 finished"]);
    }
    assert_eq!(answers(&frame(0x88, b"")), [Received::Close(1005, String::new())]);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        assert_eq!(ends_with(&frame(0x88, &code.to_be_bytes())), Some(1002), "{code}");
    }
    assert_eq!(ends_with(&frame(0x88, b"\x03")), Some(1002));
    let after = [frame(0x88, b"\x03\xe8"), frame(0x81, b"late"), frame(0x88, b"\x03\xe9")].concat();
    assert_eq!(answers(&after), [Received::Close(1000, String::new())]);
}

#[test]
fn our_own_close_waits_for_the_peers_and_shows_nothing_more() {
    let mut client = open();
    client.send_raw(&[frame(0x81, b"close"), frame(0x81, b"late"), frame(0x89, b"late")].concat());
    assert_eq!(client.received(), [Received::Close(4001, "enough".into())]);
    assert!(client.is_open());
    client.send_raw(&[frame(0x01, b"half"), vec![0x80, 0x85, 1, 2, 3, 4]].concat());
    client.send_raw(&[b"abcde".to_vec(), frame(0x88, b"\x0f\xa1")].concat());
    assert_eq!((client.received(), client.closed()), (vec![], Some(CloseReason::Finished)));
    assert_eq!(client.handler().log, ["opened true", "close Some(4001) ", "closed 1 finished"]);
    let mut client = open();
    client.send_text("bye");
    assert_eq!((client.received(), client.is_open()), (vec![Received::Close(1000, String::new())], true));
    client.time_out();
    assert_eq!(client.closed(), Some(CloseReason::Expired));
}

#[test]
fn a_silent_peer_is_asked_whether_it_is_there_and_then_let_go() {
    // A timer runs out within the 20 ms after its time.
    const INTERVAL: Duration = Duration::from_secs(60);
    const SLACK: Duration = Duration::from_millis(20);
    let mut client = open();
    for round in 0..3 {
        // Whatever it says puts it off, to the moment.
        for _ in 0..5 {
            client.pass(INTERVAL - SLACK);
            assert_eq!(client.received(), [], "{round}");
            client.send_raw(&frame(0x8A, b""));
        }
        client.pass(INTERVAL - SLACK);
        assert_eq!(client.received(), [], "{round}");
        client.pass(2 * SLACK);
        assert_eq!(client.received(), [Received::Ping(vec![])], "{round}");
        client.pass(INTERVAL - 2 * SLACK);
        client.send_raw(&frame(0x8A, b""));
    }
    client.pass(INTERVAL + SLACK);
    assert_eq!(client.received(), [Received::Ping(vec![])]);
    client.pass(INTERVAL - 2 * SLACK);
    assert!(client.is_open() && client.received().is_empty());
    client.pass(3 * SLACK);
    assert_eq!(client.received(), [Received::Close(1008, "a ping was not answered".into())]);
    assert_eq!(client.closed(), Some(CloseReason::Expired));
}

#[test]
fn a_paused_client_is_shown_the_rest_when_it_goes_on() {
    let mut client = open();
    client.send_raw(&[frame(0x81, b"pause"), frame(0x81, b"1"), frame(0x81, b"2")].concat());
    assert_eq!(client.received(), [text("paused")]);
    (0..10).for_each(|_| client.time_out());
    assert_eq!((client.received(), client.is_open()), (vec![], true), "its silence is not its own");
    client.message(None);
    assert_eq!(client.received(), [text("1"), text("2")]);
}

#[test]
fn a_frame_for_all_reaches_who_is_open() {
    let mut client = open();
    client.message(Some(Frame::text("to all")));
    client.message(Some(Frame::binary(&[0; 300])));
    assert_eq!(client.received(), [text("to all"), Received::Binary(vec![0; 300])]);
    client.send_text("close");
    client.received();
    client.message(Some(Frame::text("too late")));
    assert_eq!(client.received(), []);
    let mut plain = Plain::connect(WebSockets::new(Echo::default()));
    plain.message(Some(Frame::text("too early")));
    assert_eq!(plain.received(), b"", "it has no WebSocket yet");
}

#[test]
fn ten_thousand_messages_that_come_together_all_come_back_to_who_takes_little() {
    let server = Server::builder().output_max(4 << 10).output_low(1 << 10);
    let mut client = TestClient::open_on(&server, WebSockets::new(Echo::default()), "/", &[]);
    let (mut received, mut sent) = (Vec::new(), 0_u32);
    client.connection().take_only(100);
    for _ in 0..10 {
        let many: Vec<u8> = (sent..sent + 1000).flat_map(|number| frame(0x82, &number.to_be_bytes())).collect();
        sent += 1000;
        client.send_raw(&many);
        for _ in 0..100 {
            client.connection().take_only(500);
            received.extend(client.received());
        }
    }
    client.connection().take_only(usize::MAX / 2);
    received.extend(client.received());
    assert_eq!(client.closed(), None);
    let expected: Vec<Received> = (0..sent).map(|number| Received::Binary(number.to_be_bytes().into())).collect();
    assert!(received == expected, "{} of {sent}", received.len());
}

#[test]
fn a_panic_ends_with_a_reset_and_is_told_once() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut client = open();
    client.send_text("panic");
    assert_eq!(client.closed(), Some(CloseReason::Panicked));
    assert_eq!(client.handler().log, ["opened true", "closed 1 panicked"]);
}
