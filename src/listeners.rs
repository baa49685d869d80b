//! Listening sockets that somebody else has opened: systemd, or the server that runs already.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process;

use socket2::{Socket, Type};

use crate::claim::Claim;
use crate::error::Error;
use crate::loan::{CLAIM, Door, END, LISTENER, Loan};
use crate::socket::{self, Listen};
use crate::sys::{self, Note, receive_note, send_note};

/// Listening sockets that are there before the server is; given to [`Builder::listeners`](crate::Builder::listeners).
///
/// As long as anyone has them, nobody who connects is refused, and those who wait in their queues are kept. So a server can
/// be replaced by its next version while clients come in:
///
/// - systemd opens the socket and keeps it ([`inherited`](Listeners::inherited)): who comes between the end of one server and
///   the start of the next waits;
/// - the server that runs hands its sockets over ([`Server::hand_over`](crate::Server::hand_over) there,
///   [`take_over`](Listeners::take_over) here), and goes on with the connections that it has until they end: nobody waits.
///
/// The `restart` example does both. Dropped, they are closed.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Socket>,
    address: SocketAddr,
    claim: Option<Claim>,
    /// The cores by which the kernel deals connections out to them; empty if it does so by the hash.
    steered: Vec<usize>,
    /// Who waits to hear that a server has started with them.
    predecessor: Option<UnixStream>,
}

/// The first descriptor that systemd passes on: SD_LISTEN_FDS_START, see sd_listen_fds(3).
const FIRST_INHERITED: RawFd = 3;

/// How a hand-over begins, with the version of what follows: listeners in the order of their places, perhaps a claim, the
/// cores to steer by, the end.
const HELLO: u32 = u32::from_be_bytes(*b"esk1");
const CORE: u32 = 4;
/// The answer: a server has started with what it was given.
const STARTED: u32 = 5;

impl Listeners {
    /// Takes the listening sockets that this process was started with, as systemd's socket activation does it (LISTEN_FDS
    /// and LISTEN_PID, see sd_listen_fds(3) and systemd.socket(5)). `None` when there are none for this process. Call it
    /// once, before anything else is started that may want them; a socket is not given away twice.
    ///
    /// The environment is left as it is: a child of this process is not meant by LISTEN_PID.
    ///
    /// # Errors
    /// [`Error::Inherited`] when what was passed on are no listening TCP sockets, or not all for one address: then take
    /// them by their names.
    pub fn inherited() -> Result<Option<Listeners>, Error> {
        Listeners::passed_on(|_| true)
    }

    /// The same for those of one name (LISTEN_FDNAMES; `FileDescriptorName=` in the socket's unit, by default the name of
    /// the unit, `.socket` included): for a process with a server for each of several addresses. The others stay for the
    /// next call.
    ///
    /// # Errors
    /// Those of [`inherited`](Listeners::inherited).
    pub fn inherited_as(name: &str) -> Result<Option<Listeners>, Error> {
        Listeners::passed_on(|own| own == Some(name))
    }

    fn passed_on(is_wanted: impl Fn(Option<&str>) -> bool) -> Result<Option<Listeners>, Error> {
        if env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok()) != Some(process::id()) {
            return Ok(None);
        }
        let count = env::var("LISTEN_FDS").unwrap_or_default();
        let refused = |why| Error::Inherited { why };
        let count: u16 = count.parse().map_err(|_| refused(format!("LISTEN_FDS is `{count}`, which is no number")))?;
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let wanted = (0..count).filter(|&index| is_wanted(names.get(usize::from(index)).copied()));
        let taken = wanted.map(|index| {
            let fd = FIRST_INHERITED + RawFd::from(index);
            sys::take_inherited(fd).map_err(|source| refused(format!("descriptor {fd}, of LISTEN_FDS: {source}")))
        });
        let taken = taken.collect::<Result<Vec<OwnedFd>, Error>>()?;
        if taken.is_empty() { Ok(None) } else { Listeners::of(taken).map(Some) }
    }

    /// Sockets that listen already, on one address, such as a [`std::net::TcpListener`] or what another supervisor has
    /// passed on. Whoever opened them answers for who else may listen there.
    ///
    /// # Errors
    /// [`Error::Inherited`] for any other descriptor, several addresses, or none at all.
    pub fn of(sockets: impl IntoIterator<Item = impl Into<OwnedFd>>) -> Result<Listeners, Error> {
        let sockets: Vec<Socket> = sockets.into_iter().map(|socket| Socket::from(socket.into())).collect();
        let refused = |why| Error::Inherited { why };
        let mut address = None;
        for socket in &sockets {
            let own =
                listens_on(socket).map_err(|source| refused(format!("descriptor {}: {source}", socket.as_raw_fd())))?;
            if *address.get_or_insert(own) != own {
                let first = address.map_or_else(String::new, |first| first.to_string());
                return Err(refused(format!(
                    "they listen on {first} and on {own}; a server has one address: take them by name"
                )));
            }
        }
        let address = address.ok_or_else(|| refused("there are none".into()))?;
        Ok(Listeners { sockets, address, claim: None, steered: Vec::new(), predecessor: None })
    }

    /// Takes over the listening sockets of the server that runs, whose program calls
    /// [`Server::hand_over`](crate::Server::hand_over) with the other end of this stream.
    ///
    /// That program waits until a server has started with them, and goes on as if nothing had been asked of it when they are
    /// dropped before. Waits as long as the stream's timeouts allow. Whoever is at the other end is trusted: keep the socket
    /// in a directory that is your own.
    ///
    /// # Errors
    /// [`Error::TakeOver`], when the other one gives up, or speaks another language.
    pub fn take_over(predecessor: UnixStream) -> Result<Listeners, Error> {
        let refused = |source| Error::TakeOver { source };
        let (loan, steered) = receive(&predecessor).map_err(refused)?;
        let listeners = Listeners::of(loan.listeners.into_values())?;
        let claim = loan.claim.map(Claim::handed_over);
        Ok(Listeners { claim, steered, predecessor: Some(predecessor), ..listeners })
    }

    /// The address that they listen on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Makes them fit for `options`, and for a server whose connections are to be `steered`.
    pub(crate) fn adapt(&self, options: &Listen, steered: &[usize]) -> Result<(), Error> {
        if steered != self.steered {
            let why = "listeners that were handed over go on dealing connections out as the server did that opened them \
                       (the same `steering`, `shards` and `cores`), and others by the hash";
            return Err(Error::Config { knob: "steering", why: why.into() });
        }
        let listen_error = |source| Error::Listen { address: self.address, source };
        self.sockets.iter().try_for_each(|listener| socket::adapt(listener, options)).map_err(listen_error)
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Which of them are a shard's: each listener has a shard, and each shard a listener, so the fewer are shared.
    fn places(&self, shard: usize, shards: usize) -> impl Iterator<Item = usize> {
        let count = self.sockets.len();
        (0..count.max(shards)).filter(move |turn| turn % shards == shard).map(move |turn| turn % count)
    }

    /// What a shard listens on, in copies of its own.
    pub(crate) fn door(&self, shard: usize, shards: usize) -> io::Result<Door> {
        let copy = |place: usize| Ok((place as u32, self.sockets[place].try_clone()?));
        let listeners = self.places(shard, shards).map(copy).collect::<io::Result<Vec<(u32, Socket)>>>()?;
        let claim = self.claim.as_ref().filter(|_| shard == 0);
        let claim = claim.map(|claim| claim.as_fd().try_clone_to_owned()).transpose()?;
        Ok(Door { listeners, claim: claim.map(Claim::handed_over) })
    }

    /// The same as numbers, for a thread that takes its copies along into a descriptor table of its own.
    pub(crate) fn numbers(&self, shard: usize, shards: usize) -> (Vec<(u32, RawFd)>, Option<RawFd>) {
        let listeners = self.places(shard, shards).map(|place| (place as u32, self.sockets[place].as_raw_fd()));
        let claim = self.claim.as_ref().filter(|_| shard == 0);
        (listeners.collect(), claim.map(|claim| claim.as_fd().as_raw_fd()))
    }

    /// Tells whoever handed them over that a server has started with them.
    pub(crate) fn confirm(&self) {
        if let Some(predecessor) = &self.predecessor {
            // Who has gone meanwhile does not mind.
            let _ = send_note(predecessor.as_fd(), [STARTED, 0], None);
        }
    }
}

/// The address that `socket` listens on, if it is a TCP socket that does so.
fn listens_on(socket: &Socket) -> io::Result<SocketAddr> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let address = socket.local_addr()?.as_socket().ok_or_else(|| wrong("it is no IP socket"))?;
    match (socket.r#type()? == Type::STREAM, socket.is_listener()?) {
        (true, true) => Ok(address),
        (false, _) => Err(wrong("it is no TCP socket")),
        (true, false) => Err(wrong("it does not listen")),
    }
}

/// Hands listeners over, and waits until a server has started with them.
pub(crate) fn hand_over(successor: &UnixStream, loan: &Loan, steered: &[usize]) -> io::Result<()> {
    let send = |note: Note, fd: Option<BorrowedFd<'_>>| send_note(successor.as_fd(), note, fd);
    send([HELLO, loan.listeners.len() as u32], None)?;
    for (index, listener) in &loan.listeners {
        send([LISTENER, *index], Some(listener.as_fd()))?;
    }
    if let Some(claim) = &loan.claim {
        send([CLAIM, 0], Some(claim.as_fd()))?;
    }
    steered.iter().try_for_each(|&core| send([CORE, core as u32], None))?;
    send([END, 0], None)?;
    match receive_note(successor.as_fd())? {
        ([STARTED, _], _) => Ok(()),
        _ => Err(foreign()),
    }
}

fn receive(predecessor: &UnixStream) -> io::Result<(Loan, Vec<usize>)> {
    let ([HELLO, count], _) = receive_note(predecessor.as_fd())? else { return Err(foreign()) };
    let (mut loan, mut steered) = (Loan::default(), Vec::new());
    loop {
        match receive_note(predecessor.as_fd())? {
            ([LISTENER, index], Some(listener)) => drop(loan.listeners.insert(index, listener)),
            ([CLAIM, _], Some(claim)) => loan.claim = Some(claim),
            ([CORE, core], _) => steered.push(core as usize),
            ([END, _], _) if loan.listeners.len() == count as usize => return Ok((loan, steered)),
            // A descriptor for which this process has no room does not arrive.
            ([LISTENER | CLAIM, _], None) => return Err(io::Error::from_raw_os_error(libc::EMFILE)),
            _ => return Err(foreign()),
        }
    }
}

fn foreign() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the other end does not speak the language of a hand-over, or another version",
    )
}
