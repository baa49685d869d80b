//! However a server ends, or fails to start, none of its threads is left behind.

mod support;

use std::fs;

use esockets::{Error, Server, ShardInfo};
use support::{Script, builder, connect_many, converse, wait_until};

/// The server threads of this process, by their names.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("esockets-")).collect()
}

fn none_left() {
    // A thread that has been joined may stay in the list for a moment.
    wait_until("no thread is left", || threads().is_empty());
}

/// The only test in this process: threads of others would be counted, too.
#[test]
fn no_thread_is_left_behind() {
    let server = Script::echo().start(builder().shards(4));
    let mut names = threads();
    names.sort();
    assert_eq!(names, ["esockets-0", "esockets-1", "esockets-2", "esockets-3"]);
    let streams = connect_many(&server, 20);
    streams.iter().for_each(|stream| converse(stream, 1, 100, || 100));
    server.stop();
    server.join().unwrap();
    none_left();

    let server = Script::echo().start(builder().shards(4));
    let second = Server::builder().port(server.local_addr().port()).shards(4);
    assert!(second.handle_readable(|_| true).start().is_err());
    wait_until("only the threads of the first are left", || threads().len() == 4);
    drop(server);
    none_left();

    let panics = |info: &ShardInfo| {
        assert!(info.index() < 2, "meant");
        Script::echo()
    };
    std::panic::set_hook(Box::new(|_| {}));
    let failed = builder().shards(4).start(panics);
    let _ = std::panic::take_hook();
    assert!(matches!(failed, Err(Error::Died { shard: 2, .. })), "{failed:?}");
    none_left();
}
