//! The client's open loop: messages leave when they are due, whatever has come back, and latency counts from that moment.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::connection::{BUFFER, Connection, message};
use crate::failure::{Result, Tried};
use crate::routes::Routes;

const EVENTS: usize = 256;
/// How long the last echoes may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// First messages of which nothing is recorded: the server's caches are cold, and connections are being accepted.
const WARM_UP: Duration = Duration::from_millis(50);

/// Messages a second, over so many connections in turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate: u32,
    pub(crate) connections: usize,
    pub(crate) message_bytes: usize,
    pub(crate) time: Duration,
}

/// Nanoseconds, sorted.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// From when a message was due to when all of it was back.
    pub(crate) from_due: Vec<u64>,
    /// From when it was due to when it was sent: the client's own part.
    pub(crate) send_lag: Vec<u64>,
}

/// The smallest value that at least `share` of the sorted ones do not exceed.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// It spins: a wait is rounded up to whole milliseconds, so the client needs a core that the server does not.
pub(crate) fn run(target: SocketAddr, load: Load, routes: &mut Routes) -> Result<Latencies> {
    let mut client = OpenLoop::open(target, load, routes)?;
    let count = (load.time + WARM_UP).as_secs_f64() * f64::from(load.rate);
    let period = Duration::from_secs(1) / load.rate;
    let begun = Instant::now();
    for number in 0..count as u32 {
        let due = begun + period * number;
        while Instant::now() < due {
            client.take()?;
        }
        client.send(number as usize, due)?;
    }
    let sent = Instant::now();
    while client.is_waiting() {
        client.take()?;
        if sent.elapsed() > PATIENCE {
            return Err(format!("some of {} echoes did not come within {PATIENCE:?}", count as u32));
        }
    }
    Ok(client.latencies(begun + WARM_UP))
}

struct OpenLoop {
    poll: Poll,
    events: Events,
    message: Vec<u8>,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    /// For each connection, when the messages that have not come back were due.
    pending: Vec<VecDeque<Instant>>,
    /// When each message was due and sent, in order of sending.
    sent: Vec<(Instant, Instant)>,
    /// When each message was due and back, in order of coming back.
    back: Vec<(Instant, Instant)>,
}

impl OpenLoop {
    fn open(target: SocketAddr, load: Load, routes: &mut Routes) -> Result<OpenLoop> {
        let poll = Poll::new().tried(|| "making the client's epoll instance".to_owned())?;
        let connections: Result<Vec<Connection>> =
            (0..load.connections).map(|token| Connection::open(target, routes, &poll, token)).collect();
        Ok(OpenLoop {
            poll,
            events: Events::with_capacity(EVENTS),
            message: message(load.message_bytes),
            buffer: vec![0; BUFFER],
            connections: connections?,
            pending: vec![VecDeque::with_capacity(8); load.connections],
            sent: Vec::new(),
            back: Vec::new(),
        })
    }

    fn send(&mut self, number: usize, due: Instant) -> Result<()> {
        let token = number % self.connections.len();
        self.connections[token].send(&self.message).map_err(|error| format!("connection {token}: {error}"))?;
        self.pending[token].push_back(due);
        self.sent.push((due, Instant::now()));
        Ok(())
    }

    fn take(&mut self) -> Result<()> {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).tried(|| "looking for echoes".to_owned())?;
        for event in &self.events {
            let token = event.token().0;
            let completed = self.connections[token]
                .receive(&mut self.buffer, &self.message)
                .map_err(|error| format!("connection {token}: {error}"))?;
            let now = Instant::now();
            for _ in 0..completed {
                let due = self.pending[token].pop_front();
                let due = due.ok_or_else(|| format!("connection {token} received a message that nobody sent"))?;
                self.back.push((due, now));
            }
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        self.back.len() < self.sent.len()
    }

    /// Of the messages that were due from then on.
    fn latencies(&self, from: Instant) -> Latencies {
        Latencies { from_due: spans(&self.back, from), send_lag: spans(&self.sent, from) }
    }
}

fn spans(moments: &[(Instant, Instant)], from: Instant) -> Vec<u64> {
    let mut spans: Vec<u64> =
        moments.iter().filter(|(due, _)| *due >= from).map(|(due, then)| (*then - *due).as_nanos() as u64).collect();
    spans.sort_unstable();
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u64> = (1..=1000).collect();
        assert_eq!(percentile(&values, 0.99), 990);
        assert_eq!(percentile(&values, 0.999), 999);
        assert_eq!(percentile(&values, 1.0), 1000);
        assert_eq!(percentile(&[7], 0.5), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
