//! The servers, by name: each echoes on one thread unless its name says otherwise, and runs as a process of its own.

mod esockets;
#[cfg(feature = "glommio")]
mod glommio;
mod least;
mod monoio;
mod tokio;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::failure::{Result, Tried};

/// Every connection that the client opens at once finds a place, whoever the server is.
const BACKLOG: i32 = 4096;

/// What a server process is told.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) port: u16,
    /// The first is the server's; only those with several threads look at the others.
    pub(crate) cores: Vec<usize>,
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
        "least-broadcast" => spawn(name, setting, |listener, _| least::broadcast(&listener)),
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
    let listener = listen(setting.port).tried(|| format!("listening on 127.0.0.1:{}", setting.port))?;
    let address = listener.local_addr().tried(|| "asking for the listener's address".to_owned())?;
    let owned = (name.to_owned(), setting.clone());
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let (name, setting) = owned;
        if let Err(error) = serve(listener, &setting) {
            eprintln!("serving with {name}: {error}");
            process::exit(1);
        }
    });
    thread.tried(|| format!("starting a thread for {name}"))?;
    Ok(address)
}

/// Options of the socket are inherited by what is accepted; what esockets sets by default, all have: the kernel's work for
/// them is no loop's.
fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    let probing = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    socket.set_tcp_keepalive(&probing.with_retries(6))?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
