//! The life of a shard's thread: a loop, and when that dies, as the user wishes, another in its place.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, ShardDeath};
use crate::connection::drop_panic;
use crate::error::Error;
use crate::handler::Handler;
use crate::kernel::Kernel;
use crate::reactor::{Common, Reactor};
use crate::reason::CloseReason;
use crate::trace;

/// Before the first attempt to start anew, and before the last of many: those who wait to be accepted wait for as long.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A loop that has lived so long has not died of what its predecessor died of.
const LONG: Duration = Duration::from_secs(60);
/// How soon a pause notices that the server is to end.
const GLANCE: Duration = Duration::from_millis(20);

/// Runs `reactor`, and those that take its place, until the server ends. `renew` gives a kernel what it waits with anew,
/// `make` makes another handler.
///
/// This thread is the one that goes on: it is where the shard belongs, on its core and in its descriptor table, and has the
/// listeners open, so that those who wait there are not reset.
pub(crate) fn live<K: Kernel, H: Handler>(
    mut reactor: Reactor<K, H>,
    shard: usize,
    config: &Config,
    mut renew: impl FnMut(&mut K) -> io::Result<()>,
    mut make: impl FnMut() -> Result<H, Error>,
) -> Result<(), Error> {
    let mut pause = PAUSE_MIN;
    loop {
        trace::shard_started();
        let begun_at = Instant::now();
        let (death, reason) = match catch_unwind(AssertUnwindSafe(|| reactor.run())) {
            Ok(Ok(())) => {
                trace::shard_ended();
                return Ok(());
            }
            Ok(Err(source)) => {
                let reason = CloseReason::of_error(&source);
                (Error::Shard { shard, act: "wait for events", source }, reason)
            }
            Err(panic) => (Error::Died { shard, message: message_of(panic) }, CloseReason::Panicked),
        };
        trace::shard_died(&death);
        if config.shard_death == ShardDeath::Abort {
            process::abort();
        }
        let mut remains = reactor.into_remains(reason);
        if config.shard_death == ShardDeath::Leave {
            return Err(death);
        }
        if begun_at.elapsed() > LONG {
            pause = PAUSE_MIN;
        }
        let handler = loop {
            if !rest(pause, &remains.common) {
                return Err(death);
            }
            pause = (pause * 2).min(PAUSE_MAX);
            // What is missing now may be there in a while.
            if renew(&mut remains.kernel).is_ok()
                && let Ok(handler) = make()
            {
                break handler;
            }
        };
        reactor = remains.revive(handler, config);
    }
}

/// Waits; false if the server is to end.
fn rest(pause: Duration, common: &Common) -> bool {
    let mut left = pause;
    while !common.ends() && !left.is_zero() {
        let glance = left.min(GLANCE);
        thread::sleep(glance);
        left -= glance;
    }
    !common.ends()
}

/// The words of a panic.
pub(crate) fn message_of(panic: Box<dyn Any + Send>) -> String {
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
    drop_panic(panic);
    message.unwrap_or_else(|| "without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, ClientId};
    use crate::kernel::{Event, Linux};
    use crate::loan::{Door, Loans, Mark};
    use crate::mailbox::{Postbox, mailbox};
    use crate::peer::Peer;
    use crate::reactor::Post;
    use crate::shard::Shard;
    use crate::slab::Key;
    use crate::socket::Line;
    use crate::stats::SharedCounters;
    use crate::sys::WakeFd;
    use crate::target::Target;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    /// The real kernel, whose wait panics at somebody's wish.
    struct Mortal {
        linux: Linux,
        wish: Arc<AtomicUsize>,
    }

    impl Kernel for Mortal {
        type Stream = OwnedFd;

        fn wait(&mut self, timeout: Option<Duration>, note: impl FnMut(Event)) -> io::Result<usize> {
            let events = self.linux.wait(timeout, note);
            match self.wish.swap(0, Ordering::SeqCst) {
                0 => events,
                1 => panic!("meant"),
                _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
            }
        }

        fn batch(&self) -> usize {
            self.linux.batch()
        }

        fn register(&mut self, stream: &OwnedFd, key: Key, writing: bool) -> io::Result<()> {
            self.linux.register(stream, key, writing)
        }

        fn rearm(&mut self, stream: &OwnedFd, key: Key) -> io::Result<()> {
            self.linux.rearm(stream, key)
        }

        fn accept(&mut self) -> io::Result<(OwnedFd, Peer)> {
            self.linux.accept()
        }

        fn open(&mut self, target: &Target, line: &Line) -> io::Result<OwnedFd> {
            self.linux.open(target, line)
        }

        fn connect(&mut self, stream: &OwnedFd, target: &Target) -> io::Result<()> {
            self.linux.connect(stream, target)
        }

        fn connected(&mut self, stream: &OwnedFd) -> io::Result<bool> {
            self.linux.connected(stream)
        }

        fn stop_listening(&mut self) {
            self.linux.stop_listening();
        }

        fn receive(&mut self, stream: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
            self.linux.receive(stream, buffer)
        }

        fn send(&mut self, stream: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
            self.linux.send(stream, bytes)
        }

        fn unacknowledged(&self, stream: &OwnedFd) -> usize {
            self.linux.unacknowledged(stream)
        }

        fn finish_sending(&mut self, stream: &OwnedFd) -> io::Result<()> {
            self.linux.finish_sending(stream)
        }

        fn close(&mut self, stream: OwnedFd, reset: bool) {
            self.linux.close(stream, reset);
        }

        fn now(&self) -> Duration {
            self.linux.now()
        }
    }

    type Ledger = Arc<Mutex<Vec<String>>>;

    /// Echoes, writes down what it is told, and panics in the end.
    struct Frail {
        number: usize,
        ledger: Ledger,
    }

    impl Frail {
        fn note(&self, what: impl Into<String>) {
            self.ledger.lock().unwrap().push(format!("{}: {}", self.number, what.into()));
        }
    }

    impl Handler for Frail {
        type Session = ();
        type Message = &'static str;

        fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<()> {
            self.note(format!("came {}", client.id()));
            Some(())
        }

        fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
            let data = client.recv();
            client.send(data)
        }

        fn handle_message(&mut self, _shard: &mut Shard<'_, ()>, message: &'static str) {
            self.note(message);
        }

        fn handle_closed(&mut self, (): (), id: ClientId, reason: CloseReason) {
            self.note(format!("went {id}: {reason:?}"));
        }
    }

    impl Drop for Frail {
        fn drop(&mut self) {
            self.note("dropped");
            assert!(self.number > 0, "meant");
        }
    }

    /// A shard on a thread of its own, as a server has it.
    struct Life {
        address: SocketAddr,
        wish: Arc<AtomicUsize>,
        waker: Arc<WakeFd>,
        postbox: Postbox<Post<&'static str>>,
        counters: SharedCounters,
        common: Arc<Common>,
        ledger: Ledger,
        thread: thread::JoinHandle<Result<(), Error>>,
    }

    /// Of what a new life takes, so many attempts fail first: the epoll instance, and then the handler.
    fn begin(shard_death: ShardDeath, failures: [usize; 2]) -> Life {
        let config = Config { shard_death, ..Config::default() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, waker) = (listener.local_addr().unwrap(), Arc::new(WakeFd::new().unwrap()));
        let mark = Mark { place: 0, tag: 0 };
        let door = Door { listeners: vec![(mark, listener.into())], ..Door::default() };
        let linux = Linux::new(door, Loans::new().unwrap().lender(), Arc::clone(&waker)).unwrap();
        let (wish, ledger) = (Arc::<AtomicUsize>::default(), Ledger::default());
        let (postbox, mailbox) = mailbox(8);
        let (counters, common) = (SharedCounters::default(), Arc::new(Common::new(&config)));
        let [mut epolls, mut handlers] = failures;
        let (own, shared, books) = (Arc::clone(&counters), Arc::clone(&common), Arc::clone(&ledger));
        let kernel = Mortal { linux, wish: Arc::clone(&wish) };
        let thread = thread::spawn(move || {
            let handler = Frail { number: 0, ledger: Arc::clone(&books) };
            let reactor = Reactor::new(kernel, handler, mailbox, own, shared, &config, 0);
            let mut number = 0;
            let renew = |kernel: &mut Mortal| match epolls.checked_sub(1) {
                Some(left) => {
                    epolls = left;
                    Err(io::Error::from_raw_os_error(libc::EMFILE))
                }
                None => kernel.linux.renew(),
            };
            let make = || {
                if let Some(left) = handlers.checked_sub(1) {
                    handlers = left;
                    return Err(Error::Died { shard: 0, message: "meant".into() });
                }
                number += 1;
                Ok(Frail { number, ledger: Arc::clone(&books) })
            };
            live(reactor, 0, &config, renew, make)
        });
        Life { address, wish, waker, postbox, counters, common, ledger, thread }
    }

    impl Life {
        fn connect(&self) -> TcpStream {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream
        }

        fn die(&self, how: usize) {
            self.wish.store(how, Ordering::SeqCst);
            self.waker.wake();
        }

        fn end(self) -> (Result<(), Error>, Vec<String>) {
            self.common.stop(Duration::ZERO);
            self.waker.wake();
            let ended = self.thread.join().unwrap();
            let ledger = self.ledger.lock().unwrap().clone();
            (ended, ledger)
        }
    }

    fn echo(mut stream: &TcpStream) {
        stream.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }

    fn ends(mut stream: &TcpStream) {
        match stream.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    #[test]
    fn another_takes_its_place_with_the_same_listener_and_messages_and_new_ids() {
        for (how, reason) in [(1, "Panicked".to_owned()), (2, format!("Failed({})", libc::EBADF))] {
            let life = begin(ShardDeath::Respawn, [2, 2]);
            let first = life.connect();
            echo(&first);
            life.die(how);
            ends(&first);
            assert!(life.postbox.send(Post::Message("hello")).is_ok());
            // It has waited in the queue since before there was anybody to take it.
            let second = life.connect();
            echo(&second);
            life.waker.wake();
            echo(&second);
            let stats = life.counters.snapshot();
            assert_eq!((stats.deaths, stats.panics, stats.open(), stats.closed_total()), (1, 1, 1, 1), "{stats}");
            let (ended, ledger) = life.end();
            assert!(ended.is_ok(), "{ended:?}");
            let ids: Vec<&str> = ledger.iter().filter_map(|line| line.split("came ").nth(1)).collect();
            assert_ne!(ids[0], ids[1], "an id from before is nobody's");
            let told =
                [format!("0: came {}", ids[0]), format!("0: went {}: {reason}", ids[0]), "0: dropped".to_owned()];
            assert_eq!(ledger[..3], told);
            assert!(ledger.contains(&"1: hello".to_owned()) && ledger.contains(&format!("1: came {}", ids[1])));
        }
    }

    #[test]
    fn who_is_left_dead_closes_its_listener_and_says_why() {
        let life = begin(ShardDeath::Leave, [0, 0]);
        let stream = life.connect();
        echo(&stream);
        life.die(1);
        ends(&stream);
        let (ended, address) = (life.thread.join().unwrap(), life.address);
        assert!(matches!(ended, Err(Error::Died { shard: 0, message }) if message == "meant"));
        TcpStream::connect(address).expect_err("nobody listens any more");
    }

    #[test]
    fn who_cannot_be_replaced_is_tried_again_with_pauses_until_the_server_ends() {
        let life = begin(ShardDeath::Respawn, [usize::MAX, 0]);
        let stream = life.connect();
        echo(&stream);
        life.die(2);
        ends(&stream);
        let waiting = life.connect();
        let (ended, ledger) = life.end();
        assert!(matches!(ended, Err(Error::Shard { shard: 0, .. })), "{ended:?}");
        ends(&waiting);
        assert_eq!(ledger.len(), 3, "{ledger:?}");
    }
}
