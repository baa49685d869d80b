//! The echo server: for the command `serve`, and inside the demonstration.

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use esockets::{Client, Cores, Handler, Peer, Server};

use crate::args::{CoreChoice, Serve};
use crate::machine::Machine;
use crate::plan;
use crate::problem::Problem;
use crate::quantity::{bytes, counted};
use crate::signals::Signals;

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

/// Starts an echo server at `listen` with so many shards, pinned as `cores` says.
///
/// # Errors
/// What the library says about it: the act and the address.
pub(crate) fn start(listen: SocketAddr, shards: usize, cores: &CoreChoice) -> Result<Server, Problem> {
    let cores = match cores {
        CoreChoice::None => Cores::None,
        CoreChoice::All => Cores::All,
        CoreChoice::List(list) => Cores::List(list.clone()),
    };
    let builder = Server::builder().host(listen.ip().to_string()).port(listen.port()).shards(shards).cores(cores);
    builder.queue_size(QUEUE_SIZE).start(|_| Echo).map_err(|error| Problem::Server(error.to_string()))
}

/// Runs an echo server until SIGINT or SIGTERM, then lets it answer what it has received.
///
/// # Errors
/// What stood in the way of its start, or of its end.
pub(crate) fn serve(arguments: &Serve) -> Result<bool, Problem> {
    let signals = Signals::catch().map_err(Problem::Signals)?;
    let machine = Machine::prepare();
    // For its error: a core that does not exist is a wrong usage.
    plan::cores(&arguments.cores, &machine).map_err(Problem::Usage)?;
    let shards = arguments.shards.map_or(machine.cores.len(), usize::from);
    let server = start(arguments.listen, shards, &arguments.cores)?;
    say(&format!("listening on {} with {}, until Ctrl-C", server.local_addr(), counted(shards as u64, "shard")));
    while !signals.came() {
        thread::sleep(LOOK_UP_TIME);
    }
    server.stop();
    let total = server.join().map_err(|error| Problem::Server(error.to_string()))?.total;
    let (received, sent) = (bytes(total.bytes_in), bytes(total.bytes_out));
    let accepted = counted(total.accepted, "connection");
    say(&format!("stopped: {accepted} accepted, {received} received, {sent} sent"));
    Ok(true)
}

/// A line on standard output. Nobody there to read it is no reason to stop serving.
fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}").and_then(|()| stdout().flush());
}

/// Connections that may wait to be accepted at each shard: as many as the kernel allows by default, for load generators
/// come all at once.
const QUEUE_SIZE: u32 = 4096;

/// How long a signal may wait to be noticed.
const LOOK_UP_TIME: Duration = Duration::from_millis(50);
