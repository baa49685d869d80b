//! The commands `rr`, `open`, `churn` and `hold`: a load on somebody's server, from the command line to the report.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::args::Load;
use crate::churn::{Churn, Close};
use crate::echo;
use crate::layers::Layers;
use crate::machine::{Machine, is_own_address};
use crate::output::{Outlet, RUN};
use crate::plan::{Plan, given_sources};
use crate::preflight;
use crate::problem::Problem;
use crate::protocol::Protocol;
use crate::protocol::frames::Shape;
use crate::protocol::http::Http;
use crate::protocol::script::Script;
use crate::report::Exit;
use crate::run::Run;
use crate::signals::Signals;
use crate::stage::Stage;
use crate::target::{Scheme, Target};
use crate::timetable::Timetable;

/// Runs `load` on `targets`, or on a server inside this process if there are none, through `stages`, after its connections
/// are opened, and writes the results. Returns how it went.
///
/// # Errors
/// What stood in the way of the run.
pub(crate) fn run(targets: &[Target], load: &Load, stages: &[Stage]) -> Result<Exit, Problem> {
    let signals = Signals::catch().map_err(Problem::Signals)?;
    let machine = Machine::prepare();
    let timetable = Timetable::new(load, SystemTime::now())?;
    let churn = stages.iter().find_map(|stage| stage.churn());
    let plan = plan(targets, load, churn, &machine)?;
    preflight::check(&plan, &machine)?;
    let mut outlet = Outlet::open(&load.output, RUN, &signals)?;
    let (server, plan) = if plan.is_server_inside() {
        let (server, plan) = echo::start_inside(plan)?;
        (Some(server), plan)
    } else {
        (None, plan)
    };
    let doubts = preflight::doubts(&plan, &machine);
    let mut run = Run::start(plan, machine, &signals, load.output.quiet)?;
    run.say(&doubts);
    if churn.is_none() {
        run.stage(Stage::Connect)?;
    }
    for stage in stages {
        if !stage.is_measured() {
            // Of those that are no measurement, a hold has a duration, and a verification is done before.
            run.stage_at(*stage, stage.duration().and(timetable.run(0)))?;
            continue;
        }
        if let Some(duration) = load.warmup {
            run.warm_up(stage.lasting(duration), timetable.warm_up())?;
        }
        for number in 0..load.runs {
            run.stage_at(*stage, timetable.run(number))?;
        }
    }
    let mut report = run.finish();
    report.slo.clone_from(&load.slo);
    report.server = server.map(echo::stop_inside).transpose()?;
    outlet.write(&report, "")?;
    Ok(report.exit())
}

/// The plan for `load` on `targets`.
///
/// # Errors
/// A target without an address, a source that is not this machine's, a wish that cannot be granted.
pub(crate) fn plan(targets: &[Target], load: &Load, churn: Option<Churn>, machine: &Machine) -> Result<Plan, Problem> {
    if churn.is_some() && load.connect_rate.is_some() {
        let sentence = "--connect-rate is for connections that stay; those that come and go have -R";
        return Err(Problem::Usage(sentence.to_owned()));
    }
    let targets = by_unix_socket(targets, load).map_err(Problem::Usage)?;
    let targets = targets.as_slice();
    let resolved: Result<Vec<_>, _> = targets.iter().map(|target| target.resolve(load.timeout)).collect();
    let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let name = if names.is_empty() { "an echo server in this process".to_owned() } else { names.join(", ") };
    if !load.shard.is_whole() {
        shared(targets, load).map_err(Problem::Usage)?;
    }
    let mut given = given_sources(load).into_iter().flatten();
    if let Some(stranger) = given.find(|address| !is_own_address(**address)) {
        let remedy = format!("`sudo ip address add {stranger} dev lo` would make it one, until the next start");
        return Err(Problem::Machine(format!("--source {stranger} is no address of this machine; {remedy}")));
    }
    let closes = churn.is_some_and(|churn| churn.close == Close::Server);
    let protocol = protocol(targets, load, closes).map_err(Problem::Usage)?;
    let seed = load.seed.unwrap_or_else(fresh_seed);
    let shape = if matches!(protocol, Protocol::Script(_)) { Shape::Text } else { Shape::Binary };
    let layers = Layers::new(targets, &load.trust, shape, seed).map_err(Problem::Usage)?;
    if layers.websocket.is_some() && closes {
        let sentence =
            "--close server is for HTTP: nothing asks the server of a WebSocket to close it; --close client or reset";
        return Err(Problem::Usage(sentence.to_owned()));
    }
    let mut plan = Plan::new(load, (name, resolved.map_err(Problem::Resolve)?, protocol), machine, seed)?;
    plan.layers = layers;
    Ok(match churn {
        Some(churn) => {
            plan.with_churn(churn, load.warmup.unwrap_or_default() + load.duration * load.runs.into(), machine)
        }
        None => plan,
    })
}

/// `targets`, over the Unix socket of `load` if it names one.
fn by_unix_socket(targets: &[Target], load: &Load) -> Result<Vec<Target>, String> {
    let Some(unix) = &load.unix_socket else { return Ok(targets.to_vec()) };
    if targets.is_empty() || targets.iter().any(|target| target.path.is_none()) {
        return Err(format!(
            "--unix-socket is for http:// and ws:// targets; for other servers the target itself is {unix}"
        ));
    }
    Ok(targets.iter().map(|target| Target { unix: Some(unix.clone()), ..target.clone() }).collect())
}

/// Whether a load that several processes share has what they must have in common.
fn shared(targets: &[Target], load: &Load) -> Result<(), String> {
    let shard = load.shard;
    if targets.is_empty() {
        return Err(format!("--shard {shard} without a target: shards of one load need a server outside of them"));
    }
    if load.seed.is_none() {
        return Err(format!(
            "--shard {shard} without --seed: give all shards the same, such as --seed 1, for it decides which bytes are \
             whose, so that one shard's bytes are known in another one's replies, and which arrivals are whose"
        ));
    }
    Ok(())
}

/// What `load` speaks with `targets`; where it is HTTP, the server may be asked to close behind each response.
fn protocol(targets: &[Target], load: &Load, closes: bool) -> Result<Protocol, String> {
    let http = targets.iter().filter(|target| target.scheme == Scheme::Http);
    let paths: Vec<&str> = http.filter_map(|target| target.path.as_deref()).collect();
    let script = load.send.as_deref().zip(load.expect.as_deref());
    match (script, paths.len()) {
        (Some(_), 1..) => Err("http:// has requests and replies of its own: leave out --send and --expect".to_owned()),
        (Some((send, expect)), _) => Ok(Protocol::Script(Arc::new(Script::new(send, expect)?))),
        (None, 0) => Ok(Protocol::Echo { size: load.size.unwrap_or(SIZE_USUAL) }),
        (None, _) if load.size.is_some() => {
            Err("-s is the size of a message to be echoed, and an HTTP request has none: leave it out; what a response has is \
                 the server's affair"
                .to_owned())
        }
        (None, http) if http < targets.len() => {
            Err("some targets are http:// and others are not: measure one kind".to_owned())
        }
        _ => Ok(Protocol::Http(Arc::new(Http::new(targets.iter().map(Target::authority).zip(paths), closes)))),
    }
}

/// Bytes in a message, if nothing else is said: see the help of `--size`.
const SIZE_USUAL: u32 = 64;

/// What every reader of JSON keeps to the last digit: a double's whole numbers.
const SEED_MAX: u64 = (1 << 53) - 1;

/// A number that no other run has: the time, in nanoseconds, and the process.
pub(crate) fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32)) & SEED_MAX
}
