//! An echo server that is watched: Prometheus fetches what it has counted, and how long its turns and calls take.
//!
//! `cargo run --release --example metrics`, then `nc 127.0.0.1 1234`, and `curl http://127.0.0.1:9100/metrics`. Other ports:
//! `-- 4321 9101`.
//!
//! The metrics have a thread and a listener of their own: a server that is full, or held up by one of its handlers, has to be
//! able to say so.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use esockets::{Metrics, Server};

/// Who takes longer to ask, or asks at greater length, is not Prometheus.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST_MAX: usize = 16 << 10;

/// Answers one request and closes.
fn answer(mut stream: TcpStream, server: &Server) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut request, mut piece) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            _ if request.len() > REQUEST_MAX || Instant::now() > until => return Ok(()),
            count => request.extend_from_slice(&piece[..count]),
        }
    }
    let (status, kind, body) = match request.starts_with(b"GET /metrics ") {
        true => ("200 OK", Metrics::CONTENT_TYPE, server.stats().metrics().to_string()),
        false => ("404 Not Found", "text/plain", "It is at /metrics.\n".to_owned()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut ports = std::env::args().skip(1).map(|port| port.parse::<u16>());
    let port = ports.next().unwrap_or(Ok(1234))?;
    let metrics = TcpListener::bind(("127.0.0.1", ports.next().unwrap_or(Ok(9100))?))?;
    let server = Server::builder()
        .port(port)
        .histograms(true)
        .handle_readable(|client| {
            let data = client.recv();
            client.send(data)
        })
        .start()?;
    println!("metrics at http://{}/metrics, listening on {}", metrics.local_addr()?, server.local_addr());
    for stream in metrics.incoming() {
        if let Err(error) = stream.and_then(|stream| answer(stream, &server)) {
            eprintln!("telling the metrics: {error}");
            // Without descriptors the next attempt fails at once, too.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}
