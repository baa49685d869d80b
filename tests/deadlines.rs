//! Deadlines that a server sets its peers: those who make no room for what they are sent, and those who never say a whole
//! message.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use esockets::{Client, CloseReason, Handler, Peer};
use support::{Script, builder, connect, connect_narrow, wait_until};

/// More than all the kernel's buffers between two processes hold.
const LEN: usize = 8 << 20;

#[test]
fn a_peer_that_makes_no_room_for_so_long_is_as_good_as_gone() {
    let script = Script::echo().incoming(|client| client.send(&vec![7; LEN]));
    let server = script.start(builder().output_max(2 * LEN).user_timeout(Some(Duration::from_secs(1))));
    let deaf = connect_narrow(server.local_addr());
    wait_until("it is given up", || server.stats().total.closed(CloseReason::Vanished) == 1);
    // Another one, who reads, is not.
    let mut reader = connect(server.local_addr());
    let mut all = vec![0; LEN];
    reader.read_exact(&mut all).unwrap();
    assert_eq!(server.stats().total.open(), 1);
    drop(deaf);
}

/// A line within a second of connecting: the timer is set once, and bytes that are no line do not move it.
#[derive(Clone)]
struct FirstLine(Arc<AtomicUsize>);

impl Handler for FirstLine {
    type Session = ();
    type Message = ();

    fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        client.set_timeout(Some(Duration::from_secs(1)));
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        let input = client.peek();
        self.0.fetch_add(1, Ordering::Relaxed);
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return true };
        client.set_timeout(None);
        client.consume(end + 1);
        client.send(b"welcome\n")
    }
}

#[test]
fn the_deadline_for_a_first_message_is_not_moved_by_bytes_that_trickle() {
    let handler = FirstLine(Arc::new(AtomicUsize::new(0)));
    let calls = Arc::clone(&handler.0);
    let server = builder().start(move |_| handler.clone()).unwrap();
    let mut prompt = connect(server.local_addr());
    prompt.write_all(b"hello\n").unwrap();
    let mut drip = connect(server.local_addr());
    // As long as it is let, a byte at a time.
    let ended = loop {
        match drip.write_all(b".") {
            Ok(()) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => break error.kind(),
        }
    };
    assert!(matches!(ended, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{ended}");
    wait_until("the drip is expired", || server.stats().total.closed(CloseReason::Expired) == 1);
    assert!(calls.load(Ordering::Relaxed) > 10, "it trickled");
    let mut welcome = [0; 8];
    prompt.read_exact(&mut welcome).unwrap();
    assert_eq!((&welcome, server.stats().total.open()), (b"welcome\n", 1), "who spoke in time stays");
}
