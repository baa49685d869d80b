//! Sends back whatever it receives: the smallest server there is.
//!
//! `cargo run --release --example echo`, then `nc 127.0.0.1 1234`, or `loadgen rr 127.0.0.1:1234 -c 100 -d 5s`.

use esockets::Server;

fn main() -> Result<(), esockets::Error> {
    let server = Server::builder()
        .handle_incoming(|_client, address| {
            println!("{address} is here");
            true // keep it
        })
        .handle_readable(|client| {
            let data = client.recv();
            client.send(data)
        })
        .start()?;
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}
