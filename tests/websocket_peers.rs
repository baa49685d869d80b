//! WebSockets over real sockets, with a client that others have written.

mod support;

use std::net::TcpStream;
use std::process::Command;
use std::thread;

use esockets::websocket::{Answer, Client, Frame, Handler, Request, Shard, WebSockets};
use esockets::{Peer, Remote, Server};
use support::{Program, Random, builder, bytes, connect, wait_until};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame as TheirFrame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::{Error, Message, WebSocket};

fn open(stream: TcpStream) -> WebSocket<TcpStream> {
    let url = format!("ws://{}/", stream.peer_addr().unwrap());
    tungstenite::client(url, stream).unwrap().0
}

/// Closes as the RFC wants it, and expects the same of the server.
fn close(mut socket: WebSocket<TcpStream>) {
    let farewell = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    socket.close(Some(farewell)).unwrap();
    match socket.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Normal),
        other => panic!("{other:?}"),
    }
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)), "the server ends the connection");
}

#[test]
fn messages_of_every_size_come_back_from_the_example() {
    let program = Program::start("websocket");
    let mut socket = open(connect(program.address));
    for size in [0, 1, 125, 126, 127, 1000, 65_535, 65_536, 65_537, 1 << 20, 5 << 20] {
        let message = Message::binary(bytes(size as u64, 0, size));
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "{size} bytes");
        let text = Message::text("ü".repeat(size / 2));
        socket.send(text.clone()).unwrap();
        assert!(socket.read().unwrap() == text, "{size} bytes of text");
    }
    close(socket);
}

#[test]
fn fragments_of_any_size_with_pings_between_them_come_back_as_one() {
    let program = Program::start("websocket");
    let mut socket = open(connect(program.address));
    let mut random = Random(7);
    for key in 0..200 {
        let whole = bytes(key, 0, random.size(20_000));
        let (mut rest, mut code, mut pings) = (&whole[..], OpCode::Data(Data::Binary), Vec::new());
        loop {
            let (piece, behind) = rest.split_at(random.size(5_000).min(rest.len()));
            let is_last = behind.is_empty();
            socket.write(Message::Frame(TheirFrame::message(piece.to_vec(), code, is_last))).unwrap();
            (rest, code) = (behind, OpCode::Data(Data::Continue));
            if is_last {
                break;
            }
            pings.push(random.size(125) as u8);
            socket.write(Message::Ping(vec![1; usize::from(*pings.last().unwrap())].into())).unwrap();
        }
        socket.flush().unwrap();
        for ping in pings {
            assert_eq!(socket.read().unwrap(), Message::Pong(vec![1; usize::from(ping)].into()));
        }
        assert!(socket.read().unwrap() == Message::binary(whole), "message {key}");
    }
    close(socket);
}

/// What one says, all hear, in one frame.
struct Room {
    remote: Remote<Frame>,
}

impl Handler for Room {
    type Session = ();
    type Message = Frame;

    fn handle_open(&mut self, _: &Request<'_>, _: &Peer) -> Answer<()> {
        Answer::accept(())
    }

    fn handle_text(&mut self, _: &mut Client<'_, '_>, (): &mut (), text: &str) -> bool {
        self.remote.send_to_all(&Frame::text(text)) == self.remote.shards()
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, '_, ()>, frame: Frame) {
        shard.each_client(|client, ()| client.send_frame(&frame));
    }
}

fn room() -> Server<Frame> {
    builder().start_with_remote(|_, remote| WebSockets::new(Room { remote: remote.clone() })).unwrap()
}

#[test]
fn what_one_says_all_hear_on_whichever_shard() {
    let server = room();
    let mut sockets: Vec<_> = (0..20).map(|_| open(connect(server.local_addr()))).collect();
    wait_until("both shards have somebody", || {
        let stats = server.stats();
        if stats.shards.iter().any(|shard| shard.open() == 0) {
            sockets.push(open(connect(server.local_addr())));
        }
        stats.shards.iter().all(|shard| shard.open() > 0)
    });
    for round in 0..10 {
        let said = Message::text(format!("round {round}"));
        sockets[round].send(said.clone()).unwrap();
        sockets.iter_mut().for_each(|socket| assert_eq!(socket.read().unwrap(), said));
    }
    sockets.into_iter().for_each(close);
}

#[test]
fn many_at_once_keep_their_messages_apart() {
    let program = Program::start("websocket");
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let address = program.address;
            scope.spawn(move || {
                let mut sockets: Vec<_> = (0..25).map(|_| open(connect(address))).collect();
                for round in 0..20 {
                    let message = |index: usize| {
                        let key = thread << 32 | (index as u64) << 16 | round;
                        Message::binary(bytes(key, 0, 1 + (round as usize * 331 + index * 17) % 3000))
                    };
                    for (index, socket) in sockets.iter_mut().enumerate() {
                        socket.send(message(index)).unwrap();
                    }
                    for (index, socket) in sockets.iter_mut().enumerate() {
                        assert!(socket.read().unwrap() == message(index), "{thread} {index} {round}");
                    }
                }
                sockets.into_iter().for_each(close);
            });
        }
    });
}

#[test]
fn messages_that_another_hand_compresses_come_back_whatever_it_offers() {
    let program = Program::start("websocket");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/websocket_client.py");
    let client = Command::new("python3").args([script, &program.address.port().to_string()]).output();
    let Ok(output) = client else { return println!("skipped: python3 is not there") };
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => println!("{said}"),
        Some(77) => println!("skipped: Python's package websockets is not there: {said}"),
        _ => panic!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn a_peer_that_goes_without_a_word_is_no_trouble() {
    let server = room();
    drop(open(connect(server.local_addr())));
    let stream = connect(server.local_addr());
    let socket = open(stream.try_clone().unwrap());
    support::reset(stream);
    drop(socket);
    wait_until("both are gone", || server.stats().total.open() == 0);
    assert_eq!(server.stats().total.panics, 0);
    server.stop();
    server.join().unwrap();
}
