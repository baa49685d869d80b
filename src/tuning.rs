//! Options of TCP for those who know their network, each with what it costs.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::sys;

/// Options of sockets that hardly anybody needs, for [`Builder::tuning`](crate::Builder::tuning). By default none is set, and
/// the system's defaults hold.
///
/// They are set on each TCP listener, once, and the kernel hands them on to each connection: none costs a system call there.
/// They do not concern Unix sockets.
///
/// SO_LINGER is not among them. With a time it makes close(2) wait until the peer has acknowledged all, on a socket that does not
/// block as well (Linux 6.18: two seconds for two seconds), and with it the shard and everybody on it. What it is for is done
/// here without it: a connection that is closed is shut down, and kept until its peer closes, too, or takes nothing for two
/// seconds. With zero it changes nothing for such a connection.
/// [`Client::abort`](crate::Client::abort) ends a connection with a reset, without TIME_WAIT; where nothing may be lost, once
/// [the peer's answer](crate::Handler::handle_readable) says that it has all.
///
/// ```
/// use std::time::Duration;
/// use esockets::{Server, Tuning};
///
/// let tuning = Tuning { defer_accept: Some(Duration::from_secs(5)), ..Tuning::default() };
/// let builder = Server::builder().tuning(tuning);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuning {
    /// TCP_DEFER_ACCEPT, see tcp(7): a connection is accepted only when its first bytes are there, or after so long without
    /// any; whole seconds, which the kernel rounds up to 1, 3, 7, 15, … s. At least 1 s.
    ///
    /// It saves the event between accepting and the first message, where clients speak first. A client that waits for a
    /// greeting waits for as long. Who has not spoken when the server stops has not come in time, and is reset; until then it
    /// is in no statistics and under no limit, and takes a place among half-open connections. Together with
    /// [`connections_max`](crate::Builder::connections_max): who says nothing takes no seat.
    pub defer_accept: Option<Duration>,
    /// TCP_FASTOPEN, see tcp(7): clients that have been here before may send their first bytes with the SYN, which saves them
    /// a round trip; so many may be under way at a time.
    ///
    /// It takes the second bit of the sysctl `net.ipv4.tcp_fastopen` (`sysctl -w net.ipv4.tcp_fastopen=3`); without it the
    /// option is set in vain. A SYN that comes twice brings its bytes twice, as a connection of its own (RFC 7413, section
    /// 6.1): only for requests that may be repeated. Some networks drop such packets.
    pub fast_open: Option<u32>,
    /// SO_RCVBUF, in bytes, see socket(7): how much the kernel keeps of what a client has sent and nobody has read. The kernel
    /// takes twice the number, and no more than twice `net.core.rmem_max`.
    ///
    /// It ends the kernel's own choice, which begins at 128 KB and grows with the distance up to `net.ipv4.tcp_rmem`: a
    /// buffer that is smaller than bandwidth × round trip bounds the throughput. Small ones keep a flood of data from a
    /// million clients small; there is no memory in them until something waits.
    pub receive_buffer: Option<usize>,
    /// SO_SNDBUF, in bytes: how much the kernel takes of what a client has not acknowledged. The kernel takes twice the
    /// number, and no more than twice `net.core.wmem_max`.
    ///
    /// As for `receive_buffer`. What does not fit waits in the server, under [`output_max`](crate::Builder::output_max), and
    /// takes another turn and another send(2).
    pub send_buffer: Option<usize>,
    /// SO_BUSY_POLL, see socket(7): how long a wait may look for packets at the network card itself, instead of sleeping until
    /// it interrupts; in whole microseconds, at least one.
    ///
    /// It saves some microseconds of latency for all of a core's time, beside [`Selector::Spin`](crate::Selector::Spin), which
    /// does the same without the card's driver. More than `net.core.busy_read` takes CAP_NET_ADMIN, and epoll looks only if
    /// `net.core.busy_poll` is set and the driver has NAPI; the loopback has none.
    pub busy_poll: Option<Duration>,
    /// IP_TOS and IPV6_TCLASS, see ip(7): the byte of each packet by which routers tell them apart, its upper six bits the DSCP
    /// (RFC 2474); 0xb8 is expedited forwarding.
    ///
    /// It does what the network makes of it, mostly nothing outside of one's own. The lower two bits are ECN's, and the kernel
    /// keeps them for itself.
    pub traffic_class: Option<u8>,
}

impl Tuning {
    /// Sets them on a socket that is to listen, or listens, for IPv6 if `is_v6`. An error names the option.
    pub(crate) fn apply(&self, socket: &impl AsFd, is_v6: bool) -> io::Result<()> {
        let set = |name: &str, (level, option): (i32, i32), value: i32| {
            let set = sys::set_option(socket.as_fd(), level, option, value);
            set.map_err(|error| io::Error::new(error.kind(), format!("{name} of {value}: {error}")))
        };
        if let Some(wait) = self.defer_accept {
            set("TCP_DEFER_ACCEPT", (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), number(wait.as_secs()))?;
        }
        if let Some(queue) = self.fast_open {
            set("TCP_FASTOPEN", (libc::IPPROTO_TCP, libc::TCP_FASTOPEN), number(queue))?;
        }
        if let Some(bytes) = self.receive_buffer {
            set("SO_RCVBUF", (libc::SOL_SOCKET, libc::SO_RCVBUF), number(bytes))?;
        }
        if let Some(bytes) = self.send_buffer {
            set("SO_SNDBUF", (libc::SOL_SOCKET, libc::SO_SNDBUF), number(bytes))?;
        }
        if let Some(time) = self.busy_poll {
            set("SO_BUSY_POLL", (libc::SOL_SOCKET, libc::SO_BUSY_POLL), number(time.as_micros()))?;
        }
        if let Some(class) = self.traffic_class {
            // An IPv6 socket takes IPv4 as well.
            set("IP_TOS", (libc::IPPROTO_IP, libc::IP_TOS), class.into())?;
            if is_v6 {
                set("IPV6_TCLASS", (libc::IPPROTO_IPV6, libc::IPV6_TCLASS), class.into())?;
            }
        }
        Ok(())
    }
}

fn number(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{self, Listen};
    use socket2::Socket;
    use std::net::{SocketAddr, TcpStream};

    /// A listener with this tuning, what its accepted connection is, and the client; `None` where the family is not there.
    fn accepted(host: &str, tuning: Tuning) -> Option<(Socket, Socket, TcpStream)> {
        let address: SocketAddr = host.parse().unwrap();
        let options = Listen {
            queue_size: 16,
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            shared: false,
            only_v6: false,
            tuning,
        };
        let listener = match socket::listen(address, &options) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => return None,
            listener => listener.unwrap(),
        };
        listener.set_nonblocking(false).unwrap();
        let mut client = TcpStream::connect(socket::local_addr(&listener).unwrap()).unwrap();
        io::Write::write_all(&mut client, b"hello").unwrap();
        let (accepted, _) = listener.accept().unwrap();
        Some((listener, accepted, client))
    }

    fn option(socket: &Socket, level: i32, option: i32) -> i32 {
        sys::option(socket.as_fd(), level, option).unwrap()
    }

    #[test]
    fn what_is_set_is_handed_on_to_each_connection() {
        let tuning = Tuning {
            defer_accept: Some(Duration::from_secs(3)),
            fast_open: Some(17),
            receive_buffer: Some(20_000),
            send_buffer: Some(30_000),
            traffic_class: Some(0xb8),
            ..Tuning::default()
        };
        for (host, is_v6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
            let Some((listener, accepted, _client)) = accepted(host, tuning.clone()) else { continue };
            assert_eq!(option(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), 3);
            assert_eq!(option(&listener, libc::IPPROTO_TCP, libc::TCP_FASTOPEN), 17);
            assert_eq!((accepted.recv_buffer_size().unwrap(), accepted.send_buffer_size().unwrap()), (40_000, 60_000));
            assert_eq!(option(&accepted, libc::IPPROTO_IP, libc::IP_TOS), 0xb8);
            if is_v6 {
                assert_eq!(option(&accepted, libc::IPPROTO_IPV6, libc::IPV6_TCLASS), 0xb8);
            }
        }
    }

    #[test]
    fn the_card_is_asked_for_so_long_by_who_may() {
        let attempt = |micros| {
            let tuning = Tuning { busy_poll: Some(Duration::from_micros(micros)), ..Tuning::default() };
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            tuning.apply(&listener, false).map(|()| Socket::from(listener))
        };
        match attempt(50) {
            Ok(listener) => {
                let _client = TcpStream::connect(socket::local_addr(&listener).unwrap()).unwrap();
                let (accepted, _) = listener.accept().unwrap();
                assert_eq!(option(&accepted, libc::SOL_SOCKET, libc::SO_BUSY_POLL), 50);
            }
            Err(error) => assert!(error.to_string().starts_with("SO_BUSY_POLL of 50"), "{error}"),
        }
    }

    #[test]
    fn by_default_nothing_is_set() {
        let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(plain.local_addr().unwrap()).unwrap();
        let plain = Socket::from(plain.accept().unwrap().0);
        let (_, tuned, _client) = accepted("127.0.0.1:0", Tuning::default()).unwrap();
        let all = |socket: &Socket| {
            let options = [libc::SO_RCVBUF, libc::SO_SNDBUF, libc::SO_BUSY_POLL];
            let ip = option(socket, libc::IPPROTO_IP, libc::IP_TOS);
            (options.map(|own| option(socket, libc::SOL_SOCKET, own)), ip)
        };
        assert_eq!(all(&tuned), all(&plain));
    }
}
