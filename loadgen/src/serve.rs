//! The command `serve`: an echo server with as many shards as its connections need, until a signal.

use std::io::{Write, stdout};
use std::thread;
use std::time::Duration;

use esockets::{LocalAddr, Server};

use crate::address::Address;
use crate::args::Serve;
use crate::echo;
use crate::layout;
use crate::listen_address::ListenAddress;
use crate::machine::{Machine, Resident};
use crate::plan;
use crate::preflight;
use crate::problem::Problem;
use crate::quantity::{bytes, count, counted};
use crate::report::Exit;
use crate::signals::{Asked, Signals};

/// Runs an echo server until SIGINT or SIGTERM, then lets it answer what it has received.
///
/// # Errors
/// What stood in the way of its start, or of its end.
pub(crate) fn serve(arguments: &Serve) -> Result<Exit, Problem> {
    let signals = Signals::catch().map_err(Problem::Signals)?;
    let asked = Asked::catch().map_err(Problem::Signals)?;
    let machine = Machine::prepare();
    // For its error, which names the core that this machine does not have.
    plan::cores_of(&arguments.cores, &machine).map_err(Problem::Machine)?;
    let tables = Tables::new(arguments, &machine);
    let listen: Result<Vec<Address>, String> = arguments.listen.iter().map(ListenAddress::resolve).collect();
    let server = echo::start(&listen.map_err(Problem::Resolve)?, tables.shards, &arguments.cores, tables.are_own)?;
    if let Some(sum) = tables.sum {
        say(&sum);
    }
    let addresses: Vec<String> = server.local_addrs().iter().map(LocalAddr::to_string).collect();
    let shards = counted(tables.shards as u64, "shard");
    say(&format!("listening on {} with {shards}, until Ctrl-C", addresses.join(" and ")));
    let resident = Resident::open();
    let mut memory = Memory { begin_bytes: resident.bytes(), ..Memory::default() };
    while !signals.came() {
        thread::sleep(LOOK_UP_TIME);
        memory.look(&server, &resident);
        if asked.again() {
            let (open_max, peak_bytes) = (server.stats().total.open(), resident.bytes());
            say(&Memory { open_max, peak_bytes, ..memory }.to_string());
        }
    }
    server.stop();
    let total = server.join().map_err(|error| Problem::Server(error.to_string()))?.total;
    let (received, sent) = (bytes(total.bytes_in), bytes(total.bytes_out));
    let accepted = counted(total.accepted, "connection");
    say(&format!("stopped: {accepted} accepted, {received} received, {sent} sent; at the peak {memory}"));
    if let Some(line) = shortage((total.accept_pauses, total.refused()), arguments.connections_max, &machine) {
        say(&line);
    }
    Ok(Exit::Ok)
}

/// What a server says that could not take all who came, where it was to have room for `wanted`.
fn shortage((pauses, refused): (u64, u64), wanted: Option<u64>, machine: &Machine) -> Option<String> {
    let mut parts = Vec::new();
    if pauses > 0 {
        let (times, limit) = (counted(pauses, "time"), count(machine.descriptors_max));
        let remedy = match wanted {
            None => "try --connections-max, or more with `ulimit -n`".to_owned(),
            Some(wanted) => format!(
                "more came than --connections-max {wanted} and this limit have room for: try more of either, the latter \
                 with `ulimit -n`"
            ),
        };
        parts.push(format!("accepting paused {times}, out of descriptors (a table holds {limit}): {remedy}"));
    }
    if refused > 0 {
        parts.push(format!("{} refused", counted(refused, "connection")));
    }
    (!parts.is_empty()).then(|| format!("short: {}", parts.join("; ")))
}

/// How many shards the server has, whether each has a descriptor table of its own, and the sum behind that.
struct Tables {
    shards: usize,
    are_own: bool,
    sum: Option<String>,
}

impl Tables {
    fn new(arguments: &Serve, machine: &Machine) -> Tables {
        let (wish, limit) = (arguments.shards.map(usize::from), machine.descriptors_max);
        let usual = machine.cores.len();
        let Some(connections) = arguments.connections_max else {
            return Tables { shards: wish.unwrap_or(usual), are_own: false, sum: None };
        };
        if layout::shares_table(wish.unwrap_or(usual), connections, limit) {
            return Tables { shards: wish.unwrap_or(usual), are_own: false, sum: None };
        }
        let suitable = layout::shards_for(connections, usual, limit);
        let shards = wish.unwrap_or(suitable);
        let mut sum = layout::shards_sum(shards, connections, limit);
        let hold = layout::shards_hold(shards, limit);
        if hold < connections {
            let remedy = match layout::shards_hold(suitable, limit) >= connections {
                true => format!("it takes {} shards", count(suitable as u64)),
                false => {
                    let needed = layout::shards_limit(connections, wish);
                    format!("for more: {}", preflight::more_descriptors(needed, "this shell", machine))
                }
            };
            sum += &format!(": only about {} fit; {remedy}", count(hold));
        }
        Tables { shards, are_own: true, sum: Some(sum) }
    }
}

/// The server's memory when most connections were open.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    begin_bytes: u64,
    open_max: u64,
    peak_bytes: u64,
}

impl Memory {
    fn look(&mut self, server: &Server, resident: &Resident) {
        let open = server.stats().total.open();
        if open > self.open_max {
            (self.open_max, self.peak_bytes) = (open, resident.bytes());
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} open, {} resident", count(self.open_max), bytes(self.peak_bytes))?;
        if self.open_max == 0 {
            return Ok(());
        }
        let (all, more) = (self.peak_bytes, self.peak_bytes.saturating_sub(self.begin_bytes));
        let each = |bytes: u64| bytes as f64 / self.open_max as f64;
        write!(
            f,
            ": {:.1} bytes each, {:.1} without the {} before the first",
            each(all),
            each(more),
            bytes(self.begin_bytes)
        )
    }
}

/// A line on standard output. Nobody there to read it is no reason to stop serving.
fn say(line: &str) {
    let _ = writeln!(stdout(), "{line}").and_then(|()| stdout().flush());
}

/// How long a signal may wait to be noticed.
const LOOK_UP_TIME: Duration = Duration::from_millis(50);
