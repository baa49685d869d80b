//! Connections through TLS, with a client of rustls: nothing is lost, nothing passes for the whole, and nobody waits for
//! another's handshake.

mod support;
#[path = "support/secure.rs"]
mod trust;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esockets::tls::rustls::version::{TLS12, TLS13};
use esockets::tls::rustls::{self, AlertDescription, ClientConnection, HandshakeKind};
use esockets::tls::{self, Agreed, Tls};
use esockets::{Address, CloseReason, Overflow};
use support::{Random, Script, builder, bytes, connect, connect_narrow, verify, wait_until};
use trust::{Authority, Pair, Secure, ask, certificate, expect_goodbye, over, secure};

/// More than all the kernel's buffers between two processes hold.
const LEN: usize = 8 << 20;

/// Reads `len` bytes of `key`'s stream, from its beginning.
fn expect(stream: &mut Secure, key: u64, len: usize) {
    let (mut done, mut buffer) = (0, vec![0; 64 << 10]);
    while done < len {
        let most = buffer.len().min(len - done);
        let count = stream.read(&mut buffer[..most]).unwrap_or_else(|error| panic!("after {done} of {len}: {error}"));
        assert!(count > 0, "ended after {done} of {len} bytes");
        verify(key, done, &buffer[..count]);
        done += count;
    }
}

fn finish(stream: &mut Secure) {
    stream.conn.send_close_notify();
    stream.flush().unwrap();
}

#[test]
fn messages_of_every_size_come_back_through_both_versions() {
    let authority = Authority::new();
    let script = Script::echo();
    let server = script.start(builder().tls(&authority.tls()));
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(authority.client(&[version], None));
        let mut stream = secure(&client, server.local_addr());
        for size in [1, 2, 100, 16_383, 16_384, 16_385, 65_536, 100_000, 1] {
            ask(&mut stream, &bytes(size as u64, 0, size));
        }
        let mut random = Random(3);
        for key in 0..500 {
            ask(&mut stream, &bytes(key, 0, random.size(3_000)));
            // New keys both ways (RFC 8446, section 4.6.3), which version 1.2 does not have.
            if key % 7 == 0 && version.version == rustls::ProtocolVersion::TLSv1_3 {
                stream.conn.refresh_traffic_keys().unwrap();
            }
        }
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        finish(&mut stream);
        expect_goodbye(&mut stream);
    }
    script.log.wait_closed(2);
    assert_eq!(script.log.reasons(), [CloseReason::PeerClosed; 2]);
    script.log.stop_and_check(server);
}

#[test]
fn a_reader_that_comes_late_gets_every_byte_and_its_server_is_told_when_there_is_room() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let sent = Arc::new(AtomicUsize::new(0));
    let progress = Arc::clone(&sent);
    let send_on = move |client: &mut esockets::Client<'_>| {
        let mut at = progress.load(Ordering::SeqCst);
        while at < LEN && !client.output_is_high() {
            let size = (7_000 + at % 40_000).min(LEN - at);
            assert!(client.send(&bytes(5, at, size)));
            at += size;
        }
        progress.store(at, Ordering::SeqCst);
        at < LEN
    };
    let go_on = send_on.clone();
    let script = Script::echo().readable(move |client| {
        client.recv();
        go_on(client)
    });
    let script = script.writable(send_on);
    let server = script.start(builder().tls(&authority.tls()).output_max(128 << 10).output_low(32 << 10));
    let mut stream = over(&client, connect_narrow(server.local_addr()));
    stream.write_all(b"go").unwrap();
    let is_stuck = || {
        let before = sent.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        before > 0 && before == sent.load(Ordering::SeqCst)
    };
    wait_until("it can send no more", is_stuck);
    assert!(sent.load(Ordering::SeqCst) < LEN, "a peer that does not read is waited for");
    expect(&mut stream, 5, LEN);
    expect_goodbye(&mut stream);
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::Finished]);
    let stats = script.log.stop_and_check(server);
    assert_eq!(stats.total.bytes_out, LEN as u64, "what was said is counted, not what it was encrypted to");
}

#[test]
fn many_at_once_with_sockets_that_take_little_lose_nothing() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let script = Script::echo();
    let room = 512 << 10;
    let server =
        script.start(builder().tls(&authority.tls()).output_max(room).output_low(room - 1).read_budget(10_000));
    std::thread::scope(|scope| {
        for key in 0..8 {
            let (client, address) = (&client, server.local_addr());
            scope.spawn(move || {
                let mut stream = over(client, connect_narrow(address));
                let mut random = Random(key);
                for _ in 0..12 {
                    let size = random.size(300_000);
                    ask(&mut stream, &bytes(key, 0, size));
                }
                finish(&mut stream);
                expect_goodbye(&mut stream);
            });
        }
    });
    script.log.wait_closed(8);
    assert_eq!(script.log.reasons(), [CloseReason::PeerClosed; 8]);
    let stats = script.log.stop_and_check(server);
    assert_eq!(stats.total.bytes_in, stats.total.bytes_out);
}

#[test]
fn what_is_sent_before_the_handshake_comes_after_it_however_much_it_is() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let script = Script::echo().incoming(|client| {
        // More than the mark above which nothing is read.
        assert!(client.send(&bytes(1, 0, 200_000)) && client.tls().is_none());
        true
    });
    let server = script.start(builder().tls(&authority.tls()).output_max(256 << 10).output_low(1 << 10));
    let mut stream = secure(&client, server.local_addr());
    expect(&mut stream, 1, 200_000);
    ask(&mut stream, b"and then an echo");
    script.log.stop_and_check(server);
}

#[test]
fn who_is_refused_with_a_word_or_finished_with_at_once_hears_it_and_a_goodbye() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let refusing = Script::echo().incoming(|client| !client.send(b"full"));
    let finishing = Script::echo().incoming(|client| {
        client.finish();
        true
    });
    let closing = Script::echo().incoming(|client| {
        client.close();
        client.send(b"full")
    });
    for (script, word) in [(refusing, "full"), (closing, "full"), (finishing, "")] {
        let server = script.start(builder().tls(&authority.tls()));
        let mut stream = secure(&client, server.local_addr());
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, word);
        drop(stream);
        script.log.stop_and_check(server);
    }
}

#[test]
fn a_half_that_is_finished_is_told_so_and_the_other_half_goes_on() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let script = Script::echo().readable(|client| client.peek().len() < 1 << 20).eof(|client| {
        let all = client.recv();
        assert!(client.send(all));
        false
    });
    let server = script.start(builder().tls(&authority.tls()).input_max(1 << 20).output_max(1 << 20));
    let mut stream = secure(&client, server.local_addr());
    stream.write_all(&bytes(2, 0, 300_000)).unwrap();
    finish(&mut stream);
    expect(&mut stream, 2, 300_000);
    expect_goodbye(&mut stream);
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::PeerClosed]);
    script.log.stop_and_check(server);
}

#[test]
fn an_end_that_nobody_has_said_is_a_reset_and_what_came_before_it_is_shown() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let ends = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&ends);
    let script = Script::echo().eof(move |_| {
        told.fetch_add(1, Ordering::SeqCst);
        false
    });
    let server = script.start(builder().tls(&authority.tls()));
    let mut stream = secure(&client, server.local_addr());
    ask(&mut stream, b"hello");
    stream.write_all(b"the last that comes through").unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    script.log.wait_closed(1);
    assert_eq!((script.log.reasons(), ends.load(Ordering::SeqCst)), (vec![CloseReason::Reset], 0));
    let stats = script.log.stop_and_check(server);
    assert_eq!(stats.total.bytes_in, 5 + 27);
}

#[test]
fn who_does_not_speak_tls_is_told_so_and_closed_with_eproto() {
    let authority = Authority::new();
    let script = Script::echo();
    let server = script.start(builder().tls(&authority.tls()));
    let answer = |question: &[u8]| {
        let mut stream = connect(server.local_addr());
        stream.write_all(question).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    };
    let alert = answer(b"EHLO localhost\r\n");
    // RFC 8446, section 5.1 and 6: an alert, fatal.
    assert_eq!((alert[0], alert.len(), alert[5]), (21, 7, 2), "{alert:?}");
    let told = String::from_utf8(answer(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && head.ends_with(&format!("Content-Length: {}", body.len())), "{told}");
    script.log.wait_closed(2);
    assert_eq!(script.log.reasons(), [CloseReason::Failed(71); 2]);
    script.log.stop_and_check(server);
}

#[test]
fn who_says_nothing_or_goes_during_the_handshake_costs_nothing_and_is_let_go() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let script = Script::echo();
    let server = script.start(builder().tls(&authority.tls()));
    let silent = connect(server.local_addr());
    silent.shutdown(Shutdown::Write).unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap().write_tls(&mut hello).unwrap();
    for cut in [1, 5, 6, hello.len() - 1, hello.len()] {
        let mut stream = connect(server.local_addr());
        stream.write_all(&hello[..cut]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    script.log.wait_closed(6);
    let reasons = script.log.reasons();
    let count = |reason| reasons.iter().filter(|&&told| told == reason).count();
    assert_eq!((count(CloseReason::PeerClosed), count(CloseReason::Reset)), (1, 5), "{reasons:?}");
    script.log.stop_and_check(server);
}

#[test]
fn a_handshake_that_comes_byte_by_byte_is_one_and_a_deadline_ends_one_that_does_not_come() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let script = Script::echo();
    let timeout = Duration::from_millis(300);
    let server = script.start(builder().tls(&authority.tls()).first_message_timeout(Some(timeout)));
    let mut stalled = connect(server.local_addr());
    stalled.write_all(&[22, 3, 1]).unwrap();
    script.log.wait_closed(1);
    assert_eq!(script.log.reasons(), [CloseReason::FirstMessageTimedOut]);
    assert_eq!(stalled.read(&mut [0; 9]).unwrap(), 0);
    script.log.stop_and_check(server);

    let server = script.start(builder().tls(&authority.tls()));
    let mut stream = secure(&client, server.local_addr());
    let mut hello = Vec::new();
    stream.conn.write_tls(&mut hello).unwrap();
    for byte in hello {
        stream.sock.write_all(&[byte]).unwrap();
    }
    ask(&mut stream, b"hello");
    server.stop();
    expect_goodbye(&mut stream);
    server.join().unwrap();
}

#[test]
fn who_takes_too_long_for_a_handshake_is_let_go_and_nobody_else() {
    let authority = Authority::new();
    let script = Script::echo();
    let tls = authority.tls().handshake_timeout(Some(Duration::from_secs(1)));
    let server = script.start(builder().tls(&tls));
    let client = Arc::new(authority.client(&[&TLS12, &TLS13], None));
    let mut stays = secure(&client, server.local_addr());
    ask(&mut stays, b"who stays has as long as they like");
    let silent = connect(server.local_addr());
    let mut hello = Vec::new();
    let mut halves = ClientConnection::new(Arc::clone(&client), "localhost".try_into().unwrap()).unwrap();
    halves.write_tls(&mut hello).unwrap();
    // A whole first message gets an answer, and then as much time again.
    let mut answered = connect(server.local_addr());
    answered.write_all(&hello).unwrap();
    answered.read_exact(&mut [0; 5]).unwrap();
    // One that comes in drips is none that is going on.
    let mut drips = connect(server.local_addr());
    for byte in &hello[..hello.len() - 1] {
        if drips.write_all(&[*byte]).is_err() || script.log.reasons().len() == 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    script.log.wait_closed(3);
    assert_eq!(script.log.reasons(), [CloseReason::Failed(libc::ETIME); 3]);
    drop((silent, answered, drips));
    ask(&mut stays, b"and is there still");
    let handshakes = tls.handshakes();
    assert_eq!((handshakes.done, handshakes.failed), (1, 3));
    assert!(handshakes.last_failure.unwrap().to_string().contains("handshake_timeout"));
    // Without it there is no end to them.
    let patient = script.start(builder().tls(&authority.tls().handshake_timeout(None)));
    let _silent = connect(patient.local_addr());
    wait_until("it has come", || patient.stats().total.accepted == 1);
    assert_eq!(patient.stats().total.open(), 1);
}

#[test]
fn protocols_and_certificates_of_clients_are_agreed_on_or_refused() {
    let authority = Authority::new();
    let agreed: Arc<Mutex<Vec<Agreed>>> = Arc::default();
    let told = Arc::clone(&agreed);
    let script = Script::echo().readable(move |client| {
        told.lock().unwrap().push(client.tls().unwrap());
        let data = client.recv();
        client.send(data)
    });
    let tls = authority.tls().alpn(&["h2", "http/1.1"]);
    let tls = tls.client_roots_from_pem(authority.root.certificate.as_bytes()).unwrap();
    let server = script.start(builder().tls(&tls));
    let own = authority.vouch("somebody");
    let mut client = authority.client(&[&TLS13], Some(&own));
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut stream = secure(&Arc::new(client.clone()), server.local_addr());
    ask(&mut stream, b"hello");
    {
        let agreed = agreed.lock().unwrap();
        assert_eq!((agreed.len(), agreed[0].alpn.as_deref()), (1, Some(&b"http/1.1"[..])));
        assert_eq!(agreed[0].certificates, [certificate(&own)]);
        assert_eq!(agreed[0].version, Some(rustls::ProtocolVersion::TLSv1_3));
    }
    let refused = |client: rustls::ClientConfig| {
        let mut stream = secure(&Arc::new(client), server.local_addr());
        let failed = stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut [0; 5])).unwrap_err();
        let tls = failed.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()).cloned();
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => alert,
            other => panic!("{failed} {other:?}"),
        }
    };
    client.alpn_protocols = vec![b"gopher".to_vec()];
    assert_eq!(refused(client), AlertDescription::NoApplicationProtocol);
    assert_eq!(refused(authority.client(&[&TLS13], None)), AlertDescription::CertificateRequired);
    let stranger = Authority::new().vouch("somebody");
    refused(authority.client(&[&TLS13], Some(&stranger)));
    script.log.wait_closed(3);
    assert_eq!(script.log.reasons(), [CloseReason::Failed(71); 3]);
    let told = tls.handshakes();
    assert_eq!((told.done, told.failed), (1, 3));
    assert!(matches!(told.last_failure, Some(rustls::Error::InvalidCertificate(_))), "{told:?}");
    script.log.stop_and_check(server);
}

#[test]
fn certificates_are_renewed_while_those_who_are_connected_stay() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let tls = authority.tls();
    let script = Script::echo();
    let server = script.start(builder().tls(&tls));
    let mut before = secure(&client, server.local_addr());
    ask(&mut before, b"hello");
    let Pair { certificate: renewed, key } = authority.vouch("localhost");
    let failed = tls.reload_pem(renewed.as_bytes(), authority.root.key.as_bytes()).unwrap_err();
    assert!(failed.to_string().contains("does not belong"), "{failed}");
    tls.reload_pem(renewed.as_bytes(), key.as_bytes()).unwrap();
    let mut after = secure(&client, server.local_addr());
    ask(&mut after, b"hello");
    ask(&mut before, b"still here");
    let shown = |stream: &Secure| stream.conn.peer_certificates().unwrap()[0].clone();
    assert_ne!(shown(&before), shown(&after));
    assert_eq!(shown(&after), certificate(&Pair { certificate: renewed, key }));
    script.log.stop_and_check(server);
}

#[test]
fn sessions_are_resumed_by_tickets() {
    let authority = Authority::new();
    let mut client = authority.client(&[&TLS13], None);
    client.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let client = Arc::new(client);
    let server = Script::echo().start(builder().tls(&authority.tls()));
    let kinds = [(); 3].map(|()| {
        let mut stream = secure(&client, server.local_addr());
        ask(&mut stream, b"hello");
        stream.conn.handshake_kind().unwrap()
    });
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
    server.stop();
}

#[test]
fn one_address_speaks_tls_and_another_does_not() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let script = Script::echo();
    let addresses = builder()
        .listen(Address::tcp("127.0.0.1", 0).tag(1))
        .listen(Address::tcp("127.0.0.1", 0).tag(2))
        .tls(&authority.tls().only_tag(2));
    let server = script.start(addresses);
    let [plain, safe] = [0, 1].map(|index: usize| server.local_addrs()[index].ip().unwrap());
    support::ask(&connect(plain), 7).unwrap();
    ask(&mut secure(&client, safe), b"hello");
    script.log.stop_and_check(server);
}

#[test]
fn a_storm_of_handshakes_lets_those_who_are_connected_through() {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let script = Script::echo();
    let server = script.start(builder().shards(1).queue_size(1000).tls(&authority.tls().handshakes_max(1)));
    let mut stream = secure(&client, server.local_addr());
    ask(&mut stream, b"hello");
    // They are accepted, and have said all that a first step takes, while the shard is held up.
    let go = support::hold(&server, 0);
    let mut storm: Vec<Secure> = (0..300).map(|_| secure(&client, server.local_addr())).collect();
    for one in &mut storm {
        one.conn.write_tls(&mut one.sock).unwrap();
    }
    stream.write_all(b"am I to wait for them?").unwrap();
    drop(go);
    stream.read_exact(&mut [0; 22]).unwrap();
    let unanswered = storm.iter_mut().filter(|one| {
        one.sock.set_nonblocking(true).unwrap();
        let peeked = one.sock.peek(&mut [0]);
        one.sock.set_nonblocking(false).unwrap();
        matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    });
    assert!(unanswered.count() > 0, "it had to wait for all of them");
    for one in &mut storm {
        ask(one, b"our turn");
    }
    script.log.stop_and_check(server);
}

/// Sends messages that say how long they are, to a client that reads when the first has been refused: says how many came, whole
/// as all must be, and how the connection ended.
fn refuse(size: fn(u32) -> usize) -> (usize, CloseReason) {
    let authority = Authority::new();
    let client = Arc::new(authority.client(&[&TLS13], None));
    let script = Script::echo().readable(move |client| {
        client.recv();
        for number in 0..1_000 {
            let body = vec![size(number) as u8; size(number)];
            client.send(&[&(body.len() as u32).to_le_bytes()[..], &body].concat());
        }
        false
    });
    let options = builder().tls(&authority.tls()).output_max(32 << 10).overflow(Overflow::Refuse);
    let server = script.start(options);
    let mut stream = over(&client, connect_narrow(server.local_addr()));
    stream.write_all(b"go").unwrap();
    wait_until("one does not fit", || {
        let total = server.stats().total;
        total.refused_messages > 0 || total.closed(CloseReason::OutputFull) > 0
    });
    let (mut messages, mut head) = (0, [0; 4]);
    while stream.read_exact(&mut head).is_ok() {
        let mut body = vec![0; u32::from_le_bytes(head) as usize];
        if stream.read_exact(&mut body).is_err() {
            break;
        }
        assert!(body.iter().all(|&byte| byte == body.len() as u8), "message {messages} is whole");
        messages += 1;
    }
    script.log.wait_closed(1);
    let reason = script.log.reasons()[0];
    script.log.stop_and_check(server);
    (messages, reason)
}

#[test]
fn a_message_that_is_refused_for_want_of_room_leaves_no_part_of_itself() {
    let (messages, reason) = refuse(|number| 1 + (number * 7919 % 9000) as usize);
    assert!(messages > 0 && messages < 1_000, "{messages}");
    assert_eq!(reason, CloseReason::Finished);
    // A part of one that is larger than all the room has gone before that is known: what follows would not be what was meant.
    let (messages, reason) = refuse(|number| 60_000 + number as usize);
    assert!(messages < 1_000 && reason == CloseReason::OutputFull, "{messages}, {reason}");
}

/// Talks as a client would, but for one bit, at `bit` of all that it sends; until either side has had enough.
fn talk_damaged(client: &Arc<rustls::ClientConfig>, address: std::net::SocketAddr, bit: usize) {
    let mut stream = connect(address);
    // Each may wait for the other, where a length is wrong.
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(client), "localhost".try_into().unwrap()).unwrap();
    let (mut sent, mut asked) = (0, false);
    loop {
        let mut flight = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut flight).unwrap();
        }
        if let Some(at) = (bit / 8).checked_sub(sent).filter(|&at| at < flight.len()) {
            flight[at] ^= 1 << (bit % 8);
        }
        sent += flight.len();
        if stream.write_all(&flight).is_err() {
            return;
        }
        if !tls.is_handshaking() && !std::mem::replace(&mut asked, true) {
            tls.writer().write_all(b"hello").unwrap();
            continue;
        }
        match tls.read_tls(&mut stream) {
            Ok(1..) if tls.process_new_packets().is_ok() => {}
            _ => return,
        }
        if asked && tls.reader().read(&mut [0; 9]).is_ok() {
            return;
        }
    }
}

#[test]
fn whatever_is_wrong_with_a_handshake_costs_its_own_connection_only() {
    let authority = Authority::new();
    let script = Script::echo();
    let server = script.start(builder().shards(1).tls(&authority.tls()));
    let address = server.local_addr();
    let mut count = 0;
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(authority.client(&[version], None));
        let mut bystander = secure(&client, address);
        for bit in (0..6_000).step_by(37) {
            talk_damaged(&client, address, bit);
            count += 1;
        }
        ask(&mut bystander, b"still here");
        count += 1;
    }
    script.log.wait_closed(count);
    let stats = script.log.stop_and_check(server);
    assert_eq!((stats.total.panics, stats.total.deaths), (0, 0), "{stats}");
}

#[test]
fn what_cannot_be_used_is_said_before_a_server_starts() {
    let authority = Authority::new();
    let pair = authority.vouch("localhost");
    let wrong = |tls: Result<Tls, tls::Error>| tls.unwrap_err().to_string();
    let (certificate, key) = (pair.certificate.as_bytes(), pair.key.as_bytes());
    assert!(wrong(Tls::from_pem_files("/nowhere/chain.pem", "/nowhere/key.pem")).contains("/nowhere/chain.pem"));
    assert!(wrong(Tls::from_pem(b"", key)).contains("no certificate"));
    assert!(wrong(Tls::from_pem(certificate, b"nothing")).contains("no private key"));
    assert!(wrong(Tls::from_pem(key, certificate)).contains("no "));
    assert!(wrong(Tls::from_pem(certificate, authority.root.key.as_bytes())).contains("does not belong"));
    let damaged = pair.certificate.replace("MII", "MI!");
    assert!(wrong(Tls::from_pem(damaged.as_bytes(), key)).contains("certificate"));
    let own = Tls::new(Arc::new(
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new())),
    ));
    assert!(matches!(own.reload_pem(certificate, key), Err(tls::Error::NotFromPem)));
}
