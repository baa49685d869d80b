//! The echo server, on the library beside this program: for the command `serve`, and inside a run.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use esockets::{Client, Cores, Error, Handler, LocalAddr, Peer, Server};

use crate::address::Address;
use crate::args::CoreChoice;
use crate::plan::Plan;
use crate::problem::Problem;
use crate::report::ServerSide;
use crate::unshared;

/// Sends back what comes.
struct Echo;

impl Handler for Echo {
    type Session = ();
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, _session: &mut ()) -> bool {
        let data = client.recv();
        client.send(data);
        true
    }
}

/// Starts an echo server at all of `listen` with so many shards, pinned as `cores` says, with descriptor tables of their own if
/// `own_tables`.
///
/// # Errors
/// What the library says about it: the act and the address.
pub(crate) fn start(
    listen: &[Address],
    shards: usize,
    cores: &CoreChoice,
    own_tables: bool,
) -> Result<Server, Problem> {
    let cores = match cores {
        CoreChoice::None => Cores::None,
        CoreChoice::All => Cores::All,
        CoreChoice::List(list) => Cores::List(list.clone()),
    };
    let builder = Server::builder().shards(shards).cores(cores);
    let builder = listen.iter().fold(builder, |builder, address| builder.listen(listen_address(address)));
    // Nobody sends it messages, so it need not keep room for a thousand of them in each shard.
    let builder = builder.queue_size(QUEUE_SIZE).mailbox_max(1);
    let builder = if own_tables { unshared::for_each_shard(builder) } else { builder };
    builder.start(|_| Echo).map_err(|error| Problem::Server(cannot_start(&error)))
}

fn listen_address(address: &Address) -> esockets::Address {
    match address {
        Address::Ip(ip) => esockets::Address::tcp(ip.ip().to_string(), ip.port()),
        Address::Unix(unix) => esockets::Address::unix(unix.name()),
    }
}

/// What a person has to know about it.
fn unix_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; `ss -lxp` shows which".to_owned(),
        io::ErrorKind::AlreadyExists => "there is a file that is no socket, and it stays".to_owned(),
        io::ErrorKind::NotFound => "there is no such folder".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not make a file there".to_owned(),
        _ => error.to_string(),
    }
}

/// The library speaks to programmers, of its knobs; this is for who typed an address.
fn cannot_start(error: &Error) -> String {
    let (address, source) = match error {
        Error::Listen { address: LocalAddr::Ip(address), source } => (address, source),
        Error::Listen { address, source } => return format!("cannot listen on {address}: {}", unix_reason(source)),
        _ => return error.to_string(),
    };
    let port = address.port();
    let why = match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program listens there; `ss -ltnp 'sport = :{port}'` shows which. Take another port, or 0 for any \
             that is free"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine; `ip address` shows those it has", address.ip())
        }
        io::ErrorKind::PermissionDenied => {
            format!("port {port} is for privileged users; take one of 1024 or above")
        }
        _ => source.to_string(),
    };
    format!("cannot listen on {address}: {why}")
}

/// Starts the server that `plan` wants inside this process, and tells the plan where it listens.
///
/// # Errors
/// Those of [`start`].
pub(crate) fn start_inside(plan: Plan) -> Result<(Server, Plan), Problem> {
    let shards = plan.layout.shards.unwrap_or(1);
    let address = plan.ips().first().copied().unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let server = start(&[Address::Ip(address)], shards, &CoreChoice::None, plan.layout.own_tables)?;
    let address = server.local_addr();
    Ok((server, plan.with_server(address)))
}

/// Stops the server inside, now that its clients are gone, for its account of the run.
///
/// # Errors
/// A shard that broke down.
pub(crate) fn stop_inside(server: Server) -> Result<ServerSide, Problem> {
    server.stop();
    let stats = server.join().map_err(|error| Problem::Server(error.to_string()))?;
    Ok(ServerSide {
        accepted: stats.shards.iter().map(|shard| shard.accepted).collect(),
        bytes_in: stats.total.bytes_in,
        bytes_out: stats.total.bytes_out,
    })
}

/// Connections that may wait to be accepted at each shard: as many as the kernel allows by default, for load generators
/// come all at once.
pub(crate) const QUEUE_SIZE: u32 = 4096;
