//! This library, at its defaults but for one shard on one core: two closures, the same with a descriptor table of its own,
//! and a handler with a session.

use std::hint::black_box;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use esockets::{Builder, Client, Cores, Handler, Peer, Remote, Server, Shard};

use super::{BACKLOG, BROADCAST_BYTES, CUE, Setting};
use crate::connection::message;
use crate::failure::{Result, Tried};

pub(super) fn start(setting: &Setting) -> Result<SocketAddr> {
    let server = builder(setting).handle_readable(|client| {
        let data = client.recv();
        client.send(data)
    });
    keep(server.start().tried(|| "starting esockets".to_owned())?)
}

/// With a descriptor table for the shard alone, as `loadgen serve` has it: then the kernel counts no references to a
/// descriptor while a system call uses it.
#[expect(unsafe_code, reason = "the builder's unsafe knob")]
pub(super) fn start_with_own_table(setting: &Setting) -> Result<SocketAddr> {
    // SAFETY: the closure holds no descriptor and opens none.
    let builder = unsafe { builder(setting).private_fd_tables() };
    let server = builder.handle_readable(|client| {
        let data = client.recv();
        client.send(data)
    });
    keep(server.start().tried(|| "starting esockets with a table of its own".to_owned())?)
}

pub(super) fn start_with_session(setting: &Setting) -> Result<SocketAddr> {
    keep(builder(setting).start(|_| Count).tried(|| "starting esockets with a session".to_owned())?)
}

/// With something to do for each message, on so many shards, each on a core of its own.
pub(super) fn start_with_work(setting: &Setting, shards: usize) -> Result<SocketAddr> {
    let cores = setting.cores.clone();
    let builder = builder(setting).shards(shards).cores(Cores::None);
    // This process was pinned to the first core before: each shard goes where it belongs by itself.
    let server = builder.start(move |shard| {
        if let Some(&id) = cores.get(shard.index()) {
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        Work
    });
    keep(server.tried(|| format!("starting esockets on {shards} shards"))?)
}

/// Echoes, after some work.
struct Work;

impl Handler for Work {
    type Session = ();
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        let data = client.recv();
        black_box((0..WORK).fold(0u64, |sum, number| black_box(sum.rotate_left(5) ^ number)));
        client.send(data)
    }
}

/// Echoes, and sends one message to all when it hears the cue. Where there are several shards, each has a table of its own.
#[expect(unsafe_code, reason = "the builder's unsafe knob")]
pub(super) fn start_with_broadcast(setting: &Setting) -> Result<SocketAddr> {
    let remote = Arc::new(OnceLock::new());
    let known = Arc::clone(&remote);
    let mut builder = builder(setting);
    if setting.tables > 1 {
        // SAFETY: the handler holds no descriptor but the server's own remote, and opens none.
        builder = unsafe { builder.shards(setting.tables).cores(Cores::None).private_fd_tables() };
    }
    let server = builder.start(move |_| Crier { remote: Arc::clone(&remote) });
    let server = server.tried(|| "starting esockets with a broadcast".to_owned())?;
    let _ = known.set(server.remote());
    keep(server)
}

struct Crier {
    remote: Arc<OnceLock<Remote<Arc<[u8]>>>>,
}

impl Handler for Crier {
    type Session = ();
    type Message = Arc<[u8]>;

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        let data = client.recv();
        match (data, self.remote.get()) {
            ([CUE], Some(remote)) => remote.send_to_all(&message(BROADCAST_BYTES).into()) > 0,
            _ => client.send(data),
        }
    }

    fn handle_message(&mut self, shard: &mut Shard<'_, ()>, message: Arc<[u8]>) {
        shard.each_client(|client, ()| client.send_shared(&message));
    }
}

/// Some 50 us: so much more than an echo costs that a client beside the server hardly takes anything away from it.
const WORK: u64 = 40_000;

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
fn keep<M>(server: Server<M>) -> Result<SocketAddr> {
    let address = server.local_addr();
    mem::forget(server);
    Ok(address)
}
