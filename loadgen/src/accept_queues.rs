//! The queues of connections that wait to be accepted, of listeners on this machine: how full they are, from the kernel.
//!
//! On loopback a connect succeeds whether or not the server gets round to accepting, until the queue is full; from then
//! on SYNs are dropped and sent again after 1 s, 3 s, 7 s. So who opens very many looks at the queue before it goes on.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::machine::is_own_address;

/// What the listeners at a run's targets have, as it was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queues {
    /// How many listeners there are: a server with SO_REUSEPORT has several at one address.
    pub(crate) listeners: u64,
    /// Connections that the smallest of their queues holds: what listen(2) was given, at most `net.core.somaxconn`.
    pub(crate) backlog: u64,
    /// How many more the fullest queue has room for.
    pub(crate) room: u64,
}

impl Queues {
    /// How many connects one of `workers` may begin before it looks again, so that all together leave half of each queue
    /// free. A hash deals them out over the listeners: one that gets eight times its fair share is not to be expected.
    pub(crate) fn credit(&self, workers: u64) -> u64 {
        let room = self.room.saturating_sub(self.backlog / 2);
        let credit = room * (self.listeners / 8).max(1) / workers.max(1);
        credit.max(u64::from(room > 0))
    }
}

/// Asks the kernel for the listeners at some addresses: sock_diag(7), which needs no privilege. Looking costs some 60 us.
pub(crate) struct AcceptQueues {
    socket: Socket,
    targets: Vec<SocketAddr>,
    buffer: Vec<u8>,
}

impl AcceptQueues {
    /// The queues of `targets`; `None` where they cannot be seen: on another machine, in another network namespace, behind
    /// a filter, or where the kernel does not answer.
    pub(crate) fn of(targets: &[SocketAddr]) -> Option<AcceptQueues> {
        // A listener here, on all addresses, has nothing to do with the same port elsewhere.
        if !targets.iter().all(|target| is_own_address(target.ip())) {
            return None;
        }
        let socket =
            Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG))).ok()?;
        // The answer is there when the question has been sent; were it not, the run must not stand still for it.
        socket.set_read_timeout(Some(ANSWER_TIMEOUT)).ok()?;
        let mut queues = AcceptQueues { socket, targets: targets.to_vec(), buffer: vec![0; ANSWER_BYTES] };
        queues.look().is_some().then_some(queues)
    }

    /// How full they are now; `None` when nobody listens at one of the targets any more.
    pub(crate) fn look(&mut self) -> Option<Queues> {
        let mut all: Option<Queues> = None;
        for target in self.targets.clone() {
            let mut found = self.ask(AF_INET, target).ok()?;
            if found.is_none() {
                found = self.ask(AF_INET6, target).ok()?;
            }
            let found = found?;
            all = Some(all.map_or(found, |all| Queues {
                listeners: all.listeners + found.listeners,
                backlog: all.backlog.min(found.backlog),
                room: all.room.min(found.room),
            }));
        }
        all
    }

    /// Asks for the listeners of one family at the port of `target`.
    fn ask(&mut self, family: i32, target: SocketAddr) -> io::Result<Option<Queues>> {
        self.socket.send(&request(family as u8, target.port()))?;
        let mut found = None;
        loop {
            let len = (&self.socket).read(&mut self.buffer)?;
            if !gather(&self.buffer[..len], target.ip(), &mut found)? {
                return Ok(found);
            }
        }
    }
}

/// A dump of all listening TCP sockets of `family` at `port`: `nlmsghdr` and `inet_diag_req_v2` of sock_diag(7).
fn request(family: u8, port: u16) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    request[0..4].copy_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request[16] = family;
    request[17] = IPPROTO_TCP;
    request[20..24].copy_from_slice(&(1u32 << TCP_LISTEN).to_ne_bytes());
    request[24..26].copy_from_slice(&port.to_be_bytes());
    request
}

/// Adds what `answer` says of listeners that take connections to `ip`. True: more is to come.
fn gather(answer: &[u8], ip: IpAddr, found: &mut Option<Queues>) -> io::Result<bool> {
    let mut rest = answer;
    while let Some(head) = rest.first_chunk::<HEAD_BYTES>() {
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let message = rest.get(HEAD_BYTES..len).ok_or(io::ErrorKind::InvalidData)?;
        match u16::from_ne_bytes([head[4], head[5]]) {
            NLMSG_DONE => return Ok(false),
            SOCK_DIAG_BY_FAMILY => add(message, ip, found).ok_or(io::ErrorKind::InvalidData)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        // Messages begin at multiples of four.
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// Adds one `inet_diag_msg`; `None` if it is none.
fn add(message: &[u8], ip: IpAddr, found: &mut Option<Queues>) -> Option<()> {
    let word = |at: usize| message.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let (waiting, backlog) = (u64::from(word(RQUEUE_AT)?), u64::from(word(WQUEUE_AT)?));
    let address = message.get(SOURCE_AT..SOURCE_AT + 16)?;
    let is_here = match ip {
        IpAddr::V4(ip) if message.first() == Some(&(AF_INET as u8)) => address[..4] == ip.octets(),
        IpAddr::V4(ip) => address == ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => address == ip.octets(),
    };
    if is_here || address == [0; 16] {
        let room = backlog.saturating_sub(waiting);
        let before = found.unwrap_or(Queues { listeners: 0, backlog, room });
        *found = Some(Queues {
            listeners: before.listeners + 1,
            backlog: before.backlog.min(backlog),
            room: before.room.min(room),
        });
    }
    Some(())
}

/// Numbers of linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u32 = 10;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_DONE: u16 = 3;
const HEAD_BYTES: usize = 16;
const REQUEST_BYTES: usize = 72;

/// Where an `inet_diag_msg` has the listener's address, the length of its queue, and how long that may become.
const SOURCE_AT: usize = 8;
const RQUEUE_AT: usize = 56;
const WQUEUE_AT: usize = 60;

/// Seventy listeners a message; the rest comes with the next. Fifty workers have one such buffer each.
const ANSWER_BYTES: usize = 8 * 1024;

const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{Write, stderr};
    use std::net::{TcpListener, TcpStream};

    /// Written, not printed: what passing tests print is not shown.
    pub(crate) fn skip(why: &str) {
        stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
    }

    #[test]
    fn what_waits_to_be_accepted_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let Some(mut queues) = AcceptQueues::of(&[address]) else {
            return skip("how full a queue is: this kernel does not tell");
        };
        let empty = queues.look().unwrap();
        assert_eq!((empty.listeners, empty.room), (1, empty.backlog));
        let _waiting = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        assert_eq!(queues.look().unwrap().room, empty.backlog - 2);
        listener.accept().unwrap();
        assert_eq!(queues.look().unwrap().room, empty.backlog - 1);
        drop(listener);
        assert_eq!(queues.look(), None);
    }

    #[test]
    fn a_listener_on_all_addresses_counts_and_one_elsewhere_does_not() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Some(mut queues) = AcceptQueues::of(&[SocketAddr::from(([127, 0, 0, 1], port))]) else {
            return skip("whose a queue is: this kernel does not tell");
        };
        assert_eq!(queues.look().unwrap().listeners, 1);
        assert!(AcceptQueues::of(&[SocketAddr::from(([192, 0, 2, 1], port))]).is_none());
        let elsewhere = TcpListener::bind("127.0.0.7:0").unwrap().local_addr().unwrap();
        assert!(AcceptQueues::of(&[SocketAddr::from(([127, 0, 0, 1], elsewhere.port()))]).is_none());
    }

    #[test]
    fn more_listeners_than_one_answer_holds_are_all_counted() {
        let options = esockets::socket::Listen {
            queue_size: 50,
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            shared: true,
            only_v6: false,
            tuning: esockets::Tuning::default(),
        };
        let first = esockets::socket::listen(SocketAddr::from(([127, 0, 0, 1], 0)), &options).unwrap();
        let address = esockets::socket::local_addr(&first).unwrap();
        let others: Vec<Socket> = (0..299).map(|_| esockets::socket::listen(address, &options).unwrap()).collect();
        let Some(mut queues) = AcceptQueues::of(&[address]) else { return };
        assert_eq!(queues.look(), Some(Queues { listeners: 300, backlog: 50, room: 50 }));
        drop(others);
    }

    #[test]
    fn the_credit_leaves_half_of_each_queue_free() {
        let queues = |listeners, backlog, room| Queues { listeners, backlog, room };
        assert_eq!(queues(1, 128, 128).credit(1), 64);
        assert_eq!(queues(1, 128, 100).credit(4), 9);
        assert_eq!(queues(1, 128, 64).credit(1), 0, "wait until some were accepted");
        assert_eq!(queues(52, 4096, 4096).credit(51), 240);
        assert_eq!(queues(1, 5, 5).credit(8), 1, "it always goes on at last");
    }
}
