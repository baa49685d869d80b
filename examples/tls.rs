//! An echo server through TLS. First a key and a certificate that nobody trusts but who is told to:
//!
//! `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out chain.pem -days 30
//! -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE`
//!
//! then `cargo run --release --features tls --example tls -- 4433 chain.pem key.pem`, and
//! `openssl s_client -connect 127.0.0.1:4433 -CAfile chain.pem -quiet`. With `kill -HUP` it reads the files again, and who is
//! connected stays.
//!
//! More clients than `ulimit -n` allows to one table of descriptors: `-- 4433 chain.pem key.pem 100000` gives each shard a table of
//! its own.

#[path = "support/tables.rs"]
mod tables;

use std::thread;

use esockets::tls::Tls;
use esockets::{Builder, Cores, Server};
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

/// A table of descriptors for each shard.
fn own_tables(builder: Builder) -> Builder {
    // SAFETY: a descriptor's number means something else on a shard's thread than elsewhere. The handler holds none, and the files
    // of certificates are read by the program's own threads.
    unsafe { builder.private_fd_tables() }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, chain, key, clients @ ..] = words.as_slice() else {
        return Err("usage: tls PORT CHAIN.pem KEY.pem [CLIENTS]".into());
    };
    let tls = Tls::from_pem_files(chain, key)?;
    // Before there are other threads: the shards are not to be asked.
    let mut signals = Signals::new([SIGHUP])?;
    let builder = Server::builder().port(port.parse()?).tls(&tls);
    let builder = match clients.first() {
        // More shards than cores: the scheduler moves them.
        Some(count) => own_tables(builder.shards(tables::shards_for(count.parse()?)?).cores(Cores::None)),
        None => builder,
    };
    let builder = builder.handle_readable(|client| {
        let data = client.recv();
        client.send(data)
    });
    let server = builder.start()?;
    println!("listening on {}", server.local_addr());
    let (chain, key) = (chain.clone(), key.clone());
    thread::spawn(move || {
        for _ in signals.forever() {
            match tls.reload_pem_files(&chain, &key) {
                Ok(()) => eprintln!("read {chain} and {key} again"),
                Err(error) => eprintln!("still with the old certificates: {error}"),
            }
        }
    });
    server.join()?;
    Ok(())
}
