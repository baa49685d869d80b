//! A server starts with every shard listening, or says which knob or which address is wrong and leaves nothing behind.

mod support;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use esockets::socket::Keepalive;
use esockets::{Address, Builder, Cores, Error, Selector, Server, ShardInfo, Tuning};
use support::{Script, builder, connect, connect_many, conserve, converse, wait_until};

/// Starts in vain.
fn error(builder: Builder) -> Error {
    builder.handle_readable(|_| true).start().expect_err("it should not start")
}

fn error_on(address: SocketAddr) -> Error {
    error(builder().host(address.ip().to_string()).port(address.port()))
}

#[test]
fn nonsense_is_refused_by_the_name_of_its_knob() {
    let probing = |idle, interval, probes| {
        let seconds = Duration::from_secs;
        builder().keepalive(Some(Keepalive { idle: seconds(idle), interval: seconds(interval), probes }))
    };
    let (day, zero) = (Duration::from_secs(24 * 3600), Duration::ZERO);
    let tuned = |set: fn(&mut Tuning)| {
        let mut tuning = Tuning::default();
        set(&mut tuning);
        builder().tuning(tuning)
    };
    let nonsense: Vec<(&str, Vec<Builder>)> = vec![
        ("queue_size", vec![builder().queue_size(0), builder().queue_size(u32::MAX)]),
        ("block_time", vec![builder().block_time(zero), builder().block_time(Duration::MAX)]),
        ("selector", vec![builder().selector(Selector::Spin(zero)), builder().selector(Selector::Spin(day))]),
        ("shards", vec![builder().shards(0), builder().shards(usize::MAX)]),
        ("cores", vec![builder().cores(Cores::List(vec![])), builder().cores(Cores::List(vec![usize::MAX]))]),
        ("keepalive", vec![probing(0, 1, 1), probing(1, 0, 1), probing(1, 1, 0), probing(40_000, 1, 1)]),
        ("user_timeout", vec![builder().user_timeout(Some(zero)), builder().user_timeout(Some(day * 1000))]),
        ("watchdog", vec![builder().watchdog(zero, |_| {}), builder().watchdog(day * 1000, |_| {})]),
        ("connections_max", vec![builder().connections_max(Some(0)), builder().connections_max(Some(usize::MAX))]),
        ("connections_per_address", vec![builder().connections_per_address(Some(0))]),
        ("input_max", vec![builder().input_max(0), builder().input_max(usize::MAX)]),
        ("output_max", vec![builder().output_max(0), builder().output_max(usize::MAX)]),
        ("output_low", vec![builder().output_max(10).output_low(10), builder().output_low(usize::MAX)]),
        ("idle_timeout", vec![builder().idle_timeout(Some(zero)), builder().idle_timeout(Some(day * 1000))]),
        ("accept_budget", vec![builder().accept_budget(0), builder().accept_budget(usize::MAX)]),
        ("read_budget", vec![builder().read_budget(0), builder().read_budget(usize::MAX)]),
        ("mailbox_max", vec![builder().mailbox_max(0), builder().mailbox_max(usize::MAX)]),
        ("listen", vec![builder().listen(Address::unix("")), builder().listen(Address::unix("a").mode(0o1777))]),
        ("tuning.defer_accept", vec![tuned(|tuning| tuning.defer_accept = Some(Duration::ZERO))]),
        ("tuning.fast_open", vec![tuned(|tuning| tuning.fast_open = Some(0))]),
        ("tuning.receive_buffer", vec![tuned(|tuning| tuning.receive_buffer = Some(usize::MAX))]),
        ("tuning.send_buffer", vec![tuned(|tuning| tuning.send_buffer = Some(0))]),
        ("tuning.busy_poll", vec![tuned(|tuning| tuning.busy_poll = Some(Duration::ZERO))]),
        ("stop_timeout", vec![builder().stop_timeout(Duration::MAX)]),
    ];
    for (name, builders) in nonsense {
        for builder in builders {
            let error = error(builder);
            assert!(matches!(error, Error::Config { knob, .. } if knob == name), "{name}: {error}");
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn the_least_that_makes_sense_works() {
    let least = builder().shards(1).queue_size(1).block_time(Duration::from_millis(1)).accept_budget(1).mailbox_max(1);
    let least = least.input_max(1).output_max(2).output_low(0).read_budget(1).connections_max(Some(1));
    let least = least
        .keepalive(None)
        .user_timeout(Some(Duration::from_millis(1)))
        .nodelay(false)
        .idle_timeout(Some(Duration::from_secs(1000)));
    let server = Script::echo().start(least.selector(Selector::Spin(Duration::from_micros(1))));
    conserve(&connect(server.local_addr()), 1, 1000, || 10);
}

#[test]
fn a_second_server_is_refused_and_told_the_address() {
    let server = Script::echo().start(builder());
    let (address, port) = (server.local_addr(), server.local_addr().port());
    for second in [builder().port(port), builder().port(port).host("0.0.0.0")] {
        let error = error(second);
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }
    assert!(error_on(address).to_string().contains(&address.to_string()));
    let connections = connect_many(&server, 20);
    connections.iter().for_each(|stream| converse(stream, 1, 100, || 100));
    assert_eq!(server.stats().total.accepted, 20, "it has lost none to the others");
}

#[test]
fn foreign_listeners_are_respected() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(error_on(listener.local_addr().unwrap()).kind(), ErrorKind::AddrInUse);
}

#[test]
fn two_that_agree_share_the_port() {
    let scripts = [Script::echo(), Script::echo()];
    let first = scripts[0].start(builder().share_port(true));
    let second = scripts[1].start(builder().port(first.local_addr().port()).share_port(true));
    let streams = connect_many(&first, 100);
    streams.iter().for_each(|stream| converse(stream, 1, 100, || 100));
    let accepted = [&first, &second].map(|server| server.stats().total.accepted);
    assert!(accepted[0] > 0 && accepted[1] > 0 && accepted[0] + accepted[1] == 100, "{accepted:?}");
}

#[test]
fn one_that_would_share_is_refused_by_one_that_does_not() {
    for (first, seconds) in [("127.0.0.1", ["127.0.0.1", "0.0.0.0", "::"]), ("0.0.0.0", ["127.0.0.1", "0.0.0.0", "::"])]
    {
        let server = Script::echo().start(builder().host(first));
        let port = server.local_addr().port();
        for second in seconds {
            let error = error(builder().host(second).port(port).share_port(true));
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{second} beside {first}");
        }
        server.stop();
        server.join().unwrap();
        Script::echo().start(builder().host(first).port(port).share_port(true));
    }
}

#[test]
fn closures_may_be_given_in_any_order() {
    let readable = |client: &mut esockets::Client<'_>| {
        let data = client.recv();
        client.send(data)
    };
    let server = builder().handle_readable(readable).handle_incoming(|_, address| address.port() > 0).start().unwrap();
    conserve(&connect(server.local_addr()), 1, 100, || 100);
}

#[test]
fn port_zero_becomes_a_port_that_all_shards_listen_on() {
    let server = Script::echo().start(builder().shards(4));
    assert_ne!(server.local_addr().port(), 0);
    let name = Script::echo().start(builder().host("localhost"));
    assert!(name.local_addr().ip().is_loopback());
    conserve(&connect(name.local_addr()), 1, 100, || 100);
}

#[test]
fn the_ipv6_wildcard_takes_both_families() {
    if TcpListener::bind("[::1]:0").is_err() {
        return println!("skipped: this machine has no IPv6");
    }
    for host in ["::", "[::]"] {
        let server = Script::echo().start(builder().host(host));
        for ip in ["127.0.0.1", "::1"] {
            conserve(&connect(SocketAddr::new(ip.parse().unwrap(), server.local_addr().port())), 1, 100, || 100);
        }
    }
}

#[test]
fn addresses_that_are_none_or_not_ours_are_named() {
    let unknown = error(builder().host("no such host"));
    assert!(matches!(unknown, Error::Resolve { .. }) && unknown.to_string().contains("`no such host`"), "{unknown}");
    // TEST-NET-1, RFC 5737.
    let foreign = error(builder().host("192.0.2.1"));
    assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable);
    assert!(foreign.to_string().contains("192.0.2.1"), "{foreign}");
}

#[test]
fn a_handler_that_cannot_be_made_ends_the_start_and_frees_the_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let make = |info: &ShardInfo| {
        assert_ne!(info.index(), 1, "meant");
        Script::echo()
    };
    let failed: Result<Server<_>, Error> = builder().port(address.port()).shards(3).start(make);
    let failed = failed.unwrap_err();
    assert!(matches!(failed, Error::Died { shard: 1, .. }) && failed.to_string().contains("meant"), "{failed}");
    wait_until("nobody listens", || TcpStream::connect(address).is_err());
    let script = Script::echo();
    let server = script.start(builder().port(address.port()));
    conserve(&connect(server.local_addr()), 1, 100, || 100);
    script.log.stop_and_check(server);
}
