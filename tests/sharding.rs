//! Every shard serves, a handler never leaves its shard's thread, and servers do not know of each other.

mod support;

use std::cell::Cell;
use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use esockets::{Client, ClientId, CloseReason, Handler, Peer, Shard, ShardInfo};
use support::{Script, builder, bytes, connect, connect_many, conserve, expect, wait_until};

const SHARDS: usize = 3;
const CALLBACKS: usize = 6;

/// How often each callback was called, on each shard.
type Calls = Arc<[[AtomicUsize; CALLBACKS]; SHARDS]>;

/// Bound to its thread by what it holds, and checks in each callback that it is still there.
struct Settled {
    calls: Calls,
    info: ShardInfo,
    thread: ThreadId,
    sessions: Rc<Cell<usize>>,
}

impl Settled {
    fn check(&self, callback: usize, shard: usize) {
        assert_eq!((thread::current().id(), shard), (self.thread, self.info.index()));
        self.calls[shard][callback].fetch_add(1, Ordering::Relaxed);
    }
}

impl Handler for Settled {
    type Session = Rc<Cell<usize>>;
    type Message = ();

    fn handle_incoming(&mut self, client: &mut Client<'_>, _address: &Peer) -> Option<Self::Session> {
        self.check(0, client.shard());
        client.set_timeout(Some(Duration::from_millis(1)));
        self.sessions.set(self.sessions.get() + 1);
        Some(Rc::clone(&self.sessions))
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, _session: &mut Self::Session) -> bool {
        self.check(1, client.id().shard());
        let data = client.recv();
        client.send(data)
    }

    fn handle_eof(&mut self, client: &mut Client<'_>, _session: &mut Self::Session) -> bool {
        self.check(2, client.shard());
        false
    }

    fn handle_timeout(&mut self, client: &mut Client<'_>, _session: &mut Self::Session) -> bool {
        self.check(3, client.shard());
        true
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, Self::Session>, (): ()) {
        self.check(4, shard.index());
        assert_eq!(shard.len(), self.sessions.get(), "a handler knows its own shard's connections, and no others");
    }

    fn handle_closed(&mut self, session: Self::Session, id: ClientId, _reason: CloseReason) {
        self.check(5, id.shard());
        session.set(session.get() - 1);
    }
}

#[test]
fn every_callback_of_a_handler_runs_on_the_thread_that_made_it() {
    let calls: Calls = Arc::default();
    let (made, threads) = (Arc::clone(&calls), Arc::new(Mutex::new(Vec::new())));
    let known = Arc::clone(&threads);
    let make = move |info: &ShardInfo| {
        assert_eq!(info.count(), SHARDS);
        known.lock().unwrap().push(thread::current().id());
        Settled { calls: Arc::clone(&made), info: *info, thread: thread::current().id(), sessions: Rc::default() }
    };
    let server = builder().shards(SHARDS).start(make).unwrap();
    let streams = connect_many(&server, 150);
    for (key, mut stream) in streams.iter().enumerate() {
        stream.write_all(&bytes(key as u64, 0, 100)).unwrap();
        expect(stream, key as u64, 0, 100);
    }
    assert_eq!(server.remote().send_to_all(&()), SHARDS);
    let called = |callback: usize| calls.iter().all(|shard| shard[callback].load(Ordering::Relaxed) > 0);
    wait_until("timers and messages have come everywhere", || called(3) && called(4));
    streams.iter().for_each(|stream| stream.shutdown(Shutdown::Write).unwrap());
    wait_until("all are closed", || server.stats().total.open() == 0);
    server.stop();
    let stats = server.join().unwrap();
    assert_eq!(stats.total.panics, 0, "a callback ran on a foreign thread");
    assert!((0..CALLBACKS).all(called), "{calls:?}");
    let mut threads = threads.lock().unwrap().clone();
    assert!(!threads.contains(&thread::current().id()));
    threads.dedup();
    assert_eq!(threads.len(), SHARDS, "each shard has a thread of its own");
}

#[test]
fn every_shard_serves() {
    let script = Script::echo();
    let server = script.start(builder().shards(4));
    let streams = connect_many(&server, 200);
    streams.iter().enumerate().for_each(|(key, stream)| conserve(stream, key as u64, 1000, || 1000));
    script.log.wait_closed(200);
    let opened = script.log.opened();
    let stats = script.log.stop_and_check(server);
    assert_eq!((stats.shards.len(), stats.total.accepted), (4, 200));
    for (index, shard) in stats.shards.iter().enumerate() {
        assert!(shard.accepted > 0 && shard.bytes_in == shard.accepted * 1000, "shard {index}: {shard}");
        let named = opened.iter().filter(|id| id.shard() == index).count();
        assert_eq!(named as u64, shard.accepted, "ids name the shard on which their connections live");
    }
}

#[test]
fn servers_of_one_process_do_not_know_of_each_other() {
    let scripts = [Script::echo(), Script::echo()];
    let [first, second] = scripts.clone().map(|script| script.start(builder()));
    let streams = connect_many(&first, 20);
    let other = connect(second.local_addr());
    support::converse(&other, 1, 100, || 100);
    scripts[0].log.stop_and_check(first);
    drop(streams);
    conserve(&other, 2, 100_000, || 1000);
    scripts[1].log.wait_closed(1);
    assert_eq!(scripts[0].log.reasons().len(), 20);
    assert_eq!(scripts[1].log.stop_and_check(second).total.accepted, 1);
}
