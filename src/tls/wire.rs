//! One connection through TLS: what has been said on one side, and what goes over the wire on the other.

use std::cell::{RefCell, RefMut};
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{Error, ServerConfig};

use crate::agreed::Agreed;
use crate::slab::Key;

/// A stream, and what is known of its encryption. It is looked at by one thread, in one call at a time.
pub(crate) struct Wire<S> {
    pub(super) stream: S,
    state: RefCell<State>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Wire<S> {
        Wire { stream, state: RefCell::default() }
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    pub(super) fn into_stream(self) -> S {
        self.stream
    }
}

/// What is kept of a connection.
#[derive(Default)]
pub(super) struct State {
    /// Made when something comes: who says nothing costs nothing.
    tls: Option<Box<UnbufferedServerConnection>>,
    pub(super) key: Option<Key>,
    /// Records that are not whole.
    pub(super) incoming: Vec<u8>,
    /// What was said, and nobody has had room for.
    plain: Backlog,
    /// What the socket has not taken.
    pub(super) outgoing: Backlog,
    /// How much of what is to be sent next is in `outgoing` already, or has left it since: whoever sends it has been told that
    /// the socket is full, and comes again with it.
    pub(super) claimed: usize,
    /// The handshake is over, and all of it has left.
    pub(super) is_open: bool,
    /// The peer has said that this was all.
    pub(super) is_over: bool,
    /// We have.
    pub(super) has_finished: bool,
    /// We will have, as soon as the handshake is over.
    pub(super) finishes: bool,
    /// The wire is to be shut as soon as everything has left.
    pub(super) shuts: bool,
    /// Why nothing goes on; an errno.
    pub(super) failed: Option<i32>,
    /// Its registration says that it waits for room to write; that lasts.
    pub(super) is_armed: bool,
    /// It stands in the line of those whose handshake goes on.
    pub(super) is_due: bool,
}

/// Bytes that wait, and how many of them have gone.
#[derive(Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    gone: usize,
}

impl Backlog {
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// So many have gone; memory goes with the last.
    pub(super) fn advance(&mut self, count: usize) {
        self.gone += count;
        if self.gone == self.bytes.len() {
            *self = Backlog::default();
        }
    }

    /// Moves as much as there is room for.
    fn move_to(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.waiting().len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.waiting()[..count]);
        if count > 0 {
            self.advance(count);
        }
        count
    }
}

/// What TLS adds to bytes that are sent: a record holds 16 KiB, and 22 bytes that are not the sender's, or 29 in TLS 1.2.
const fn sealed_max(bytes: usize) -> usize {
    bytes + (bytes / (16 << 10) + 2) * 64
}

impl State {
    pub(super) fn is_handshaking(&self) -> bool {
        !self.is_open && self.failed.is_none()
    }

    /// Whether anything has come.
    pub(super) fn has_begun(&self) -> bool {
        self.tls.is_some()
    }

    /// What was said and is known already.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        self.plain.move_to(buffer)
    }

    pub(super) fn has_plain(&self) -> bool {
        !self.plain.is_empty()
    }

    /// Looks at what has come, all records that are whole; what they say goes to `buffer` as far as it has room. What is not
    /// whole is kept, and so is what is to be answered.
    pub(super) fn open(
        &mut self,
        config: impl FnOnce() -> Arc<ServerConfig>,
        records: &mut [u8],
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        if self.tls.is_none() {
            self.tls = Some(Box::new(UnbufferedServerConnection::new(config())?));
        }
        let State { tls: Some(tls), plain, outgoing, is_over, .. } = self else { return Ok(0) };
        let (mut filled, mut at) = (0, 0);
        let opened = loop {
            let UnbufferedStatus { mut discard, state } = tls.process_tls_records(&mut records[at..]);
            let mut more = true;
            match state {
                Err(error) => break Err(error),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let room = (buffer.len() - filled).min(record.payload.len());
                        let room = if plain.is_empty() { room } else { 0 };
                        buffer[filled..filled + room].copy_from_slice(&record.payload[..room]);
                        filled += room;
                        plain.push(&record.payload[room..]);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => write(outgoing, |room| data.encode(room))?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => (*is_over, more) = (true, false),
                // Blocked, open or closed: in any case there is nothing whole left. Early data is never asked for.
                Ok(_) => more = false,
            }
            at += discard;
            if !more {
                break Ok(filled);
            }
        };
        if let Err(error) = opened {
            match is_http(records) {
                true => self.outgoing.push(USE_HTTPS),
                false => self.write_alert(),
            }
            return Err(error);
        }
        self.incoming = records[at..].to_vec();
        Ok(filled)
    }

    /// What rustls wants to say to a peer with which it is done. It must not be asked for more: it would look at what has come
    /// once more, and panic at what is wrong with it.
    fn write_alert(&mut self) {
        let State { tls: Some(tls), outgoing, .. } = self else { return };
        while tls.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = tls.process_tls_records(&mut []).state else { return };
            if write(outgoing, |room| data.encode(room)).is_err() {
                return;
            }
        }
    }

    /// Whether both sides have said all that a handshake takes; what we have said may still have to leave.
    pub(super) fn has_shaken_hands(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking())
    }

    pub(super) fn agreed(&self) -> Option<Agreed> {
        self.tls.as_deref().filter(|_| self.is_open).map(|tls| Agreed::new(tls))
    }

    /// Writes records with `bytes` behind what is in `sealed`; without any, the record that says that this was all.
    pub(super) fn seal(&mut self, bytes: Option<&[u8]>, sealed: &mut Vec<u8>) -> Result<(), Error> {
        let State { tls: Some(tls), incoming, is_over, .. } = self else { return Err(Error::HandshakeNotComplete) };
        loop {
            let UnbufferedStatus { discard, state } = tls.process_tls_records(incoming);
            match state? {
                ConnectionState::EncodeTlsData(mut data) => {
                    append(sealed, 0, |room| data.encode(room).map_err(|error| missing_room(&error)))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => *is_over = true,
                ConnectionState::WriteTraffic(mut traffic) => {
                    let most = bytes.map_or(64, |bytes| sealed_max(bytes.len()));
                    return append(sealed, most, |room| {
                        let written = match bytes {
                            Some(bytes) => traffic.encrypt(bytes, room),
                            None => traffic.queue_close_notify(room),
                        };
                        written.map_err(|error| match error {
                            EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
                                Some(required_size)
                            }
                            EncryptError::EncryptExhausted => None,
                        })
                    });
                }
                _ => return Err(Error::HandshakeNotComplete),
            }
            incoming.drain(..discard);
        }
    }
}

/// Who takes the address for one of plain HTTP reads no alerts.
const USE_HTTPS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 46\r\n\r\nTLS is spoken here: the URL begins with https\n";

/// Whether somebody begins with a method of HTTP, as no record of TLS does.
fn is_http(records: &[u8]) -> bool {
    let methods: [&[u8]; 5] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS "];
    methods.iter().any(|method| records.starts_with(method))
}

fn missing_room(error: &EncodeError) -> Option<usize> {
    match error {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Some(*required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

/// Lets `fill` write behind what is there, with `most` bytes of room, or with as many as it then asks for.
fn append(
    bytes: &mut Vec<u8>,
    most: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), Error> {
    let (start, mut room) = (bytes.len(), most);
    loop {
        bytes.resize(start + room, 0);
        match fill(&mut bytes[start..]) {
            Ok(count) => {
                bytes.truncate(start + count);
                return Ok(());
            }
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => {
                bytes.truncate(start);
                return Err(Error::EncryptError);
            }
        }
    }
}

fn write(backlog: &mut Backlog, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) -> Result<(), Error> {
    append(&mut backlog.bytes, 0, |room| encode(room).map_err(|error| missing_room(&error)))
}
