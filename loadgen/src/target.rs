//! The server to measure: how it is written on a command line, and the address that stands for it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use crate::address::{Address, UnixAddress};

/// What is spoken with a target, apart from what a run says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Just bytes.
    Tcp,
    /// HTTP/1.1.
    Http,
    /// WebSockets (RFC 6455).
    WebSocket,
}

/// A target as it was written: a host, by name or by number, and a port; or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// A name or an address, an IPv6 one without its brackets.
    pub(crate) host: String,
    /// The TCP port, never 0 where there is a host.
    pub(crate) port: u16,
    /// What is spoken there.
    pub(crate) scheme: Scheme,
    /// Whether it is spoken through TLS.
    pub(crate) is_secure: bool,
    /// The path, with its query, of an HTTP or WebSocket target.
    pub(crate) path: Option<String>,
    /// The Unix socket where the server is, whatever host and port say, which are empty without one.
    pub(crate) unix: Option<UnixAddress>,
}

impl Target {
    /// What HTTP calls the authority: the host, and the port unless it is the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let whole = self.host_and_port();
        let usual = if self.is_secure { ":443" } else { ":80" };
        whole.strip_suffix(usual).map_or(whole.clone(), str::to_owned)
    }

    fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// How it begins.
    pub(crate) fn prefix(&self) -> &'static str {
        match (self.scheme, self.is_secure) {
            (Scheme::Tcp, false) => "tcp://",
            (Scheme::Tcp, true) => "tls://",
            (Scheme::Http, false) => "http://",
            (Scheme::Http, true) => "https://",
            (Scheme::WebSocket, false) => "ws://",
            (Scheme::WebSocket, true) => "wss://",
        }
    }

    /// The address to connect to. When a name has several addresses, the first one that takes a connection within
    /// `timeout`, for `localhost` is often both `::1` and `127.0.0.1` and a server listens on one of them; when none
    /// does, the first.
    ///
    /// # Errors
    /// A sentence that says which name could not be resolved, and why.
    pub(crate) fn resolve(&self, timeout: Duration) -> Result<Address, String> {
        if let Some(unix) = &self.unix {
            return Ok(Address::Unix(unix.clone()));
        }
        let failed = |error: io::Error| format!("cannot find the address of '{}': {error}", self.host);
        let addresses: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?.collect();
        match addresses.as_slice() {
            [] => Err(format!("'{}' has no address", self.host)),
            [only] => Ok(Address::Ip(*only)),
            [first, ..] => {
                let answers = |address: &&SocketAddr| TcpStream::connect_timeout(address, timeout).is_ok();
                Ok(Address::Ip(*addresses.iter().find(answers).unwrap_or(first)))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(unix), None) = (&self.unix, &self.path) {
            return unix.fmt(f);
        }
        if self.path.is_some() || self.is_secure {
            f.write_str(self.prefix())?;
        }
        f.write_str(&self.host_and_port())?;
        f.write_str(self.path.as_deref().unwrap_or_default())?;
        self.unix.as_ref().map_or(Ok(()), |unix| write!(f, " by {unix}"))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let example = "give host:port, such as 127.0.0.1:1234, [::1]:1234, tcp://example.org:1234, http://host/path, ws://host/path, or unix:/path; tls://, https:// and wss:// through TLS";
        let schemes = [(Scheme::Http, "http://", "https://"), (Scheme::WebSocket, "ws://", "wss://")];
        for (scheme, plain, secure) in schemes {
            if let Some(rest) = text.strip_prefix(plain) {
                return target_with_path(rest, scheme, false);
            } else if let Some(rest) = text.strip_prefix(secure) {
                return target_with_path(rest, scheme, true);
            }
        }
        if let Some(name) = text.strip_prefix("unix:") {
            let unix = Some(UnixAddress::new(name)?);
            return Ok(Target {
                host: String::new(),
                port: 0,
                scheme: Scheme::Tcp,
                is_secure: false,
                path: None,
                unix,
            });
        }
        let (rest, is_secure) = match text.strip_prefix("tls://") {
            Some(rest) => (rest, true),
            None => (text.strip_prefix("tcp://").unwrap_or(text), false),
        };
        if let Some((scheme, _)) = rest.split_once("://") {
            return Err(format!("'{scheme}' is not a protocol that loadgen speaks: {example}"));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| format!("no port in '{text}': {example}"))?;
        let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
            Some(Some(inner)) => inner,
            Some(None) => return Err(format!("'[' without ']' in '{text}': {example}")),
            None if host.contains(':') => return Err(format!("an IPv6 address needs brackets in '{text}': {example}")),
            None => host,
        };
        if host.is_empty() {
            return Err(format!("no host in '{text}': {example}"));
        }
        match port.parse() {
            Ok(port @ 1..) => {
                Ok(Target { host: host.to_owned(), port, scheme: Scheme::Tcp, is_secure, path: None, unix: None })
            }
            _ => Err(format!("'{port}' is not a port from 1 to 65535: {example}")),
        }
    }
}

/// What follows `http://` and its like: a host, a port unless it is the scheme's own, a path unless it is /.
fn target_with_path(rest: &str, scheme: Scheme, is_secure: bool) -> Result<Target, String> {
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let target: Target =
        if has_port { authority.parse() } else { format!("{authority}:{}", if is_secure { 443 } else { 80 }).parse() }?;
    if let Some(odd) = path.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("{odd:?} in the path '{path}' has to be written as %HH"));
    }
    // What follows # is for browsers, and never sent (RFC 9110, 7.1).
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(Target { path: Some(format!("{slash}{path}")), scheme, is_secure, ..target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_hosts_and_ports() {
        let parsed = |text: &str| text.parse::<Target>().map(|target| (target.host, target.port));
        assert_eq!(parsed("127.0.0.1:80"), Ok(("127.0.0.1".into(), 80)));
        assert_eq!(parsed("tcp://example.org:65535"), Ok(("example.org".into(), 65535)));
        assert_eq!(parsed("[::1]:7"), Ok(("::1".into(), 7)));
        assert_eq!(parsed("tcp://[::1]:7"), Ok(("::1".into(), 7)));
    }

    #[test]
    fn what_is_not_a_target_is_refused_with_an_example() {
        for wrong in ["", "host", "host:", ":80", "host:0", "host:65536", "::1:80", "[::1:80", "udp://host:1", "[]:1"] {
            let error = wrong.parse::<Target>().expect_err(wrong);
            assert!(error.contains("127.0.0.1:1234"), "{wrong}: {error}");
        }
    }

    #[test]
    fn http_targets_have_a_path_and_perhaps_a_port() {
        let parsed =
            |text: &str| text.parse::<Target>().map(|it| (it.authority(), it.path.clone().unwrap(), it.to_string()));
        let expect = |a: &str, b: &str, c: &str| Ok((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(
            parsed("http://127.0.0.1:8080/a?b=c"),
            expect("127.0.0.1:8080", "/a?b=c", "http://127.0.0.1:8080/a?b=c")
        );
        assert_eq!(parsed("http://example.org"), expect("example.org", "/", "http://example.org:80/"));
        assert_eq!(parsed("http://[::1]?q#x"), expect("[::1]", "/?q", "http://[::1]:80/?q"));
        assert_eq!(parsed("http://[::1]:81/"), expect("[::1]:81", "/", "http://[::1]:81/"));
        for wrong in ["http://", "http:///x", "http://h:0/", "http://h/a b", "https://", "http://h/\r\nX: y"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn schemes_with_tls_have_a_port_of_their_own() {
        let parsed =
            |text: &str| text.parse::<Target>().map(|it| (it.scheme, it.is_secure, it.authority(), it.to_string()));
        let expect = |scheme, is_secure, a: &str, b: &str| Ok((scheme, is_secure, a.to_owned(), b.to_owned()));
        assert_eq!(parsed("https://h/x"), expect(Scheme::Http, true, "h", "https://h:443/x"));
        assert_eq!(parsed("https://h:80/"), expect(Scheme::Http, true, "h:80", "https://h:80/"));
        assert_eq!(parsed("ws://h/chat?a"), expect(Scheme::WebSocket, false, "h", "ws://h:80/chat?a"));
        assert_eq!(parsed("wss://[::1]"), expect(Scheme::WebSocket, true, "[::1]", "wss://[::1]:443/"));
        assert_eq!(parsed("tls://h:7"), expect(Scheme::Tcp, true, "h:7", "tls://h:7"));
        assert!(parsed("tls://h").is_err_and(|why| why.contains("no port")));
    }

    #[test]
    fn a_number_resolves_to_itself() {
        let target: Target = "[::1]:7".parse().unwrap();
        assert_eq!(target.resolve(Duration::from_secs(1)), Ok(Address::Ip("[::1]:7".parse().unwrap())));
    }

    #[test]
    fn unix_sockets_are_targets_by_themselves_or_by_the_side_of_a_host() {
        let redis: Target = "unix:/run/redis.sock".parse().unwrap();
        assert_eq!(redis.to_string(), "unix:/run/redis.sock");
        let unix = UnixAddress::new("@a").unwrap();
        let http = Target { unix: Some(unix.clone()), .."http://h/x".parse().unwrap() };
        assert_eq!((http.to_string().as_str(), http.authority().as_str()), ("http://h:80/x by unix:@a", "h"));
        assert_eq!(http.resolve(Duration::from_secs(1)), Ok(Address::Unix(unix)));
        assert!("unix:".parse::<Target>().is_err() && "unix:@".parse::<Target>().is_err());
    }
}
