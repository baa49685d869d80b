//! A handler is called every so often, on each shard, whoever is connected; and nobody is who has not asked for it.

mod support;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use esockets::testing::TestClient;
use esockets::{Client, Handler, Peer, Server, Shard};
use support::{builder, connect, meant, silence, wait_until};

const PERIOD: Duration = Duration::from_millis(20);

/// Counts its ticks, tells everybody of them, and panics at the third.
struct Heart {
    beats: Arc<AtomicUsize>,
    panics: bool,
}

impl Handler for Heart {
    type Session = ();
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        client.recv();
        true
    }

    fn handle_tick(&mut self, shard: &mut Shard<'_, ()>) {
        let beats = self.beats.fetch_add(1, Ordering::Relaxed) + 1;
        shard.each_client(|client, ()| client.send(b"beat"));
        if self.panics && beats == 3 {
            meant();
        }
    }
}

fn start(period: Option<Duration>, panics: bool) -> (Server, [Arc<AtomicUsize>; 2]) {
    let beats = [(); 2].map(|()| Arc::default());
    let counted = beats.clone();
    let make = move |shard: &esockets::ShardInfo| Heart { beats: Arc::clone(&counted[shard.index()]), panics };
    (builder().tick(period).start(make).unwrap(), beats)
}

#[test]
fn each_shard_ticks_by_itself_and_never_too_early() {
    let begun = Instant::now();
    let (server, beats) = start(Some(PERIOD), false);
    for beats in &beats {
        wait_until("it has ticked ten times", || beats.load(Ordering::Relaxed) >= 10);
    }
    for beats in &beats {
        let beats = beats.load(Ordering::Relaxed) as u32;
        assert!(begun.elapsed() >= beats * PERIOD, "{beats} ticks in {:?}", begun.elapsed());
    }
    drop(server);
}

#[test]
fn a_tick_reaches_all_clients() {
    let (server, _) = start(Some(PERIOD), false);
    for mut client in support::connect_many(&server, 20) {
        let mut beats = [0; 8];
        client.read_exact(&mut beats).unwrap();
        assert_eq!(&beats, b"beatbeat");
    }
}

#[test]
fn a_panic_in_a_tick_is_counted_and_ends_nobody() {
    silence();
    let (server, beats) = start(Some(PERIOD), true);
    let mut client = connect(server.local_addr());
    wait_until("both have panicked", || server.stats().total.panics == 2);
    let then = beats.each_ref().map(|beats| beats.load(Ordering::Relaxed));
    wait_until("both go on", || (0..2).all(|shard| beats[shard].load(Ordering::Relaxed) > then[shard]));
    client.read_exact(&mut [0; 4]).unwrap();
    assert_eq!((server.stats().total.open(), server.stats().total.deaths), (1, 0));
}

#[test]
fn who_has_not_asked_for_ticks_sleeps() {
    let (quiet, none) = start(None, false);
    let (clock, beats) = start(Some(PERIOD), false);
    let turns = |server: &Server| server.stats().total.turns;
    let ticked = || beats[0].load(Ordering::Relaxed);
    let (before, ticks) = (turns(&quiet), ticked());
    wait_until("another has ticked twenty times", || ticked() >= ticks + 20);
    assert!(turns(&clock) >= 20, "each takes a turn");
    // The shards' first turn may still have been to come.
    assert!(turns(&quiet) <= before + 2, "it has woken up {} times", turns(&quiet) - before);
    assert!(none.iter().all(|beats| beats.load(Ordering::Relaxed) == 0));
}

#[test]
fn a_period_that_makes_no_sense_is_refused() {
    let refused = builder().tick(Some(Duration::ZERO)).start(|_| Heart { beats: Arc::default(), panics: false });
    let said = refused.map(drop).unwrap_err().to_string();
    assert!(said.contains("tick"), "{said}");
}

#[test]
fn a_handlers_unit_test_ticks_by_hand() {
    let beats = Arc::<AtomicUsize>::default();
    let mut client = TestClient::connect(Heart { beats: Arc::clone(&beats), panics: false });
    client.tick();
    client.tick();
    assert_eq!((client.received(), beats.load(Ordering::Relaxed)), (b"beatbeat".to_vec(), 2));
}
