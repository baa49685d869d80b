//! The neutral client: one thread, closed loop. A connection sends its next message when its last one has come back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::connection::{BUFFER, Connection, message};
use crate::failure::{Result, Tried};
use crate::routes::Routes;
use crate::server::CUE;

/// Below the backlog of every server, the smallest of which is 128.
const OPENING: usize = 64;
const EVENTS: usize = 256;
/// Nothing for so long means that something is lost.
const SILENCE: Duration = Duration::from_secs(5);

pub(crate) struct Client {
    poll: Poll,
    events: Events,
    target: SocketAddr,
    message: Vec<u8>,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    /// Messages that have not come back.
    awaited: usize,
}

/// What a stretch of echoing came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) echoes: u64,
    pub(crate) elapsed: Duration,
}

impl Client {
    pub(crate) fn new(target: SocketAddr, message_bytes: usize) -> Result<Client> {
        let poll = Poll::new().tried(|| "making the client's epoll instance".to_owned())?;
        Ok(Client {
            poll,
            events: Events::with_capacity(EVENTS),
            target,
            message: message(message_bytes),
            buffer: vec![0; BUFFER],
            connections: Vec::new(),
            awaited: 0,
        })
    }

    /// Opens connections until there are `count`, with one echo on each.
    pub(crate) fn open(&mut self, count: usize, routes: &mut Routes) -> Result<()> {
        self.connections.reserve_exact(count.saturating_sub(self.connections.len()));
        while self.connections.len() < count {
            let batch = OPENING.min(count - self.connections.len());
            for _ in 0..batch {
                let token = self.connections.len();
                let connection = Connection::open(self.target, routes, &self.poll, token)?;
                self.connections.push(connection);
                self.send(token)?;
            }
            self.drain()?;
        }
        Ok(())
    }

    /// Echoes on all connections for so long, and until all is back.
    pub(crate) fn echo_for(&mut self, time: Duration) -> Result<Stretch> {
        let begun = Instant::now();
        let mut echoes = self.send_all()?;
        while begun.elapsed() < time {
            echoes += self.turn(true)?;
        }
        self.drain()?;
        Ok(Stretch { echoes, elapsed: begun.elapsed() })
    }

    /// Echoes so many times on all connections, each time waiting for all: the same work, however long it takes.
    pub(crate) fn echo_times(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.send_all()?;
            self.drain()?;
        }
        Ok(())
    }

    /// Gives the cue and waits for the message that everybody gets for it.
    pub(crate) fn cue(&mut self) -> Result<()> {
        self.connections[0].send(&[CUE])?;
        self.hear()
    }

    /// Waits for a message to everybody.
    pub(crate) fn hear(&mut self) -> Result<()> {
        self.awaited += self.connections.len();
        self.drain()
    }

    /// Opens, echoes once, closes with a reset, and opens the next; keeps `open` of them under way. Counts those that
    /// were begun in this time, and returns when all are through.
    pub(crate) fn connect_for(&mut self, time: Duration, open: usize, routes: &mut Routes) -> Result<Stretch> {
        let begun = Instant::now();
        self.open_anew(open, routes)?;
        let mut echoes = open as u64;
        let mut ready = Vec::with_capacity(EVENTS);
        while self.awaited > 0 {
            self.wait()?;
            ready.clear();
            ready.extend(self.events.iter().map(|event| event.token().0));
            for &token in &ready {
                if self.receive(token)? == 0 || begun.elapsed() >= time {
                    continue;
                }
                self.connections[token] = Connection::open(self.target, routes, &self.poll, token)?;
                self.send(token)?;
                echoes += 1;
            }
        }
        let elapsed = begun.elapsed();
        self.connections.clear();
        Ok(Stretch { echoes, elapsed })
    }

    fn open_anew(&mut self, count: usize, routes: &mut Routes) -> Result<()> {
        self.connections.clear();
        for token in 0..count {
            self.connections.push(Connection::open(self.target, routes, &self.poll, token)?);
            self.send(token)?;
        }
        Ok(())
    }

    /// How many messages it sent, which is how many will be echoed.
    fn send_all(&mut self) -> Result<u64> {
        for token in 0..self.connections.len() {
            self.send(token)?;
        }
        Ok(self.connections.len() as u64)
    }

    /// Waits for all that was sent, without sending more.
    fn drain(&mut self) -> Result<()> {
        while self.awaited > 0 {
            self.turn(false)?;
        }
        match self.connections.iter().position(|connection| !connection.is_at_rest()) {
            Some(token) => Err(format!("connection {token} has received part of a message that nobody sent")),
            None => Ok(()),
        }
    }

    /// Takes the echoes that are there, answers each with a new message if told so, and says how many those were.
    fn turn(&mut self, again: bool) -> Result<u64> {
        self.wait()?;
        let mut sent = 0;
        // The events are out of the way while connections change.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(token) = event.token();
            if self.receive(token)? > 0 && again {
                self.send(token)?;
                sent += 1;
            }
        }
        self.events = events;
        Ok(sent)
    }

    fn wait(&mut self) -> Result<()> {
        self.poll.poll(&mut self.events, Some(SILENCE)).tried(|| "waiting for echoes".to_owned())?;
        if self.events.is_empty() && self.awaited > 0 {
            return Err(format!("{} echoes did not come within {SILENCE:?}", self.awaited));
        }
        Ok(())
    }

    fn send(&mut self, token: usize) -> Result<()> {
        self.awaited += 1;
        self.connections[token].send(&self.message).map_err(|error| format!("connection {token}: {error}"))
    }

    fn receive(&mut self, token: usize) -> Result<usize> {
        let connection = &mut self.connections[token];
        let completed = connection
            .receive(&mut self.buffer, &self.message)
            .map_err(|error| format!("connection {token}: {error}"))?;
        let Some(awaited) = self.awaited.checked_sub(completed) else {
            return Err(format!("connection {token} received a message that nobody sent"));
        };
        self.awaited = awaited;
        Ok(completed)
    }
}
