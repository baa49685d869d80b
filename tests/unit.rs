//! A handler can be tested without a socket, and behaves there as it does in a server.

use std::time::Duration;

use esockets::testing::TestClient;
use esockets::{Client, ClientId, CloseReason, Handler, Peer, Server, Shard};

/// Answers each line with its length; "bye" ends, "boom" panics, "flood" says more than fits.
#[derive(Default)]
struct Lines {
    closed: Vec<CloseReason>,
    writable: usize,
    deaf: bool,
}

impl Handler for Lines {
    type Session = usize;
    /// A line for everybody, or, if it is empty, the end.
    type Message = String;

    fn handle_incoming(&mut self, client: &mut Client<'_>, address: &Peer) -> Option<usize> {
        assert_eq!(address, client.address());
        (!self.deaf && client.send(b"hello\n")).then_some(0)
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, lines: &mut usize) -> bool {
        while let Some(end) = client.peek().iter().position(|&byte| byte == b'\n') {
            let line = &client.peek()[..end];
            client.consume(end + 1);
            *lines += 1;
            match line {
                b"bye" => {
                    client.send(b"farewell\n");
                    return false;
                }
                b"boom" => panic!("meant"),
                b"flood" => return client.send(&vec![b'x'; 1 << 20]),
                _ if !client.send(format!("{end}\n").as_bytes()) => return false,
                _ => {}
            }
        }
        true
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, usize>, line: String) {
        shard.each_client(|client, _| client.send(line.as_bytes()) && !line.is_empty());
    }

    fn handle_writable(&mut self, _client: &mut Client<'_>, _lines: &mut usize) -> bool {
        self.writable += 1;
        true
    }

    fn handle_closed(&mut self, _lines: usize, _id: ClientId, reason: CloseReason) {
        self.closed.push(reason);
    }
}

fn client() -> TestClient<Lines> {
    let mut client = TestClient::connect(Lines::default());
    assert_eq!(client.received(), b"hello\n");
    client
}

fn check_closed(mut client: TestClient<Lines>, reason: CloseReason) {
    assert_eq!((client.is_open(), client.closed()), (false, Some(reason)));
    assert_eq!(client.handler().closed, [reason]);
    assert!(client.session().is_none());
}

#[test]
fn what_is_left_unconsumed_comes_again() {
    let text = b"one\nthree\n\nseventeen letters\n";
    for cut in 0..=text.len() {
        let mut client = client();
        client.send(&text[..cut]);
        client.send(&text[cut..]);
        assert_eq!(client.received(), b"3\n5\n0\n17\n", "cut at {cut}");
        assert_eq!(client.session(), Some(&mut 4));
    }
    let mut client = client();
    text.iter().for_each(|byte| client.send(&[*byte]));
    assert_eq!(client.received(), b"3\n5\n0\n17\n");
}

#[test]
fn every_end_has_its_reason() {
    let mut left = client();
    left.send(b"line\nrest");
    left.finish();
    assert_eq!(left.received(), b"4\n");
    check_closed(left, CloseReason::PeerClosed);

    let mut finished = client();
    finished.send(b"bye\nignored\n");
    assert_eq!(finished.received(), b"farewell\n");
    finished.finish();
    check_closed(finished, CloseReason::Finished);

    let mut full = client();
    full.send(&vec![b'x'; (64 << 10) + 1]);
    check_closed(full, CloseReason::InputFull);

    let mut flood = client();
    flood.take_only(1000);
    flood.send(b"flood\n");
    assert_eq!(flood.received().len(), 1000);
    check_closed(flood, CloseReason::OutputFull);

    let mut aborted = client();
    aborted.act(|client| client.abort());
    check_closed(aborted, CloseReason::Aborted);
}

#[test]
fn a_panic_ends_the_connection() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut panicked = client();
    panicked.send(b"boom\n");
    let _ = std::panic::take_hook();
    check_closed(panicked, CloseReason::Panicked);
}

#[test]
fn idle_time_runs_out_when_the_test_says_so() {
    let mut idle = client();
    idle.time_out();
    check_closed(idle, CloseReason::Idle);
}

#[test]
fn the_clients_own_timer_runs_out_when_the_test_says_so() {
    let mut expired = client();
    expired.act(|client| client.set_timeout(Some(Duration::from_secs(1))));
    expired.time_out();
    check_closed(expired, CloseReason::Expired);
}

#[test]
fn as_much_as_input_max_may_be_left() {
    let mut full = client();
    full.send(&vec![b'x'; 64 << 10]);
    assert!(full.is_open(), "{:?}", full.closed());
    full.finish();
    check_closed(full, CloseReason::PeerClosed);
}

#[test]
fn a_refusal_has_no_session() {
    let mut refused = TestClient::connect(Lines { deaf: true, ..Lines::default() });
    assert_eq!((refused.closed(), refused.is_open()), (Some(CloseReason::Refused), false));
    assert!(refused.handler().closed.is_empty() && refused.session().is_none());
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    let mut client = client();
    client.take_only(0);
    let question = b"0123456789\n".repeat(20_000);
    client.send(&question);
    client.send(&question);
    client.send(&question);
    let waiting = client.act(|client| client.output_waiting()).unwrap();
    let lines = *client.session().unwrap();
    assert_eq!(waiting, lines * 3);
    assert!((128 << 10..256 << 10).contains(&waiting), "{waiting} bytes wait");
    assert!(client.received().is_empty() && client.handler().writable == 0);
    client.take_only(usize::MAX);
    client.send(b"");
    assert_eq!(client.received(), b"10\n".repeat(60_000));
    assert_eq!((client.handler().writable, client.session()), (1, Some(&mut 60_000)));
}

#[test]
fn a_paused_client_is_shown_nothing_until_it_resumes() {
    let mut client = client();
    client.act(|client| client.pause());
    client.send(b"one\n");
    assert!(client.received().is_empty());
    client.act(|client| client.resume());
    assert_eq!(client.received(), b"3\n");
}

#[test]
fn messages_reach_the_client_and_can_end_it() {
    let mut client = client();
    client.message("news\n".into());
    assert_eq!(client.received(), b"news\n");
    client.message(String::new());
    check_closed(client, CloseReason::Finished);
}

#[test]
fn the_limits_are_those_of_the_server_that_is_named() {
    let mut client = TestClient::connect_to(&Server::builder().input_max(4), Lines::default());
    client.send(b"1234");
    assert!(client.is_open());
    client.send(b"5");
    check_closed(client, CloseReason::InputFull);
}
