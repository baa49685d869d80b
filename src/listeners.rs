//! Listening sockets that somebody else has opened: systemd, or the server that runs already.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process;

use socket2::{SockRef, Socket, Type};

use crate::address::LocalAddr;
use crate::claim::Claim;
use crate::error::Error;
use crate::loan::{CLAIM, Door, END, LISTENER, Loan, Mark};
use crate::socket::{self, Listen};
use crate::sys::{self, Note, receive_note, send_note};
use crate::unix::SocketFiles;

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
/// They may be of TCP and Unix stream sockets, for one address or several. The `restart` example does both. Dropped, they are
/// closed.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Given>,
    /// Each with the index of the first socket at its address.
    claims: Vec<(usize, Claim)>,
    /// The cores by which the kernel deals connections out to them; empty if it does so by the hash.
    steered: Vec<usize>,
    /// Who waits to hear that a server has started with them.
    predecessor: Option<UnixStream>,
}

/// A socket that listens.
#[derive(Debug)]
struct Given {
    socket: Socket,
    address: LocalAddr,
    tag: u8,
    /// Whether it is a Unix socket whose file a server has made, and removes at its end.
    has_file: bool,
}

/// The first descriptor that systemd passes on: SD_LISTEN_FDS_START, see sd_listen_fds(3).
const FIRST_INHERITED: RawFd = 3;

/// How a hand-over begins, with the version of what follows: listeners in the order of their places, claims, the places of those
/// whose files are to be removed at the end, the cores to steer by, the end.
const HELLO: u32 = u32::from_be_bytes(*b"esk2");
const CORE: u32 = 4;
/// The answer: a server has started with what it was given.
const STARTED: u32 = 5;
const FILE: u32 = 6;

impl Listeners {
    /// Takes the listening sockets that this process was started with, as systemd's socket activation does it (LISTEN_FDS
    /// and LISTEN_PID, see sd_listen_fds(3) and systemd.socket(5)). `None` when there are none for this process. Call it
    /// before anything else is started that may want them; a socket is not given away twice, and those that
    /// [`inherited_as`](Listeners::inherited_as) has taken stay where they are.
    ///
    /// The environment is left as it is: a child of this process is not meant by LISTEN_PID.
    ///
    /// # Errors
    /// [`Error::Inherited`] when what was passed on are no stream sockets that listen.
    pub fn inherited() -> Result<Option<Listeners>, Error> {
        Listeners::passed_on(|_| true)
    }

    /// The same for those of one name (LISTEN_FDNAMES; `FileDescriptorName=` in the socket's unit, by default the name of
    /// the unit, `.socket` included): for a process with a server for each of several addresses, or with a
    /// [tag](Listeners::tag) for each. The others stay for the next call.
    ///
    /// ```no_run
    /// # use esockets::{Listeners, Server};
    /// let mut builder = Server::builder();
    /// for (name, tag) in [("web", 0), ("admin", 1)] {
    ///     if let Some(listeners) = Listeners::inherited_as(name)? {
    ///         builder = builder.listeners(listeners.tag(tag));
    ///     }
    /// }
    /// # Ok::<(), esockets::Error>(())
    /// ```
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
        let (mut taken, mut gone) = (Vec::new(), None);
        for fd in wanted.map(|index| FIRST_INHERITED + RawFd::from(index)) {
            let failed = |source| refused(format!("descriptor {fd}, of LISTEN_FDS: {source}"));
            match sys::take_inherited(fd) {
                Ok(socket) => taken.push(socket),
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => gone = gone.or(Some(failed(source))),
                Err(source) => return Err(failed(source)),
            }
        }
        match gone {
            // Who asks for what is gone, and for nothing else, has a mistake.
            Some(gone) if taken.is_empty() => Err(gone),
            _ if taken.is_empty() => Ok(None),
            _ => Listeners::of(taken).map(Some),
        }
    }

    /// Sockets that listen already, such as a [`std::net::TcpListener`], a [`std::os::unix::net::UnixListener`] or what another
    /// supervisor has passed on. Whoever opened them answers for who else may listen there, and for a Unix socket's file.
    ///
    /// # Errors
    /// [`Error::Inherited`] for any other descriptor, or none at all.
    pub fn of(sockets: impl IntoIterator<Item = impl Into<OwnedFd>>) -> Result<Listeners, Error> {
        let refused = |why| Error::Inherited { why };
        let given = sockets.into_iter().map(|socket| {
            let socket = Socket::from(socket.into());
            let address = listens_on(&socket);
            let address = address.map_err(|why| refused(format!("descriptor {}: {why}", socket.as_raw_fd())))?;
            Ok(Given { socket, address, tag: 0, has_file: false })
        });
        let sockets = given.collect::<Result<Vec<Given>, Error>>()?;
        if sockets.is_empty() {
            return Err(refused("there are none".into()));
        }
        Ok(Listeners { sockets, claims: Vec::new(), steered: Vec::new(), predecessor: None })
    }

    /// Unix sockets that the server has made itself, with the tags of their addresses. There may be none.
    pub(crate) fn made(sockets: Vec<(Socket, PathBuf, u8)>) -> Listeners {
        let made = |(socket, path, tag)| Given { socket, address: LocalAddr::Unix(path), tag, has_file: true };
        let sockets = sockets.into_iter().map(made).collect();
        Listeners { sockets, claims: Vec::new(), steered: Vec::new(), predecessor: None }
    }

    /// Gives them all this tag, by which the handler knows connections to them ([`Client::tag`](crate::Client::tag)). Without
    /// it, those that were handed over have the tags that they had there, and others have 0.
    #[must_use]
    pub fn tag(mut self, tag: u8) -> Listeners {
        self.sockets.iter_mut().for_each(|given| given.tag = tag);
        self
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
        let Inheritance { loan, files, steered } = receive(&predecessor).map_err(refused)?;
        let (marks, fds): (Vec<Mark>, Vec<OwnedFd>) = loan.listeners.into_iter().unzip();
        let mut listeners = Listeners::of(fds)?;
        for (given, mark) in listeners.sockets.iter_mut().zip(&marks) {
            (given.tag, given.has_file) = (mark.tag, files.contains(&mark.place));
        }
        let index = |place| marks.iter().position(|mark| mark.place == place);
        let claims = loan.claims.into_iter();
        let claims = claims.filter_map(|(place, claim)| Some((index(place)?, Claim::handed_over(claim)))).collect();
        Ok(Listeners { claims, steered, predecessor: Some(predecessor), ..listeners })
    }

    /// The first address of TCP that they listen on; `0.0.0.0:0` if they are all Unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.sockets.iter().find_map(|given| given.address.ip()).unwrap_or(socket::NOWHERE)
    }

    /// All addresses that they listen on.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<LocalAddr> {
        let mut addresses: Vec<LocalAddr> = Vec::new();
        for given in &self.sockets {
            if !addresses.contains(&given.address) {
                addresses.push(given.address.clone());
            }
        }
        addresses
    }

    /// Makes them fit for `options`, and for a server whose connections are to be `steered`.
    pub(crate) fn adapt(&self, options: &Listen, steered: &[usize]) -> Result<(), Error> {
        let are_dealt_to = self.sockets.iter().any(|given| given.address.ip().is_some());
        if are_dealt_to && steered != self.steered {
            let why = "listeners that were handed over go on dealing connections out as the server did that opened them \
                       (the same `steering`, `shards` and `cores`), and others by the hash";
            return Err(Error::Config { knob: "steering", why: why.into() });
        }
        self.sockets.iter().try_for_each(|given| {
            let listen_error = |source| Error::Listen { address: given.address.clone(), source };
            socket::adapt(&given.socket, options).map_err(listen_error)
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Which of them are a shard's: each listener has a shard, and each shard a listener of each address, so the fewer are
    /// shared.
    fn places(&self, shard: usize, shards: usize) -> Vec<usize> {
        let at = |address: &LocalAddr| -> Vec<usize> {
            (0..self.sockets.len()).filter(|&index| self.sockets[index].address == *address).collect()
        };
        let of_all = self.local_addrs().into_iter().flat_map(|address| {
            let group = at(&address);
            let turns = (0..group.len().max(shards)).filter(move |turn| turn % shards == shard);
            turns.map(move |turn| group[turn % group.len()])
        });
        of_all.collect()
    }

    /// What a shard listens on, in copies of its own. Their places are counted from `first`.
    pub(crate) fn door(&self, shard: usize, shards: usize, first: usize) -> io::Result<Door> {
        let mut door = Door::default();
        for index in self.places(shard, shards) {
            let mark = self.mark(index, first);
            door.listeners.push((mark, self.sockets[index].socket.try_clone()?));
            let at_address = |given: &&Given| given.address == self.sockets[index].address;
            if self.sockets.iter().filter(at_address).count() < shards {
                door.shared.push(mark.place);
            }
        }
        for (index, claim) in self.claims.iter().filter(|_| shard == 0) {
            let copy = claim.as_fd().try_clone_to_owned()?;
            door.claims.push((self.mark(*index, first).place, Claim::handed_over(copy)));
        }
        Ok(door)
    }

    /// The same as numbers, for a thread that takes its copies along into a descriptor table of its own.
    pub(crate) fn numbers(&self, shard: usize, shards: usize, first: usize) -> Numbers {
        let number = |index: usize| (self.mark(index, first), self.sockets[index].socket.as_raw_fd());
        let claims = self.claims.iter().filter(|_| shard == 0);
        let claims = claims.map(|(index, claim)| (self.mark(*index, first).place, claim.as_fd().as_raw_fd()));
        Numbers { listeners: self.places(shard, shards).into_iter().map(number).collect(), claims: claims.collect() }
    }

    fn mark(&self, index: usize, first: usize) -> Mark {
        Mark { place: (first + index) as u32, tag: self.sockets[index].tag }
    }

    /// The files that are to be removed at the server's end.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.sockets.iter().filter(|given| given.has_file).filter_map(|given| given.address.path())
    }

    /// Tells whoever handed them over that a server has started with them.
    pub(crate) fn confirm(&self) {
        if let Some(predecessor) = &self.predecessor {
            // Who has gone meanwhile does not mind.
            let _ = send_note(predecessor.as_fd(), [STARTED, 0], None);
        }
    }
}

/// Listeners and claims by the numbers that they have where they are open.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) listeners: Vec<(Mark, RawFd)>,
    pub(crate) claims: Vec<(u32, RawFd)>,
}

/// The address that `socket` listens on, if it is a stream socket that does so.
fn listens_on(socket: &Socket) -> io::Result<LocalAddr> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let own = socket.local_addr()?;
    let path = || match (own.as_pathname(), own.as_abstract_namespace()) {
        (Some(path), _) => Some(path.to_owned()),
        // As ss(8) writes it.
        (None, Some(name)) => Some(OsStr::from_bytes(&[b"@", name].concat()).into()),
        (None, None) => None,
    };
    let address = own.as_socket().map(LocalAddr::Ip).or_else(|| path().map(LocalAddr::Unix));
    match (socket.r#type()? == Type::STREAM, socket.is_listener()?) {
        (true, true) => address.ok_or_else(|| wrong("it is neither of TCP nor a Unix socket with a name")),
        (false, _) => Err(wrong("it is no stream socket")),
        (true, false) => Err(wrong("it does not listen")),
    }
}

/// Hands listeners over, and waits until a server has started with them.
pub(crate) fn hand_over(successor: &UnixStream, loan: &Loan, files: &SocketFiles, steered: &[usize]) -> io::Result<()> {
    let send = |note: Note, fd: Option<BorrowedFd<'_>>| send_note(successor.as_fd(), note, fd);
    send([HELLO, loan.listeners.len() as u32], None)?;
    for (mark, listener) in &loan.listeners {
        send([LISTENER, mark.to_word()], Some(listener.as_fd()))?;
    }
    for (place, claim) in &loan.claims {
        send([CLAIM, *place], Some(claim.as_fd()))?;
    }
    for (mark, listener) in &loan.listeners {
        let own = SockRef::from(listener).local_addr()?;
        if own.as_pathname().is_some_and(|path| files.contain(path)) {
            send([FILE, mark.place], None)?;
        }
    }
    steered.iter().try_for_each(|&core| send([CORE, core as u32], None))?;
    send([END, 0], None)?;
    match receive_note(successor.as_fd())? {
        ([STARTED, _], _) => Ok(()),
        _ => Err(foreign()),
    }
}

/// What a predecessor leaves.
#[derive(Default)]
struct Inheritance {
    loan: Loan,
    /// The places of those whose files are to be removed.
    files: BTreeSet<u32>,
    steered: Vec<usize>,
}

fn receive(predecessor: &UnixStream) -> io::Result<Inheritance> {
    let ([HELLO, count], _) = receive_note(predecessor.as_fd())? else { return Err(foreign()) };
    let mut left = Inheritance::default();
    let loan = &mut left.loan;
    loop {
        match receive_note(predecessor.as_fd())? {
            ([LISTENER, mark], Some(listener)) => drop(loan.listeners.insert(Mark::from_word(mark), listener)),
            ([CLAIM, place], Some(claim)) => drop(loan.claims.insert(place, claim)),
            ([FILE, place], _) => drop(left.files.insert(place)),
            ([CORE, core], _) => left.steered.push(core as usize),
            ([END, _], _) if loan.listeners.len() == count as usize => return Ok(left),
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
