//! Every socket option in the repository, for both ends: how to listen and how to connect.
//!
//! Public because a load generator needs the connecting half; a server is started by [`Server`](crate::Server).

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::address::abstract_name;
use crate::sys;
use crate::target::Target;
use crate::tuning::Tuning;

/// What a listening socket is made with. Linux hands nodelay, keepalive and the user timeout on to each accepted socket, so
/// a connection costs no system call for them.
#[derive(Debug, Clone)]
pub struct Listen {
    /// How many connections may wait to be accepted; the kernel cuts it to `net.core.somaxconn` (see listen(2)).
    pub queue_size: u32,
    /// TCP_NODELAY (see tcp(7)): small answers go out at once instead of waiting for an acknowledgement.
    pub nodelay: bool,
    /// SO_KEEPALIVE, and when to probe; `None` leaves a vanished peer undetected. Not set at an address of the loopback, see
    /// [`Builder::keepalive`](crate::Builder::keepalive).
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT (see tcp(7)): how long what was sent may stay unacknowledged, or wait for a peer that makes no room
    /// for it. `None` leaves it to retransmission, which gives up after some 15 minutes, and never on a peer that
    /// acknowledges but does not read.
    pub user_timeout: Option<Duration>,
    /// Whether it joins others who listen on the address. Without it EADDRINUSE refuses it when anyone does.
    pub shared: bool,
    /// Whether an IPv6 wildcard leaves IPv4 to others: IPV6_V6ONLY, see ipv6(7).
    pub only_v6: bool,
    /// What hardly anybody needs.
    pub tuning: Tuning,
}

/// When TCP asks a silent peer whether it is still there; see TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT in tcp(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds, 1 s to 32,767 s.
    pub idle: Duration,
    /// Time between two probes; whole seconds, 1 s to 32,767 s.
    pub interval: Duration,
    /// Unanswered probes after which the connection is given up, 1 to 127.
    pub probes: u32,
}

impl Default for Keepalive {
    /// First probe after 60 s, then every 10 s, gone after 6: a vanished peer is noticed within two minutes.
    fn default() -> Keepalive {
        Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes: 6 }
    }
}

/// A non-blocking TCP socket that listens on `address`; further ones can join it there, with `options.shared` (a
/// SO_REUSEPORT group, see socket(7)), once [`open_to_others`] has been called.
///
/// Without `options.shared` the kernel itself refuses the address if anyone else listens there, by the check that it makes
/// in listen(2): there is no moment between a check and the taking. An IPv6 wildcard listens on IPv4 as well, unless
/// `options.only_v6`.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2); most often AddrInUse, PermissionDenied (ports below 1024) and
/// AddrNotAvailable (the address is not this machine's).
pub fn listen(address: SocketAddr, options: &Listen) -> io::Result<Socket> {
    let socket = stream_socket(address)?;
    // Without it a restarted server could not bind while connections of its predecessor are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if options.shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(options.only_v6)?;
    }
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(keepalive) = options.keepalive.filter(|_| !address.ip().is_loopback()) {
        socket.set_tcp_keepalive(&probing(keepalive))?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    // Buffers, too, before it listens: the window's scale is that of the SYN (tcp(7)).
    options.tuning.apply(&socket, address.is_ipv6())?;
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Ok(socket)
}

/// Makes a socket that listens already, opened by somebody else, the one that [`listen`] would have made of it. Whoever has
/// the same socket, too, sees these options there.
///
/// # Errors
/// Those of setsockopt(2) and listen(2).
pub(crate) fn adapt(listener: &Socket, options: &Listen) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let domain = listener.domain()?;
    if domain == Domain::UNIX {
        return listener.listen(backlog(options));
    }
    options.tuning.apply(listener, domain == Domain::IPV6)?;
    listener.set_tcp_nodelay(options.nodelay)?;
    match options.keepalive.filter(|_| !local_addr(listener).is_ok_and(|own| own.ip().is_loopback())) {
        Some(keepalive) => listener.set_tcp_keepalive(&probing(keepalive))?,
        None => listener.set_keepalive(false)?,
    }
    listener.set_tcp_user_timeout(options.user_timeout)?;
    // A second listen(2) only changes how many may wait.
    listener.listen(backlog(options))
}

/// Lets others join the address that `listener` has taken for itself. The kernel compares the flags that sockets have now,
/// not those at their bind.
///
/// # Errors
/// Those of setsockopt(2).
pub fn open_to_others(listener: &Socket) -> io::Result<()> {
    listener.set_reuse_port(true)
}

/// Lets the kernel deal connections to the listeners of `listener`'s group by core: those whose first packet is processed
/// on `cores[i]` to the one that listened i-th, those of other cores by the hash. To be called once, when all of them
/// listen: replacing such a program on a live group was a use-after-free in kernels before 2026.
///
/// # Errors
/// Those of setsockopt(2): ENOMEM, or EINVAL for more than 2,047 cores.
pub(crate) fn steer_by_core(listener: &Socket, cores: &[usize]) -> io::Result<()> {
    let mut program = vec![bpf(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, SKF_AD_CPU)];
    for (index, core) in cores.iter().enumerate() {
        // If it is this core, the next instruction answers; otherwise the one after that asks on.
        program.push(bpf(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, *core as u32));
        program.push(bpf(libc::BPF_RET | libc::BPF_K, 0, index as u32));
    }
    // An index that nobody has leaves the choice to the hash.
    program.push(bpf(libc::BPF_RET | libc::BPF_K, 0, u32::MAX));
    sys::attach_reuseport_program(listener.as_fd(), &program)
}

/// Where classic BPF finds the number of the core that it runs on, see linux/filter.h.
const SKF_AD_CPU: u32 = (-0x1000i32 + 36).cast_unsigned();

/// One instruction; if it compares and the values differ, it skips so many.
fn bpf(code: u32, skip_if_not: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: skip_if_not, k: value }
}

/// What an address is called where there is none.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The address that `socket` is bound to; how a listener on port 0 learns its port.
///
/// # Errors
/// Those of getsockname(2); an `Unsupported` error for anything but an IP socket.
pub fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

/// A non-blocking TCP socket that has begun to connect to `target`, with TCP_NODELAY set.
///
/// With a `source` it is bound to that address and port first. That is what makes many connections cheap: choosing a
/// port by itself, the kernel searches ever longer once half of `ip_local_port_range` is used toward one target. Take
/// ports below that range, or other programs can no longer connect.
///
/// The socket is writable when the attempt has ended; [`connect_result`] then says how.
///
/// # Errors
/// Those of socket(2), bind(2) and connect(2), EINPROGRESS excepted. AddrInUse speaks of the source, AddrNotAvailable of
/// the source too, or, without one, says that the kernel found no free port.
pub fn connect(target: SocketAddr, source: Option<SocketAddr>) -> io::Result<Socket> {
    let socket = stream_socket(target)?;
    if let Some(source) = source {
        // An earlier connection of ours from here may still be in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
    }
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// What a socket that calls is made with; see [`Listen`] for each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
}

/// A non-blocking socket that can connect to `target`.
pub(crate) fn caller(target: &Target, line: &Line) -> io::Result<Socket> {
    let Target::Tcp(address) = target else {
        return Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None);
    };
    let socket = stream_socket(*address)?;
    if line.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(keepalive) = line.keepalive.filter(|_| !address.ip().is_loopback()) {
        socket.set_tcp_keepalive(&probing(keepalive))?;
    }
    if line.user_timeout.is_some() {
        socket.set_tcp_user_timeout(line.user_timeout)?;
    }
    Ok(socket)
}

/// Begins to connect.
pub(crate) fn call(socket: &SockRef<'_>, target: &Target) -> io::Result<()> {
    let address = match target {
        Target::Tcp(address) => (*address).into(),
        Target::Unix(path) => unix_address(path)?,
    };
    match socket.connect(&address) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        begun => begun,
    }
}

/// The address of the Unix socket at this path, or, behind an `@`, of this abstract name.
///
/// # Errors
/// EINVAL for a zero in it, or no name; ENAMETOOLONG.
pub(crate) fn unix_address(path: &Path) -> io::Result<SockAddr> {
    let (bytes, name) = (path.as_os_str().as_bytes(), abstract_name(path));
    // As far as the kernel reads a path with a zero, it would be another one.
    if bytes.contains(&0) || name.is_some_and(<[u8]>::is_empty) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let address = match name {
        Some(name) => SockAddr::unix(OsStr::from_bytes(&[b"\0", name].concat())),
        None => SockAddr::unix(path),
    };
    address.map_err(|_| io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}

/// Whether it is connected. Nothing is taken of an error that came after that: a peer that connects, speaks and resets is heard.
pub(crate) fn is_connected(socket: &SockRef<'_>) -> io::Result<bool> {
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => socket.take_error()?.map_or(Ok(false), Err),
        Err(error) => Err(error),
    }
}

/// How a connect that was begun earlier has ended, once its socket is writable: SO_ERROR, see connect(2).
///
/// # Errors
/// The error that the attempt ended with; NotConnected when it has not ended yet.
pub fn connect_result(socket: &Socket) -> io::Result<()> {
    match socket.take_error()? {
        Some(error) => Err(error),
        None => socket.peer_addr().map(drop),
    }
}

/// Makes the coming close of `socket` a reset instead of an orderly end (SO_LINGER of zero, see socket(7)): what was not
/// sent yet is thrown away, and no TIME_WAIT is left behind.
///
/// # Errors
/// Those of setsockopt(2).
pub fn reset_on_close(socket: &Socket) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// Whether connections that come to `listener` are asked whether their peers are there.
pub(crate) fn probes(listener: &Socket) -> bool {
    // An error would be that of a socket which is no socket.
    listener.keepalive().unwrap_or(false)
}

/// Asks the peer of a connection no more whether it is there: SO_KEEPALIVE, see socket(7).
pub(crate) fn stop_probing(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_keepalive(false)
}

fn probing(keepalive: Keepalive) -> TcpKeepalive {
    let probing = TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval);
    probing.with_retries(keepalive.probes)
}

fn backlog(options: &Listen) -> i32 {
    i32::try_from(options.queue_size).unwrap_or(i32::MAX)
}

fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn loopback() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    fn options(shared: bool) -> Listen {
        Listen {
            queue_size: 16,
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: None,
            shared,
            only_v6: false,
            tuning: Tuning::default(),
        }
    }

    #[test]
    fn an_exclusive_address_is_refused_to_the_next_exclusive_one_but_open_to_members() {
        let first = listen(loopback(), &options(false)).unwrap();
        let address = local_addr(&first).unwrap();
        let second = listen(address, &options(false)).map_err(|e| e.kind());
        assert_eq!(second.err(), Some(io::ErrorKind::AddrInUse));
        let member = listen(address, &options(true)).map_err(|e| e.kind());
        assert_eq!(member.err(), Some(io::ErrorKind::AddrInUse), "it is not open yet");
        open_to_others(&first).unwrap();
        listen(address, &options(true)).unwrap();
    }

    #[test]
    fn of_many_who_want_an_address_at_once_one_gets_it() {
        for _ in 0..200 {
            let free = local_addr(&listen(loopback(), &options(false)).unwrap()).unwrap();
            let start = std::sync::Barrier::new(2);
            let race = || {
                start.wait();
                let mine = listen(free, &options(false));
                mine.inspect(|mine| open_to_others(mine).unwrap())
            };
            let winners = std::thread::scope(|scope| {
                let racers = [scope.spawn(race), scope.spawn(race)];
                // Whoever has it keeps it until both have tried.
                let results = racers.map(|racer| racer.join().unwrap());
                results.iter().filter(|result| result.is_ok()).count()
            });
            assert!(winners <= 1, "{winners} listen on {free}");
        }
    }

    #[test]
    fn accepted_sockets_inherit_nodelay_and_keepalive() {
        let listener = listen(NOWHERE, &options(false)).unwrap();
        let port = local_addr(&listener).unwrap().port();
        let _peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Keepalive::default().idle);
    }

    #[test]
    fn connect_uses_the_source_that_it_is_given() {
        let listener = listen(loopback(), &options(false)).unwrap();
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), 0));
        let socket = connect(local_addr(&listener).unwrap(), Some(source)).unwrap();
        assert_eq!(local_addr(&socket).unwrap().ip(), source.ip());
    }
}
