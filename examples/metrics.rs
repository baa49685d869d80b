//! An echo server that is watched: Prometheus fetches what it has counted, and how long its turns and calls take.
//!
//! `cargo run --release --example metrics`, then `nc 127.0.0.1 1234`, and `curl http://127.0.0.1:9100/metrics`. Other ports:
//! `-- 4321 9101`.
//!
//! The metrics have a server of their own, with one shard: one that is full, or held up by one of its handlers, has to be able
//! to say so. Who connects there and says nothing, or does not read, holds up nobody, and is let go after a while.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use esockets::{Client, Cores, Metrics, Server};

/// Who takes longer to ask or to read, or asks at greater length, is not Prometheus.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST_MAX: usize = 16 << 10;
/// So many at once are more than ever ask, and leave descriptors for the server that is watched.
const WATCHERS_MAX: usize = 64;
/// The histograms of hundreds of shards.
const ANSWER_MAX: usize = 16 << 20;

/// Answers one request and closes.
fn answer(client: &mut Client<'_>, watched: &Server) -> bool {
    let request = client.peek();
    if !request.windows(4).any(|end| end == b"\r\n\r\n") {
        return true; // the rest of it is still to come
    }
    client.recv();
    let (status, kind, body) = match request.starts_with(b"GET /metrics ") {
        true => ("200 OK", Metrics::CONTENT_TYPE, watched.stats().metrics().to_string()),
        false => ("404 Not Found", "text/plain", "It is at /metrics.\n".to_owned()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    client.send((head + &body).as_bytes());
    false
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut ports = std::env::args().skip(1).map(|port| port.parse::<u16>());
    let (port, metrics_port) = (ports.next().unwrap_or(Ok(1234))?, ports.next().unwrap_or(Ok(9100))?);
    let server = Server::builder()
        .port(port)
        .histograms(true)
        .handle_readable(|client| {
            let data = client.recv();
            client.send(data)
        })
        .start()?;
    let address = server.local_addr();
    let metrics = Server::builder()
        .port(metrics_port)
        .shards(1)
        .cores(Cores::None) // it has next to nothing to do: no core is to be its own
        .connections_max(Some(WATCHERS_MAX))
        .first_message_timeout(Some(PATIENCE))
        .write_timeout(Some(PATIENCE))
        .input_max(REQUEST_MAX)
        .output_max(ANSWER_MAX);
    let watched = Arc::new(server);
    let metrics = metrics.handle_readable(move |client| answer(client, &watched)).start()?;
    println!("metrics at http://{}/metrics, listening on {address}", metrics.local_addr());
    metrics.join()?;
    Ok(())
}
