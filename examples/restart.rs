//! Replaces itself while clients come in: nobody is refused, and whoever is there is served to the end.
//!
//! `cargo run --release --example restart`; `nc 127.0.0.1 1234` in a second terminal; and the first command again in a third:
//! the new process takes over the listening sockets of the old one, which ends when its last client has gone. Another socket
//! to meet at, and another port: `-- /run/user/1000/restart.sock 4321`.
//!
//! Under systemd the socket may come from a unit: `systemd-socket-activate -l 1234 target/release/examples/restart`.

use std::error::Error;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use esockets::{Listeners, Server};

/// How long the other one has for its part, and how long clients may stay when the server has been replaced.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3600);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    // A folder that nobody else may write to, where there is one.
    let folder = std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| ".".into());
    let meeting_point = arguments.next().unwrap_or_else(|| format!("{folder}/restart.sock"));
    let port = arguments.next().map_or(Ok(1234), |port| port.parse())?;
    let builder = match listeners(&meeting_point)? {
        Some(listeners) => Server::builder().listeners(listeners),
        None => Server::builder().port(port),
    };
    let builder = builder.handle_readable(|client| {
        let data = client.recv();
        client.send(data)
    });
    let server = builder.start()?; // from here on it serves, and whoever handed over knows
    println!("process {} listens on {}", std::process::id(), server.local_addr());
    wait_for_successor(&server, &meeting_point)?;
    println!("process {} has been replaced; {} are still here", std::process::id(), server.stats().total.open());
    server.drain(DRAIN_TIMEOUT);
    println!("in all: {}", server.join()?);
    Ok(())
}

/// Sockets from systemd or from the server that runs already, if either is there.
pub(crate) fn listeners(meeting_point: &str) -> Result<Option<Listeners>, Box<dyn Error>> {
    if let Some(inherited) = Listeners::inherited()? {
        return Ok(Some(inherited));
    }
    let Ok(predecessor) = UnixStream::connect(meeting_point) else { return Ok(None) };
    predecessor.set_read_timeout(Some(HAND_OVER_TIMEOUT))?;
    Ok(Some(Listeners::take_over(predecessor)?))
}

/// Serves until another process has taken over. Who may replace it is who may open the file: mind the folder's permissions.
pub(crate) fn wait_for_successor<M>(server: &Server<M>, meeting_point: &str) -> Result<(), Box<dyn Error>> {
    // The predecessor's, who needs it no longer.
    let _ = fs::remove_file(meeting_point);
    for successor in UnixListener::bind(meeting_point)?.incoming() {
        let successor = successor?;
        successor.set_read_timeout(Some(HAND_OVER_TIMEOUT))?;
        match server.hand_over(&successor) {
            Ok(()) => break,
            Err(error) => eprintln!("{error}"), // as if nobody had come
        }
    }
    Ok(())
}
