//! How the shards come to what they listen on: each opens its own listeners of TCP, and has a part in those that are there
//! already, Unix sockets among them.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{OwnedFd, RawFd};
use std::path;
use std::sync::Arc;

use socket2::Socket;

use crate::address::{LocalAddr, Place, abstract_name};
use crate::claim::{self, Claim};
use crate::config::{Config, Steering};
use crate::error::Error;
use crate::listeners::{Listeners, Numbers};
use crate::loan::{Door, Mark};
use crate::shard::ShardInfo;
use crate::socket::{self, Listen};
use crate::unix::{self, SocketFiles};

/// What a server is to listen on, once it is known what that is.
pub(crate) struct Premises {
    shards: usize,
    sites: Vec<Site>,
    /// Opened before any shard: by others, or, the last of them, Unix sockets of its own. With the place of their first.
    given: Vec<(usize, Arc<Listeners>)>,
    /// All addresses, in the order in which they were asked for, but for those of `sites`, which change when they are opened.
    order: Vec<Named>,
    /// The cores by which the kernel deals connections out; empty if it does so by the hash.
    steered: Vec<usize>,
}

/// An address of TCP, at which each shard has a listener.
#[derive(Debug, Clone)]
struct Site {
    /// With port 0 only until the first has opened it.
    address: SocketAddr,
    only_v6: bool,
    tag: u8,
}

enum Named {
    /// The index of a site.
    Site(usize),
    Other(LocalAddr),
}

impl Premises {
    /// Resolves what is to be opened, opens what is not a shard's to open, and makes what is `given` fit. Files that it makes
    /// go to `files`.
    pub(crate) fn new(config: &Config, given: Vec<Arc<Listeners>>, files: &SocketFiles) -> Result<Premises, Error> {
        let shards = config.shard_count();
        let steered = steered(config, shards);
        let mut premises = Premises { shards, sites: Vec::new(), given: Vec::new(), order: Vec::new(), steered };
        let there: Vec<LocalAddr> = given.iter().flat_map(|given| given.local_addrs()).collect();
        let mut made = Vec::new();
        for address in config.to_open(!given.is_empty()) {
            let tag = address.tag;
            match &address.place {
                Place::Tcp { host, port, only_v6 } => {
                    let address = resolve(host, *port)?;
                    if !there.contains(&LocalAddr::Ip(address)) {
                        premises.order.push(Named::Site(premises.sites.len()));
                        premises.sites.push(Site { address, only_v6: *only_v6, tag });
                    }
                }
                Place::Unix { path, mode } => {
                    let refused = |source| Error::Listen { address: LocalAddr::Unix(path.clone()), source };
                    let has_file = abstract_name(path).is_none();
                    let path = if has_file { path::absolute(path).map_err(refused)? } else { path.clone() };
                    if !there.contains(&LocalAddr::Unix(path.clone())) {
                        let socket = unix::listen(&path, *mode, config.queue_size).map_err(refused)?;
                        if has_file {
                            files.add(&path);
                        }
                        premises.order.push(Named::Other(LocalAddr::Unix(path.clone())));
                        made.push((socket, path, tag));
                    }
                }
            }
        }
        premises.order.extend(there.into_iter().map(Named::Other));
        for given in given {
            given.adapt(&listen_options(config, false, false), &premises.steered)?;
            premises.take(given);
        }
        if !made.is_empty() {
            premises.take(Arc::new(Listeners::made(made)));
        }
        if premises.places() > Mark::PLACES_MAX {
            let why = format!("{} shards cannot have a listener each at so many addresses", shards);
            return Err(Error::Config { knob: "listen", why });
        }
        Ok(premises)
    }

    fn take(&mut self, given: Arc<Listeners>) {
        self.given.push((self.places(), given));
    }

    /// How many sockets there are to be, over all shards.
    pub(crate) fn places(&self) -> usize {
        self.sites.len() * self.shards + self.given.iter().map(|(_, given)| given.len()).sum::<usize>()
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    pub(crate) fn steered(&self) -> &[usize] {
        &self.steered
    }

    pub(crate) fn local_addrs(&self) -> Vec<LocalAddr> {
        let address = |named: &Named| match named {
            Named::Site(index) => LocalAddr::Ip(self.sites[*index].address),
            Named::Other(address) => address.clone(),
        };
        self.order.iter().map(address).collect()
    }

    /// The first shard has opened the sites: their ports are everybody's.
    pub(crate) fn opened(&mut self, addresses: Vec<SocketAddr>) {
        self.sites.iter_mut().zip(addresses).for_each(|(site, own)| site.address = own);
    }

    /// All shards listen: whoever handed sockets over is told, and the files that came with them are this server's.
    pub(crate) fn complete(&self, files: &SocketFiles) {
        for (_, given) in &self.given {
            given.files().filter(|path| !files.contain(path)).for_each(|path| files.add(path));
            given.confirm();
        }
    }

    /// What a shard needs to listen, which begins when the one before it listens.
    pub(crate) fn entrance(&self, config: &Config, shard: usize) -> Result<Entrance, Error> {
        let own = self.sites.iter().enumerate().map(|(index, site)| {
            let mark = Mark { place: (index * self.shards + shard) as u32, tag: site.tag };
            (mark, site.address, listen_options(config, shard > 0, site.only_v6))
        });
        // The last finds the groups complete when it listens. One alone has nothing to be steered to.
        let steered = if shard + 1 == self.shards { self.steered.clone() } else { Vec::new() };
        let given = if config.private_fd_tables { self.numbers(shard) } else { self.copies(shard)? };
        Ok(Entrance { own: own.collect(), steered, given })
    }

    fn numbers(&self, shard: usize) -> Given {
        let mut numbers = Numbers::default();
        for (first, given) in &self.given {
            let more = given.numbers(shard, self.shards, *first);
            numbers.listeners.extend(more.listeners);
            numbers.claims.extend(more.claims);
        }
        Given::Numbers(numbers)
    }

    fn copies(&self, shard: usize) -> Result<Given, Error> {
        let mut door = Door::default();
        for (first, given) in &self.given {
            let more = given.door(shard, self.shards, *first);
            let more = more.map_err(|source| Error::Shard { shard, act: "have a copy of its listener", source })?;
            door.listeners.extend(more.listeners);
            door.claims.extend(more.claims);
            door.shared.extend(more.shared);
        }
        Ok(Given::Copies(door))
    }
}

/// What a shard needs to listen.
pub(crate) struct Entrance {
    /// What it opens.
    own: Vec<(Mark, SocketAddr, Listen)>,
    /// For the last shard: the cores of all, if connections are steered.
    steered: Vec<usize>,
    pub(crate) given: Given,
}

/// Listeners that are there already.
pub(crate) enum Given {
    Copies(Door),
    /// For a thread with a descriptor table of its own, into which it takes them. Whoever starts it has them open until it has
    /// reported.
    Numbers(Numbers),
}

impl Given {
    /// The numbers of those that are to be taken.
    pub(crate) fn to_take(&self) -> Vec<RawFd> {
        match self {
            Given::Copies(_) => Vec::new(),
            Given::Numbers(Numbers { listeners, claims }) => {
                let listeners = listeners.iter().map(|&(_, number)| number);
                listeners.chain(claims.iter().map(|&(_, number)| number)).collect()
            }
        }
    }

    /// What the shard has of them: copies, or those that it has `taken`, in their order.
    fn into_door(self, taken: Vec<OwnedFd>) -> Door {
        let Numbers { listeners, claims } = match self {
            Given::Copies(door) => return door,
            Given::Numbers(numbers) => numbers,
        };
        let mut taken = taken.into_iter();
        let marks = listeners.into_iter().map(|(mark, _)| mark);
        let listeners = marks.zip(taken.by_ref().map(Socket::from)).collect();
        let places = claims.into_iter().map(|(place, _)| place);
        // None that is known to be shared: who has no descriptor left in its own table would keep those who come from the others.
        Door { listeners, claims: places.zip(taken.map(Claim::handed_over)).collect(), shared: Vec::new() }
    }
}

impl Entrance {
    /// Opens what is to be opened, beside what the shard has `taken`; the addresses of what it has opened, and all.
    pub(crate) fn open(
        self,
        config: &Config,
        info: ShardInfo,
        taken: Vec<OwnedFd>,
    ) -> Result<(Vec<SocketAddr>, Door), Error> {
        let Entrance { own, steered, given } = self;
        let mut addresses = Vec::with_capacity(own.len());
        let mut listeners = Vec::with_capacity(own.len());
        let mut door = given.into_door(taken);
        for (mark, address, listen) in own {
            let refused = |source| Error::Listen { address: LocalAddr::Ip(address), source };
            let listener = socket::listen(address, &listen).map_err(refused)?;
            let bound = socket::local_addr(&listener).map_err(refused)?;
            let claim = claim(config, info, &listener, &listen, bound).map_err(refused)?;
            door.claims.extend(claim.map(|claim| (mark.place, claim)));
            if !steered.is_empty() {
                let refused = |source| Error::Shard { shard: info.index, act: STEER, source };
                socket::steer_by_core(&listener, &steered).map_err(refused)?;
            }
            addresses.push(bound);
            listeners.push((mark, listener));
        }
        // Its own ones first.
        listeners.append(&mut door.listeners);
        Ok((addresses, Door { listeners, ..door }))
    }
}

const STEER: &str = "steer connections (see `steering`)";

/// Opens an address to the other shards, and closes it to other servers: before it is open it is claimed, and who would
/// share it looks for claims after having joined, so that neither can overlook the other.
///
/// A server of one shard that shares with nobody leaves the kernel's lock as it is: then even programs that know no claims are
/// refused, and a new connection is not looked up in a group.
fn claim(
    config: &Config,
    info: ShardInfo,
    listener: &Socket,
    listen: &Listen,
    address: SocketAddr,
) -> io::Result<Option<Claim>> {
    if info.count == 1 && !config.share_port {
        return Ok(None);
    }
    let claim = if listen.shared { None } else { Some(Claim::new(address)?) };
    if config.share_port && claim::is_claimed(address) {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    socket::open_to_others(listener)?;
    Ok(claim)
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, Error> {
    let unresolved = |source| Error::Resolve { host: host.to_owned(), source };
    // Brackets around an IPv6 address are for URLs; here they only would not resolve.
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let mut addresses = (bare, port).to_socket_addrs().map_err(unresolved)?;
    addresses.next().ok_or_else(|| unresolved(io::Error::new(io::ErrorKind::NotFound, "it has no address")))
}

fn listen_options(config: &Config, member: bool, only_v6: bool) -> Listen {
    Listen {
        queue_size: config.queue_size,
        nodelay: config.nodelay,
        keepalive: config.keepalive,
        user_timeout: config.user_timeout,
        shared: config.share_port || member,
        only_v6,
        tuning: config.tuning.clone(),
    }
}

/// The cores to steer by, none for the hash. Asked by whoever starts the shards, because a shard that is pinned knows only
/// its own.
fn steered(config: &Config, shards: usize) -> Vec<usize> {
    let steers = config.steering == Steering::Cpu && shards > 1;
    if steers { (0..shards).filter_map(|shard| config.core_of(shard)).collect() } else { Vec::new() }
}
