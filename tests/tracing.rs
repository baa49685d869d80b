//! What a subscriber of `tracing` is told: the server's and its shards' lives, what goes wrong, once and not once a
//! connection, and each connection at the lowest level.

mod support;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use esockets::sys::{descriptor_limit, set_descriptor_limit};
use socket2::{Domain, Socket, Type};
use support::{Script, builder, connect, connect_many, echo_unless_told, say_panic, silence, wait_until};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// An event: its level, what it says, and its fields; `shard` is that of the span around it.
#[derive(Debug, Clone)]
struct Told {
    level: Level,
    fields: HashMap<&'static str, String>,
}

impl Told {
    fn says(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

/// Keeps all that it is told.
#[derive(Default)]
struct Keeper {
    told: Mutex<Vec<Told>>,
    spans: Mutex<HashMap<u64, HashMap<&'static str, String>>>,
    ids: AtomicU64,
}

#[derive(Default)]
struct Fields(HashMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

thread_local! {
    /// The spans that this thread is in.
    static WITHIN: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Subscriber for &'static Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "esockets"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let (id, mut fields) = (self.ids.fetch_add(1, Ordering::Relaxed) + 1, Fields::default());
        span.record(&mut fields);
        self.spans.lock().unwrap().insert(id, fields.0);
        Id::from_u64(id)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        WITHIN.with_borrow(|within| {
            let spans = self.spans.lock().unwrap();
            within.iter().for_each(|id| fields.0.extend(spans[id].clone()));
        });
        event.record(&mut fields);
        self.told.lock().unwrap().push(Told { level: *event.metadata().level(), fields: fields.0 });
    }

    fn enter(&self, span: &Id) {
        WITHIN.with_borrow_mut(|within| within.push(span.into_u64()));
    }

    fn exit(&self, _span: &Id) {
        WITHIN.with_borrow_mut(|within| within.pop());
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
}

/// One test at a time hears what is told, from its beginning on.
struct Ear {
    keeper: &'static Keeper,
    _turn: MutexGuard<'static, ()>,
}

impl Ear {
    fn new() -> Ear {
        static KEEPER: OnceLock<Keeper> = OnceLock::new();
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let keeper = KEEPER.get_or_init(Keeper::default);
        // The second test finds it set.
        let _ = tracing::subscriber::set_global_default(keeper);
        keeper.told.lock().unwrap().clear();
        Ear { keeper, _turn: turn }
    }

    fn told(&self, message: &str) -> Vec<Told> {
        let told = self.keeper.told.lock().unwrap();
        told.iter().filter(|told| told.says("message") == message).cloned().collect()
    }

    fn messages(&self) -> Vec<String> {
        let told = self.keeper.told.lock().unwrap();
        told.iter().map(|told| format!("{}: {}", told.level, told.says("message"))).collect()
    }
}

#[test]
fn a_servers_life_and_its_shards_and_each_connection() {
    let ear = Ear::new();
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    let address = server.local_addr();
    let mut client = connect(address);
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let peer = client.local_addr().unwrap().to_string();
    drop(client);
    script.log.wait_closed(1);
    server.stop();
    server.stop();
    server.join().unwrap();
    let mut messages = ear.messages();
    // The shard and the server begin, and end, at the same time.
    messages[..2].sort_unstable();
    messages[4..].sort_unstable();
    let expected = [
        "DEBUG: shard started",
        "INFO: server started",
        "TRACE: connection opened",
        "TRACE: connection closed",
        "DEBUG: shard ended",
        "INFO: server stopped",
        "INFO: server stopping",
    ];
    assert_eq!(messages, expected, "and nothing twice");
    let (opened, closed) = (&ear.told("connection opened")[0], &ear.told("connection closed")[0]);
    assert_eq!((opened.says("peer"), opened.says("shard")), (peer.as_str(), "0"));
    assert_eq!((closed.says("id"), closed.says("peer")), (opened.says("id"), peer.as_str()));
    assert_eq!(closed.says("reason"), "peer_closed");
    assert!(ear.told("server started")[0].says("addresses").contains(&address.port().to_string()));
}

#[test]
fn a_panic_a_handler_that_blocks_and_those_for_whom_there_is_no_room() {
    silence();
    let ear = Ear::new();
    let script = Script::echo().readable(|client| {
        if client.peek() == b"wait" {
            std::thread::sleep(Duration::from_millis(300));
        }
        echo_unless_told(client)
    });
    let watched = builder().shards(1).connections_max(Some(2)).watchdog(Duration::from_millis(50), |_| {});
    let server = script.start(watched);
    let (first, mut second) = (connect(server.local_addr()), connect(server.local_addr()));
    wait_until("both are there", || script.log.opened().len() == 2);
    let vain = connect_many(&server, 100);
    wait_until("a hundred are refused", || server.stats().total.refused() == 100);
    let refused = ear.told("connections refused");
    let counts: Vec<&str> = refused.iter().map(|told| told.says("refused")).collect();
    assert_eq!(counts, ["1", "2", "4", "8", "16", "32", "64"], "not once a connection");
    assert!(refused.iter().all(|told| told.level == Level::WARN && told.says("peer").starts_with("127.0.0.1:")));
    say_panic(&first);
    script.log.wait_closed(1);
    let panics = ear.told("handler panicked");
    assert_eq!((panics.len(), panics[0].says("panic"), panics[0].level), (1, "\"meant\"", Level::ERROR));
    second.write_all(b"wait").unwrap();
    second.read_exact(&mut [0; 4]).unwrap();
    let id = script.log.opened()[1].to_string();
    // On a busy machine others may have been held up, too.
    let held_up = ear.told("shard held up");
    assert!(held_up.iter().any(|told| (told.says("shard"), told.says("client")) == ("0", id.as_str())), "{held_up:?}");
    drop((vain, server));
    assert_eq!(ear.told("server stopped").len(), 1, "dropping stops it, too");
}

#[test]
fn a_shortage_of_descriptors_is_told_once_however_often_it_is_tried_again() {
    let ear = Ear::new();
    let script = Script::echo();
    let server = script.start(builder().shards(1));
    let waiting: Vec<_> = (0..3).map(|_| connect(server.local_addr())).collect();
    wait_until("they are there", || script.log.opened().len() == 3);
    // Those who come late have their own descriptors already; then all others that there are are taken.
    let late: Vec<Socket> = (0..10).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let soft = descriptor_limit().unwrap().soft;
    let used = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    set_descriptor_limit(used + 20).unwrap();
    let filled: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    late.iter().for_each(|late| late.connect(&server.local_addr().into()).unwrap());
    wait_until("it has been tried many times", || server.stats().total.accept_pauses >= 8);
    drop(filled);
    set_descriptor_limit(soft).unwrap();
    wait_until("they are there, too", || script.log.opened().len() == 13);
    let paused = ear.told("accepting paused");
    assert_eq!(paused.len(), 1, "{paused:?}");
    assert!(paused[0].says("error").contains("Too many open files") && paused[0].level == Level::WARN);
    drop((waiting, late));
}
