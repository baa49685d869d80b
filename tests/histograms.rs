//! How long turns and calls of the handler take is measured where that is asked for, and nowhere else.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use support::{Script, builder, connect, echo_unless_told, say_panic, silence, wait_until};

#[test]
fn nothing_is_measured_where_nobody_asked() {
    let server = Script::echo().start(builder());
    let mut client = connect(server.local_addr());
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let stats = server.stats();
    assert!(stats.total.turns > 0);
    assert_eq!((&stats.total.turn_time, &stats.total.handler_time), (&None, &None));
}

#[test]
fn each_call_and_each_turn_is_counted_once_on_its_shard_and_a_call_is_part_of_a_turn() {
    /// Far longer than anything else here.
    const LONG: Duration = Duration::from_millis(300);
    let script = Script::echo().readable(|client| {
        let data = client.recv();
        if data == b"wait" {
            std::thread::sleep(LONG);
        }
        client.send(data)
    });
    let server = script.start(builder().histograms(true));
    let mut client = connect(server.local_addr());
    for words in [b"hell", b"wait", b"hell", b"hell"] {
        client.write_all(words).unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    }
    drop(client);
    script.log.wait_closed(1);
    server.stop();
    let stats = server.join().unwrap();
    let (turns, calls) = (stats.total.turn_time.clone().unwrap(), stats.total.handler_time.clone().unwrap());
    // One of each: incoming, eof, closed; and four times readable.
    assert_eq!((calls.count(), turns.count()), (7, stats.total.turns), "{stats}");
    assert_eq!(calls.count_within(Duration::from_nanos(1 << 27)), 6, "134 ms: {calls}");
    assert!(calls.max() >= LONG && turns.max() >= calls.max() && turns.sum() >= calls.sum(), "{turns}; {calls}");
    let of_shards = stats.shards.iter().map(|shard| shard.handler_time.as_ref().unwrap().count());
    let mut of_shards: Vec<u64> = of_shards.collect();
    of_shards.sort_unstable();
    assert_eq!(of_shards, [0, 7]);
}

#[test]
fn a_call_that_panics_is_counted_too_and_a_handler_that_is_timed_is_told_all_that_others_are() {
    silence();
    let script = Script::echo().readable(echo_unless_told);
    let server = script.start(builder().shards(1).histograms(true).idle_timeout(Some(Duration::from_millis(50))));
    let stream = connect(server.local_addr());
    say_panic(&stream);
    wait_until("it is over", || server.stats().total.panics == 1);
    // Greeted, heard, and told that it is over.
    script.log.wait_closed(1);
    let count = || server.stats().total.handler_time.unwrap().count();
    wait_until("all three are counted", || count() == 3);
    let _idle = connect(server.local_addr());
    script.log.wait_closed(2);
    wait_until("so is a timeout", || count() == 6);
}
