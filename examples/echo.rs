//! Sends back whatever it receives: the smallest server there is.
//!
//! `cargo run --release --example echo`, then `nc 127.0.0.1 1234` in another terminal. Another port: `-- 4321`.

use esockets::Server;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(1234), |port| port.parse())?;
    let server = Server::builder()
        .port(port)
        .handle_incoming(|_client, address| {
            println!("{address} is here");
            true // keep it
        })
        .handle_readable(|client| {
            let data = client.recv();
            client.send(data) // true: keep it
        })
        .start()?;
    println!("listening on {}", server.local_addr());
    server.join()?;
    Ok(())
}
