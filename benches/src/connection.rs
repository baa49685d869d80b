//! One connection of the client: opened from a route, sends whole messages, verifies every byte that comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::{Result, Tried};
use crate::routes::Routes;

/// Larger than any message, so that a read which does not fill it has drained the socket (epoll(7)).
pub(crate) const BUFFER: usize = 64 << 10;
/// The handshake on the loopback takes microseconds, or a second if the listener's queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Sources that may be taken in a row before something else must be wrong.
const ROUTES_TRIED_MAX: usize = 1000;

pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes of the message that is coming in.
    received: usize,
}

impl Connection {
    /// It is closed with a reset, so that thousands of them leave no TIME_WAIT behind.
    pub(crate) fn open(target: SocketAddr, routes: &mut Routes, poll: &Poll, token: usize) -> Result<Connection> {
        let socket = connect(target, routes)?;
        socket.set_nonblocking(true).tried(|| "making a socket non-blocking".to_owned())?;
        let mut stream = TcpStream::from_std(socket.into());
        poll.registry()
            .register(&mut stream, Token(token), Interest::READABLE)
            .tried(|| format!("registering connection {token}"))?;
        Ok(Connection { stream, received: 0 })
    }

    /// The kernel has room for a whole message, because the one before it has come back, or is small.
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<()> {
        let sent = self.stream.write(message).tried(|| format!("sending {} bytes", message.len()))?;
        if sent == message.len() { Ok(()) } else { Err(format!("the kernel took {sent} of {} bytes", message.len())) }
    }

    /// Reads what there is and says how many messages that completes.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], message: &[u8]) -> Result<usize> {
        let mut completed = 0;
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(completed),
                Err(error) => return Err(format!("receiving an echo: {error}")),
            };
            completed += self.verify(&buffer[..count], message)?;
            if count < buffer.len() {
                return Ok(completed);
            }
        }
    }

    fn verify(&mut self, mut bytes: &[u8], message: &[u8]) -> Result<usize> {
        let mut completed = 0;
        while !bytes.is_empty() {
            let count = bytes.len().min(message.len() - self.received);
            if bytes[..count] != message[self.received..self.received + count] {
                return Err(format!("{count} bytes at {} of a message are not those that were sent", self.received));
            }
            bytes = &bytes[count..];
            self.received += count;
            if self.received == message.len() {
                self.received = 0;
                completed += 1;
            }
        }
        Ok(completed)
    }

    /// Whether no part of a message has come that is not a whole one.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.received == 0
    }
}

/// Each byte of a message tells its place, up to a prime, so that none can be lost or doubled unseen.
pub(crate) fn message(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| (place % 251) as u8).collect()
}

fn connect(target: SocketAddr, routes: &mut Routes) -> Result<Socket> {
    let mut last = None;
    for _ in 0..ROUTES_TRIED_MAX {
        let source = routes.next();
        match connect_from(source.into(), target) {
            Ok(socket) => return Ok(socket),
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => {
                last = Some(format!("connecting {source} to {target}: {error}"));
            }
            Err(error) => return Err(format!("connecting {source} to {target}: {error}")),
        }
    }
    Err(last.unwrap_or_default())
}

/// Blocking: on the loopback the handshake is over when the call returns, before anybody accepts.
fn connect_from(source: SocketAddr, target: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    // It bounds connect(2) as well, see socket(7).
    socket.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    socket.bind(&source.into())?;
    socket.connect(&target.into())?;
    Ok(socket)
}
