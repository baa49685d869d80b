//! This library, at its defaults but for one shard on one core: two closures, and a handler with a session.

use std::mem;
use std::net::SocketAddr;

use esockets::{Builder, Client, Cores, Handler, Peer, Server};

use super::{BACKLOG, Setting};
use crate::failure::{Result, Tried};

pub(super) fn start(setting: &Setting) -> Result<SocketAddr> {
    let server = builder(setting).handle_readable(|client| {
        let data = client.recv();
        client.send(data)
    });
    keep(server.start().tried(|| "starting esockets".to_owned())?)
}

pub(super) fn start_with_session(setting: &Setting) -> Result<SocketAddr> {
    keep(builder(setting).start(|_| Count).tried(|| "starting esockets with a session".to_owned())?)
}

/// Echoes, and counts for each connection what a program would keep of it.
struct Count;

#[derive(Default)]
struct Session {
    messages: u64,
    bytes: u64,
}

impl Handler for Count {
    type Session = Session;
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<Session> {
        Some(Session::default())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, session: &mut Session) -> bool {
        let data = client.recv();
        session.messages += 1;
        session.bytes += data.len() as u64;
        client.send(data)
    }
}

fn builder(setting: &Setting) -> Builder {
    let cores = match setting.cores.first() {
        Some(&core) => Cores::List(vec![core]),
        None => Cores::None,
    };
    Server::builder().port(setting.port).queue_size(BACKLOG as u32).shards(1).cores(cores)
}

/// The server would stop when it is dropped; it is to live as long as the process.
fn keep(server: Server) -> Result<SocketAddr> {
    let address = server.local_addr();
    mem::forget(server);
    Ok(address)
}
