//! The servers, by name: each echoes on one thread unless its name says otherwise, and runs as a process of its own.

mod esockets;
#[cfg(feature = "glommio")]
mod glommio;
mod least;
mod monoio;
mod tokio;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::{Result, Tried};

/// Every connection that the client opens at once finds a place, whoever the server is.
const BACKLOG: i32 = 4096;

/// What a server process is told.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) port: u16,
    /// The first is the server's; only those with several threads look at the others.
    pub(crate) cores: Vec<usize>,
    /// Threads with a descriptor table each; of those that broadcast only, all others have one thread or as many as their name
    /// says, in one table.
    pub(crate) tables: usize,
    /// Bytes of the buffer that each task of an async server reads into.
    pub(crate) buffer: usize,
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) title: &'static str,
    /// What `serve` calls it.
    pub(crate) name: &'static str,
    /// The crate whose version the report names.
    pub(crate) package: Option<&'static str>,
}

impl Contender {
    const fn new(title: &'static str, name: &'static str, package: Option<&'static str>) -> Contender {
        Contender { title, name, package }
    }

    /// Tools that stand between a program and its system calls do not see into the rings.
    pub(crate) fn is_on_io_uring(&self) -> bool {
        self.title.ends_with("io_uring")
    }
}

/// The least loop comes twice: what it differs from itself is what the machine's noise makes of equal servers.
pub(crate) const CONTENDERS: &[Contender] = &[
    Contender::new("least", "least", None),
    Contender::new("least again", "least", None),
    Contender::new("esockets", "esockets", None),
    Contender::new("esockets, own table", "esockets-table", None),
    Contender::new("esockets, session", "esockets-session", None),
    Contender::new("tokio, current-thread", "tokio", Some("tokio")),
    Contender::new("tokio, 2 workers", "tokio-multi", Some("tokio")),
    Contender::new("monoio, epoll", "monoio", Some("monoio")),
    Contender::new("monoio, io_uring", "monoio-uring", Some("monoio")),
    #[cfg(feature = "glommio")]
    Contender::new("glommio, io_uring", "glommio", Some("glommio")),
];

/// Who is held against each other to see what a second shard brings.
pub(crate) const SHARDS: [Contender; 2] =
    [Contender::new("one shard", "esockets-work", None), Contender::new("two shards", "esockets-work-2", None)];

/// Who is held against each other when one message goes to all connections; the least loop twice, as ever.
pub(crate) const BROADCAST: [Contender; 3] = [
    Contender::new("least", "least-broadcast", None),
    Contender::new("least again", "least-broadcast", None),
    Contender::new("esockets", "esockets-broadcast", None),
];

/// A message of this one byte tells a server of those to send [`BROADCAST_BYTES`] to everybody; it echoes all others.
pub(crate) const CUE: u8 = 255;
pub(crate) const BROADCAST_BYTES: usize = 64;

/// Serves until standard input ends, which it does when the parent is gone, whatever became of it.
pub(crate) fn run(name: &str, setting: &Setting) -> Result<()> {
    // Threads inherit it, so none has to be told.
    if let Some(&id) = setting.cores.first()
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        return Err(format!("pinning {name} to core {id}: the system refuses"));
    }
    println!("{}", start(name, setting)?);
    io::stdin().read_to_end(&mut Vec::new()).tried(|| "waiting for the end of standard input".to_owned())?;
    Ok(())
}

fn start(name: &str, setting: &Setting) -> Result<SocketAddr> {
    match name {
        "least" => spawn(name, setting, |listener, _| least::serve(&listener)),
        "least-broadcast" => broadcast(name, setting),
        "esockets" => esockets::start(setting),
        "esockets-table" => esockets::start_with_own_table(setting),
        "esockets-session" => esockets::start_with_session(setting),
        "esockets-broadcast" => esockets::start_with_broadcast(setting),
        "esockets-work" => esockets::start_with_work(setting, 1),
        "esockets-work-2" => esockets::start_with_work(setting, 2),
        "tokio" => spawn(name, setting, tokio::serve_current_thread),
        "tokio-multi" => spawn(name, setting, tokio::serve_multi_thread),
        "monoio" => spawn(name, setting, monoio::serve_epoll),
        "monoio-uring" => spawn(name, setting, monoio::serve_uring),
        #[cfg(feature = "glommio")]
        "glommio" => glommio::start(setting),
        _ => Err(format!("there is no server {name:?}")),
    }
}

type Serve = fn(TcpListener, &Setting) -> io::Result<()>;

/// All serve in a spawned thread, as esockets does: a process with one thread would be spared the kernel's reference
/// count on every descriptor that it uses.
fn spawn(name: &str, setting: &Setting, serve: Serve) -> Result<SocketAddr> {
    let listener = listen(setting.port, false).tried(|| format!("listening on 127.0.0.1:{}", setting.port))?;
    let address = listener.local_addr().tried(|| "asking for the listener's address".to_owned())?;
    let setting = setting.clone();
    spawn_thread(name, move || serve(listener, &setting))?;
    Ok(address)
}

fn spawn_thread(name: &str, serve: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
    let owned = name.to_owned();
    let thread = thread::Builder::new().name(owned.clone()).spawn(move || {
        if let Err(error) = serve() {
            eprintln!("serving with {owned}: {error}");
            process::exit(1);
        }
    });
    thread.map(drop).tried(|| format!("starting a thread for {name}"))
}

/// As many of the least loop as there are to be tables, at one address; the kernel deals connections out to them.
fn broadcast(name: &str, setting: &Setting) -> Result<SocketAddr> {
    let bells: io::Result<Vec<_>> = (0..setting.tables).map(|_| UnixDatagram::pair()).collect();
    let bells: least::Bells = bells.tried(|| "making socket pairs".to_owned())?.into();
    let (mut port, mut address) = (setting.port, None);
    for index in 0..setting.tables {
        let listener = listen(port, true).tried(|| format!("listening on 127.0.0.1:{port}"))?;
        let own = listener.local_addr().tried(|| "asking for the listener's address".to_owned())?;
        (port, address) = (own.port(), Some(own));
        let bells = bells.clone();
        spawn_thread(name, move || least::broadcast(&listener, &bells, index))?;
    }
    address.ok_or_else(|| format!("{name} on no thread"))
}

/// Options of the socket are inherited by what is accepted; what esockets sets by default on the loopback, all have: the
/// kernel's work for them is no loop's.
fn listen(port: u16, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
