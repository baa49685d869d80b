//! Compressed messages (RFC 7692), frame by frame: what is agreed on, what comes in, and what goes out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use esockets::testing::TestClient as Plain;
use esockets::websocket::testing::{Received, TestClient, deflate, frame, request};
use esockets::websocket::{Answer, Client, Frame, Handler, Request, Shard, WebSockets};
use esockets::{CloseReason, Peer, Server, ShardInfo};

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
const OFFER: (&str, &str) = (EXTENSIONS, "permessage-deflate; client_max_window_bits");

/// Sends back what it is sent, and to all what it is told to.
struct Echo;

impl Handler for Echo {
    type Session = ();
    type Message = Frame;

    fn handle_open(&mut self, _: &Request<'_>, _: &Peer) -> Answer<()> {
        Answer::accept(())
    }

    fn handle_text(&mut self, client: &mut Client<'_, '_>, (): &mut (), text: &str) -> bool {
        match text {
            "close" => client.close(4001, &"enough ".repeat(100)),
            text => assert!(client.send_text(text)),
        }
        true
    }

    fn handle_binary(&mut self, client: &mut Client<'_, '_>, (): &mut (), bytes: &[u8]) -> bool {
        client.send_binary(bytes)
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, '_, ()>, message: Frame) {
        shard.each_client(|client, ()| client.send_frame(&message));
    }
}

fn echo() -> WebSockets<Echo> {
    WebSockets::new(Echo).deflate(Some(100))
}

/// A client whose offer was accepted.
fn open(sockets: WebSockets<Echo>) -> TestClient<Echo> {
    let client = TestClient::open(sockets, "/", &[OFFER]);
    assert!(client.status() == 101 && client.deflates());
    client
}

/// What comes back for these bytes, as they are sent: in one piece, and byte by byte.
fn raw_answers(bytes: &[u8]) -> Vec<u8> {
    let (mut whole, mut pieces) = (open(echo()), open(echo()));
    whole.send_raw(bytes);
    bytes.chunks(1).for_each(|byte| pieces.send_raw(byte));
    let received = whole.connection().received();
    assert_eq!(received, pieces.connection().received(), "byte by byte");
    assert_eq!(whole.closed(), pieces.closed());
    received
}

/// The code with which these bytes end the connection, in one piece and byte by byte; `None` if they do not.
fn ends_with(sockets: impl Fn() -> WebSockets<Echo>, bytes: &[u8]) -> Option<u16> {
    let codes = [bytes.len(), 1].map(|piece| {
        let mut client = open(sockets());
        bytes.chunks(piece).for_each(|piece| client.send_raw(piece));
        let received = client.received();
        match received.last() {
            Some(Received::Close(code, _)) if client.closed() == Some(CloseReason::Finished) => Some(*code),
            Some(Received::Close(..)) => panic!("{received:?}"),
            _ => None,
        }
    });
    assert_eq!(codes[0], codes[1], "byte by byte");
    codes[0]
}

/// A text that gets much shorter.
fn long_text() -> String {
    let items = (0..2000).map(|number| format!("{{\"number\": {number}, \"text\": \"and so on\"}},"));
    items.chain(["κόσμε".to_owned()]).collect()
}

#[test]
fn an_offer_is_accepted_in_its_header_field_or_passed_over() {
    let answer = |sockets: WebSockets<Echo>, headers: &[(&str, &str)]| {
        let mut plain = Plain::connect(sockets);
        plain.send(&request("/", headers));
        String::from_utf8(plain.received()).unwrap()
    };
    let least =
        "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert!(answer(echo(), &[OFFER]).contains(&format!("{least}\r\n\r\n")));
    let asked = (EXTENSIONS, "x-other; a=\"b\", permessage-deflate; server_max_window_bits=9, permessage-deflate");
    assert!(answer(echo(), &[asked]).contains(&format!("{least}; server_max_window_bits=9\r\n\r\n")));
    let in_the_second =
        [(EXTENSIONS, "permessage-deflate; unknown"), ("sec-websocket-extensions", "permessage-deflate")];
    assert!(answer(echo(), &in_the_second).contains(least));
    for (sockets, offer) in
        [(WebSockets::new(Echo), OFFER.1), (echo(), "permessage-deflate; unknown"), (echo(), "other")]
    {
        let answer = answer(sockets, &[(EXTENSIONS, offer)]);
        assert!(answer.starts_with("HTTP/1.1 101 ") && !answer.contains(EXTENSIONS), "{offer}: {answer}");
    }
    assert!(answer(echo(), &[(EXTENSIONS, "permessage-deflate; =")]).starts_with("HTTP/1.1 400 "));
    assert!(answer(WebSockets::new(Echo), &[(EXTENSIONS, "\"")]).starts_with("HTTP/1.1 400 "));
}

#[test]
fn messages_come_back_in_whatever_frames_compressed_where_that_is_shorter() {
    let long = long_text();
    let mut client = open(echo());
    for text in ["", "a", "κόσμε", &long[..99], &long[..100], &long] {
        client.send_text(text);
        client.send_binary(text.as_bytes());
        client.send_raw(&frame(0x81, text.as_bytes()));
        let (text, bytes) = (Received::Text(text.to_owned()), Received::Binary(text.into()));
        assert_eq!(client.received(), [text.clone(), bytes, text], "compressed or not");
    }
    let packed = deflate(long.as_bytes());
    let pieces: Vec<u8> = (0..packed.len())
        .flat_map(|at| frame(if at == 0 { 0x41 } else { 0x00 }, &packed[at..=at]))
        .chain(frame(0x89, b"between"))
        .chain(frame(0x80, b""))
        .collect();
    let mut client = open(echo().fragments_max(10_000));
    client.send_raw(&pieces);
    assert_eq!(client.received(), [Received::Pong(b"between".into()), Received::Text(long.clone())]);
    assert_eq!(raw_answers(&frame(0xC1, &packed))[..2], [0xC1, 126], "one frame, which tells that it is compressed");
    assert_eq!(raw_answers(&frame(0xC2, &packed))[0], 0xC2);
    assert_eq!(
        raw_answers(&frame(0xC1, &deflate(&long.as_bytes()[..99])))[..2],
        [0x81, 99],
        "too short to be worth it"
    );
    let mut state = 1_u32;
    let noise: Vec<u8> = (0..1000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    assert_eq!(raw_answers(&frame(0xC2, &deflate(&noise)))[0], 0x82, "it does not get shorter");
}

#[test]
fn control_frames_are_never_compressed() {
    assert_eq!(raw_answers(&frame(0x89, &[7; 125]))[..2], [0x8A, 125]);
    let mut client = open(echo());
    client.send_text("close");
    assert_eq!(client.connection().received()[..2], [0x88, 125], "as much of the reason as fits");
}

#[test]
fn a_reserved_bit_that_has_no_meaning_ends_with_1002_at_its_byte() {
    for first in [0x91, 0xA1, 0xD1, 0xF2, 0xC0, 0x40, 0xC8, 0xC9, 0xCA, 0xC3] {
        assert_eq!(ends_with(echo, &[first]), Some(1002), "{first:#x}");
    }
    assert_eq!(ends_with(echo, &[frame(0x41, b""), vec![0xC0]].concat()), Some(1002), "in the middle of a message");
    let mut client = TestClient::open(echo(), "/", &[]);
    client.send_raw(&[0xC1]);
    assert!(matches!(client.received()[..], [Received::Close(1002, _)]), "nothing was agreed on");
}

#[test]
fn what_is_no_deflate_data_ends_with_1007() {
    let packed = deflate(long_text().as_bytes());
    assert_eq!(ends_with(echo, &frame(0xC1, &packed)), None);
    assert_eq!(ends_with(echo, &frame(0xC1, &packed[..packed.len() - 10])), Some(1007), "cut off");
    assert_eq!(ends_with(echo, &frame(0xC1, &[&packed[..], b"x"].concat())), Some(1007), "something behind");
    assert_eq!(ends_with(echo, &frame(0xC2, &[0xFF; 20])), Some(1007));
    assert_eq!(ends_with(echo, &frame(0xC2, b"")), Some(1007), "an empty message is a byte, see section 7.2.3.6");
    assert_eq!(ends_with(echo, &frame(0xC2, &[0])), None);
    assert_eq!(ends_with(echo, &[frame(0x42, &[0xF2]), frame(0x80, &[0, 0x11, 0, 0])].concat()), Some(1007));
    // A message that looks back into the one before it, which "no context takeover" forbids.
    let hello = frame(0xC1, &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00]);
    let again = frame(0xC1, &[0xF2, 0x00, 0x11, 0x00, 0x00]);
    assert_eq!(ends_with(echo, &[hello.clone(), hello.clone()].concat()), None);
    assert_eq!(ends_with(echo, &[hello, again].concat()), Some(1007));
}

#[test]
fn text_that_is_not_utf8_when_it_is_inflated_ends_with_1007() {
    for wrong in [&b"a\xFF"[..], b"\xE2\x82", &[b'a'; 10_000].map(|byte| byte | 0x80)] {
        assert_eq!(ends_with(echo, &frame(0xC1, &deflate(wrong))), Some(1007));
        assert_eq!(ends_with(echo, &frame(0xC2, &deflate(wrong))), None, "bytes may be any");
    }
}

#[test]
fn a_bomb_ends_with_1009_when_it_gets_too_long() {
    let sockets = || echo().message_max(10_000);
    assert_eq!(ends_with(sockets, &frame(0xC2, &deflate(&[0; 10_000]))), None);
    assert_eq!(ends_with(sockets, &frame(0xC2, &deflate(&[0; 10_001]))), Some(1009));
    let bomb = deflate(&vec![0; 8 << 20]);
    assert!(bomb.len() < 9_000);
    assert_eq!(ends_with(sockets, &frame(0xC1, &bomb)), Some(1009));
    let pieces = [frame(0x42, &bomb[..4_000]), frame(0x80, &bomb[4_000..])].concat();
    assert_eq!(ends_with(sockets, &pieces), Some(1009));
    // What it is before it is inflated has a limit of its own, and is refused at its head.
    assert_eq!(ends_with(sockets, &frame(0xC2, &[0; 11_315])[..8]), Some(1009));
    assert_eq!(ends_with(sockets, &frame(0xC2, &[0; 11_314])[..8]), None);
    let two = [frame(0x42, &[0; 11_000]), frame(0x80, &[0; 400])[..8].to_vec()].concat();
    assert_eq!(ends_with(sockets, &two), Some(1009));
    assert_eq!(ends_with(|| sockets().frame_max(100), &frame(0xC2, &[0; 101])[..6]), Some(1009));
}

#[test]
fn many_bombs_in_one_read_are_all_dealt_with() {
    let message = vec![7; 1 << 20];
    let mut client = TestClient::open_on(&Server::builder().output_max(100 << 20), echo(), "/", &[OFFER]);
    client.send_raw(&frame(0xC2, &deflate(&message)).repeat(50));
    let received = client.received();
    assert!(received.len() == 50 && received.iter().all(|received| *received == Received::Binary(message.clone())));
}

/// Tells what it is sent, by its length, and stands still at "stand" until it is told to go on.
struct Teller {
    told: Sender<usize>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Handler for Teller {
    type Session = ();
    type Message = ();

    fn handle_open(&mut self, _: &Request<'_>, _: &Peer) -> Answer<()> {
        Answer::accept(())
    }

    fn handle_text(&mut self, _: &mut Client<'_, '_>, (): &mut (), text: &str) -> bool {
        self.told.send(text.len()).unwrap();
        if text == "stand" {
            self.go_on.lock().unwrap().recv().unwrap();
        }
        true
    }

    fn handle_binary(&mut self, _: &mut Client<'_, '_>, (): &mut (), bytes: &[u8]) -> bool {
        self.told.send(bytes.len()).unwrap();
        true
    }
}

/// A WebSocket over TCP that was accepted.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&request("/", &[OFFER])).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    stream
}

#[test]
fn whoever_sends_bombs_does_not_keep_others_waiting_for_all_of_them() {
    let ((told, tells), (go, go_on)) = (channel(), channel());
    let go_on = Arc::new(Mutex::new(go_on));
    let handler =
        move |_: &ShardInfo| WebSockets::new(Teller { told: told.clone(), go_on: go_on.clone() }).deflate(Some(100));
    let server = Server::builder().port(0).shards(1).start(handler).unwrap();
    let [mut holder, mut bomber, mut other] = [(); 3].map(|()| connect(server.local_addr()));
    holder.write_all(&frame(0x81, b"stand")).unwrap();
    assert_eq!(tells.recv(), Ok(5));
    // Both are there when the shard looks for the next time, the bombs first.
    bomber.write_all(&frame(0xC2, &deflate(&vec![7; 1 << 20])).repeat(50)).unwrap();
    other.write_all(&frame(0x82, b"other!")).unwrap();
    go.send(()).unwrap();
    let order: Vec<usize> = tells.iter().take(51).collect();
    let other_at = order.iter().position(|&length| length == 6).unwrap();
    assert!(other_at < 10, "{other_at} bombs before it");
}

#[test]
fn a_frame_for_all_is_compressed_for_those_who_take_that() {
    let long = long_text();
    let to_all = Frame::text(&long);
    let sent = |offer: &str, frame: &Frame| {
        let mut client = TestClient::open(echo(), "/", &[(EXTENSIONS, offer)]);
        client.message(frame.clone());
        client.connection().received()
    };
    let packed = sent("permessage-deflate", &to_all);
    assert!(packed[0] == 0xC1 && packed.len() < long.len() / 4, "{} bytes", packed.len());
    assert_eq!(sent("permessage-deflate", &to_all), packed);
    let plain = sent("other", &to_all);
    assert!(plain[0] == 0x81 && plain.len() > long.len());
    assert_eq!(sent("permessage-deflate; server_max_window_bits=10", &to_all), plain, "there is no third encoding");
    let short = Frame::binary(&long.as_bytes()[..200]);
    assert_eq!(sent("permessage-deflate; server_max_window_bits=8", &short)[0], 0xC2, "its window holds all of it");
    assert_eq!(sent("permessage-deflate", &Frame::text(&long[..50]))[0], 0x81);
    let mut client = open(echo());
    client.message(to_all);
    assert_eq!(client.received(), [Received::Text(long)]);
}

#[test]
fn a_closing_websocket_inflates_nothing_more() {
    let mut client = open(echo());
    client.send_text("close");
    client.received();
    client.send_raw(&[frame(0xC2, &[0xFF; 20]), frame(0x42, &[0xFF; 20]), frame(0x80, b"")].concat());
    assert!(client.received().is_empty() && client.is_open());
    client.send_close(4001, "");
    assert_eq!(client.closed(), Some(CloseReason::Finished));
}
