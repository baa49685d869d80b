//! An echo server through TLS. First a key and a certificate that nobody trusts but who is told to:
//!
//! `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out chain.pem -days 30
//! -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE`
//!
//! then `cargo run --release --features tls --example tls -- 4433 chain.pem key.pem`, and
//! `openssl s_client -connect 127.0.0.1:4433 -CAfile chain.pem -quiet`. With `kill -HUP` it reads the files again, and who is
//! connected stays.

use std::thread;

use esockets::Server;
use esockets::tls::Tls;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, chain, key] = words.as_slice() else {
        return Err("usage: tls PORT CHAIN.pem KEY.pem".into());
    };
    let tls = Tls::from_pem_files(chain, key)?;
    // Before there are other threads: the shards are not to be asked.
    let mut signals = Signals::new([SIGHUP])?;
    let builder = Server::builder().port(port.parse()?).tls(&tls).handle_readable(|client| {
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
