//! One worker's sockets, seen through their layers: what is said goes in and comes out, whatever it looks like on the wire.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use rustls::ClientConnection;
use socket2::Socket;

use crate::failure::Kind;
use crate::layers::{Layers, WebSocket};
use crate::protocol::frames::{Frames, push_head, push_masked};

/// Why a wire does not go on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// What the kernel says; EAGAIN that it would have to wait.
    Io(io::Error),
    /// What is wrong with what came.
    Kind(Kind),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

/// What a read has brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// None is the end.
    pub(crate) len: usize,
    /// The socket is drained, unless its end is behind that.
    pub(crate) is_drained: bool,
}

/// A message that is sent in pieces: how long it is, and where the piece stands in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) size: u32,
    pub(crate) at: u32,
}

/// What a worker keeps for its connections, by slot; of idle ones nothing but a TLS session.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    layers: Layers,
    sessions: HashMap<u32, Session>,
    frames: HashMap<u32, Frames>,
    /// A response to an upgrade that is not whole; and what came behind one that is.
    heads: HashMap<u32, Vec<u8>>,
    /// What is for the socket, and was too much for it.
    pending: HashMap<u32, Vec<u8>>,
    /// Pongs, which go between messages.
    owed: HashMap<u32, Vec<u8>>,
    /// How much of its request a connection that is being opened has sent.
    asked: HashMap<u32, usize>,
    raw: Vec<u8>,
    out: Vec<u8>,
    said: Vec<u8>,
}

/// One connection's TLS.
#[derive(Debug)]
struct Session {
    tls: Box<ClientConnection>,
    /// The last read of the socket brought less than there was room for.
    is_drained: bool,
}

/// As much is encrypted, or framed, before the socket has to take it.
const AHEAD_MAX: usize = 256 << 10;
/// As in HTTP: a head that is longer is none.
const HEAD_MAX: usize = 64 << 10;
/// Masks have to be unlike each other only where somebody between could be confused (RFC 6455, 10.3).
const MASK: [u8; 4] = [0x5a, 0xc3, 0x3c, 0xa5];

impl Wires {
    pub(crate) fn new(layers: Layers) -> Wires {
        Wires { layers, ..Wires::default() }
    }

    /// Whether what is said is what goes over the wire.
    #[inline]
    pub(crate) fn are_bare(&self) -> bool {
        self.layers.is_bare()
    }

    /// The connection in `slot` is over.
    pub(crate) fn forget(&mut self, slot: u32) {
        if self.are_bare() {
            return;
        }
        self.sessions.remove(&slot);
        self.frames.remove(&slot);
        self.heads.remove(&slot);
        self.pending.remove(&slot);
        self.owed.remove(&slot);
        self.asked.remove(&slot);
    }

    /// One step toward a connection that can be spoken on. True: it is one.
    ///
    /// # Errors
    /// Why it never will be.
    pub(crate) fn open(&mut self, slot: u32, destination: usize, socket: &Socket) -> Result<bool, Trouble> {
        if let Some(tls) = self.layers.tls.clone() {
            if let std::collections::hash_map::Entry::Vacant(entry) = self.sessions.entry(slot) {
                let session = ClientConnection::new(tls.config.clone(), tls.name(destination));
                let mut session = Box::new(session.map_err(|error| broken(&error))?);
                session.set_buffer_limit(None);
                entry.insert(Session { tls: session, is_drained: false });
            }
            let Some(Session { tls: session, .. }) = self.sessions.get_mut(&slot) else { return Ok(false) };
            while session.is_handshaking() {
                while session.wants_write() {
                    match session.write_tls(&mut Blunt(socket)) {
                        Ok(_) => {}
                        Err(error) if would_block(&error) => return Ok(false),
                        Err(error) => return Err(error.into()),
                    }
                }
                match session.read_tls(&mut Blunt(socket)) {
                    Ok(0) => return Err(Trouble::Kind(Kind::Closed)),
                    Ok(_) => {}
                    Err(error) if would_block(&error) => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
                if let Err(error) = session.process_new_packets() {
                    // The server is told, if it listens; what it was is what counts.
                    let _ = session.write_tls(&mut Blunt(socket));
                    // Behind the brace stand rustls's own structures.
                    let words = error.to_string();
                    let _ = tls.trouble.set(words.split(" {").next().unwrap_or_default().to_owned());
                    return Err(Trouble::Kind(Kind::Tls));
                }
            }
            self.push(slot, socket)?;
        }
        match self.layers.websocket.clone() {
            None => Ok(true),
            Some(websocket) => self.upgrade(slot, destination, socket, &websocket),
        }
    }

    fn upgrade(
        &mut self,
        slot: u32,
        destination: usize,
        socket: &Socket,
        websocket: &WebSocket,
    ) -> Result<bool, Trouble> {
        let request = websocket.request(destination);
        let asked = *self.asked.entry(slot).or_default();
        if asked < request.len() {
            match self.write(slot, socket, &request[asked..]) {
                Ok(count) => _ = self.asked.insert(slot, asked + count),
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.push(slot, socket)?;
        loop {
            let mut raw = std::mem::take(&mut self.raw);
            raw.resize(HEAD_MAX, 0);
            let read = self.read_raw(slot, socket, &mut raw);
            self.raw = raw;
            let len = match read {
                Ok(Heard { len: 0, .. }) => return Err(Trouble::Kind(Kind::Closed)),
                Ok(Heard { len, .. }) => len,
                Err(Trouble::Io(error)) if would_block(&error) => return Ok(false),
                Err(trouble) => return Err(trouble),
            };
            let head = self.heads.entry(slot).or_default();
            head.extend_from_slice(&self.raw[..len]);
            if let Some(size) = accepted(head, &websocket.accept).map_err(Trouble::Kind)? {
                head.drain(..size);
                if head.is_empty() {
                    self.heads.remove(&slot);
                }
                self.asked.remove(&slot);
                return Ok(true);
            }
            if head.len() > HEAD_MAX {
                return Err(Trouble::Kind(Kind::Malformed));
            }
        }
    }

    /// Sends a piece of messages of one size, the first at its place; says how much of it was taken, and whether the socket is
    /// full.
    pub(crate) fn send(&mut self, slot: u32, socket: &Socket, piece: &[u8], place: Place) -> io::Result<(usize, bool)> {
        if self.are_bare() {
            let taken = socket.send(piece)?;
            return Ok((taken, taken < piece.len()));
        }
        self.push(slot, socket)?;
        if self.is_pending(slot) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let piece = &piece[..piece.len().min(AHEAD_MAX)];
        let Some(websocket) = self.layers.websocket.clone() else {
            let taken = self.write(slot, socket, piece)?;
            self.push(slot, socket)?;
            return Ok((taken, self.is_pending(slot)));
        };
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let (mut rest, mut at) = (piece, place.at as usize);
        while !rest.is_empty() {
            if at == 0 {
                out.extend(self.owed.remove(&slot).into_iter().flatten());
                push_head(websocket.shape, place.size.into(), MASK, &mut out);
            }
            let (now, later) = rest.split_at(rest.len().min(place.size as usize - at));
            push_masked(now, at, MASK, &mut out);
            (rest, at) = (later, 0);
        }
        let written = self.write_all(slot, socket, &out);
        self.out = out;
        written?;
        Ok((piece.len(), self.is_pending(slot)))
    }

    /// Sends what has waited for the socket, and, between messages, the pongs that are owed; says whether the socket is full.
    pub(crate) fn flush(&mut self, slot: u32, socket: &Socket, is_between: bool) -> io::Result<bool> {
        if self.are_bare() {
            return Ok(false);
        }
        self.push(slot, socket)?;
        if is_between
            && !self.is_pending(slot)
            && let Some(pong) = self.owed.remove(&slot)
        {
            self.write_all(slot, socket, &pong)?;
        }
        Ok(self.is_pending(slot))
    }

    /// Reads what was said, into all of `scratch` if there is so much. EAGAIN: nothing was.
    pub(crate) fn read(&mut self, slot: u32, socket: &Socket, scratch: &mut [u8]) -> Result<Heard, Trouble> {
        if self.layers.websocket.is_none() {
            return self.read_raw(slot, socket, scratch);
        }
        loop {
            let mut raw = std::mem::take(&mut self.raw);
            raw.resize(raw.len().max(scratch.len()), 0);
            let read = match self.heads.remove(&slot) {
                // What came behind the response to the upgrade; it is less than a read brings.
                Some(behind) => {
                    let len = behind.len().min(scratch.len());
                    raw[..len].copy_from_slice(&behind[..len]);
                    if behind.len() > len {
                        self.heads.insert(slot, behind[len..].to_vec());
                    }
                    Ok(Heard { len, is_drained: false })
                }
                None => self.read_raw(slot, socket, &mut raw[..scratch.len()]),
            };
            self.raw = raw;
            let Heard { len, is_drained } = read?;
            if len == 0 {
                return Ok(Heard { len, is_drained });
            }
            let mut frames = self.frames.remove(&slot).unwrap_or_default();
            let mut owed = None;
            self.said.clear();
            let taken = frames.take(&self.raw[..len], &mut self.said, &mut owed);
            if !frames.is_idle() {
                self.frames.insert(slot, frames);
            }
            if let Some(pong) = owed {
                self.owed.insert(slot, pong);
            }
            taken.map_err(Trouble::Kind)?;
            scratch[..self.said.len()].copy_from_slice(&self.said);
            if !self.said.is_empty() {
                return Ok(Heard { len: self.said.len(), is_drained });
            }
            if is_drained {
                return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
            }
        }
    }

    /// Whether a pong is owed.
    pub(crate) fn owes(&self, slot: u32) -> bool {
        !self.owed.is_empty() && self.owed.contains_key(&slot)
    }

    fn is_pending(&self, slot: u32) -> bool {
        let session = self.sessions.get(&slot);
        session.is_some_and(|session| session.tls.wants_write()) || self.pending.contains_key(&slot)
    }

    /// Gives the socket what it has not taken.
    fn push(&mut self, slot: u32, socket: &Socket) -> io::Result<()> {
        if let Some(Session { tls: session, .. }) = self.sessions.get_mut(&slot) {
            while session.wants_write() {
                match session.write_tls(&mut Blunt(socket)) {
                    Ok(_) => {}
                    Err(error) if would_block(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        } else if let Some(mut bytes) = self.pending.remove(&slot) {
            let taken = match socket.send(&bytes) {
                Ok(taken) => taken,
                Err(error) if would_block(&error) => 0,
                Err(error) => return Err(error),
            };
            if taken < bytes.len() {
                bytes.drain(..taken);
                self.pending.insert(slot, bytes);
            }
        }
        Ok(())
    }

    /// Writes what the layer below takes at once: through TLS everything.
    fn write(&mut self, slot: u32, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        match self.sessions.get_mut(&slot) {
            Some(session) => session.tls.writer().write(bytes),
            None => socket.send(bytes),
        }
    }

    /// The same, and keeps what is left.
    fn write_all(&mut self, slot: u32, socket: &Socket, bytes: &[u8]) -> io::Result<()> {
        let taken = match self.write(slot, socket, bytes) {
            Ok(taken) => taken,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(error),
        };
        if taken < bytes.len() {
            self.pending.entry(slot).or_default().extend_from_slice(&bytes[taken..]);
        }
        self.push(slot, socket)
    }

    fn read_raw(&mut self, slot: u32, socket: &Socket, scratch: &mut [u8]) -> Result<Heard, Trouble> {
        let Some(session) = self.sessions.get_mut(&slot) else {
            let mut socket = socket;
            let len = socket.read(scratch)?;
            return Ok(Heard { len, is_drained: len < scratch.len() });
        };
        loop {
            match session.tls.reader().read(scratch) {
                Ok(len) => return Ok(Heard { len, is_drained: session.is_drained && len < scratch.len() }),
                // The end of the socket without that of TLS: told as what it is to whoever was to be answered.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Heard { len: 0, is_drained: true });
                }
                Err(error) if would_block(&error) => {}
                Err(error) => return Err(error.into()),
            }
            let mut noted = Noted { socket, is_drained: false };
            session.tls.read_tls(&mut noted)?;
            session.is_drained = noted.is_drained;
            if session.tls.process_new_packets().is_err() {
                return Err(Trouble::Kind(Kind::Tls));
            }
        }
    }
}

/// A socket as rustls wants it.
struct Blunt<'a>(&'a Socket);

impl Read for Blunt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// The same, which remembers whether it gave less than was asked for.
struct Noted<'a> {
    socket: &'a Socket,
    is_drained: bool,
}

impl Read for Noted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = self.socket;
        let len = socket.read(buffer)?;
        self.is_drained = len < buffer.len();
        Ok(len)
    }
}

impl Write for Blunt<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not write(2), which would raise SIGPIPE where it is not ignored.
        self.0.send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn broken(error: &rustls::Error) -> Trouble {
    Trouble::Io(io::Error::other(error.to_string()))
}

/// The size of a response that agrees to speak WebSocket; `None` while it is not whole.
fn accepted(bytes: &[u8], accept: &str) -> Result<Option<usize>, Kind> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let size = match response.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Kind::Malformed),
    };
    match response.code {
        Some(101) => {}
        Some(status) => return Err(Kind::Status(status)),
        None => return Err(Kind::Malformed),
    }
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map_or(&b""[..], |header| header.value.trim_ascii())
    };
    let upgrades = value("upgrade").eq_ignore_ascii_case(b"websocket");
    // No extension was offered, so none may be in force (4.1).
    let is_plain = value("sec-websocket-extensions").is_empty();
    if upgrades && is_plain && value("sec-websocket-accept") == accept.as_bytes() {
        Ok(Some(size))
    } else {
        Err(Kind::Handshake)
    }
}
