//! What the command line says.

use std::net::SocketAddr;
use std::time::Duration;

use crate::failure::{Result, Tried};
use crate::server::{CONTENDERS, Contender, Setting};

pub(crate) const USAGE: &str = "\
Measures esockets beside the least epoll loop and other libraries, interleaved, and prints a Markdown table.

usage: cargo run --release --manifest-path benches/Cargo.toml [-- [PART]... [OPTION]...]

parts (all, if none is named):
  echo           processor time per echo and echoes a second, by connections and size
  idle           resident memory of the server per idle connection
  connect        connections a second and processor time for each: connect, one echo, close
  tail           latency at a fixed rate, in an open loop
  instructions   user instructions (valgrind) and system calls (strace) per echo
  shards         what a second shard on a second core brings
  broadcast      one message to all connections, beside a bare loop of send calls
  messages       messages between two shards and back, beside bare channels
  timers         what arming and expiring a timer cost, by how many there are

options:
  --rounds N       rounds of each measurement (default 5)
  --quick          one round, short: whether it works, not how fast it is; under a minute
  --servers A,B    only these beside the least loop: esockets esockets-table esockets-session tokio tokio-multi monoio
                   monoio-uring glommio
  --client CORE    `same` core as the server (default: steadier) or the `other`; tail always takes the other
  --limit SECONDS  begin no further round of a measurement after so long (default 300)

serve NAME [--port N] [--cores A,B] [--buffer BYTES] [--tables N]
                 one of the servers alone, until standard input ends
hold ADDRESS N   that many clients of it, for messages to all: what a run starts where one process has not room for them
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Echo,
    Idle,
    Connect,
    Tail,
    Instructions,
    Shards,
    Broadcast,
    Messages,
    Timers,
}

const PARTS: [(&str, Part); 9] = [
    ("echo", Part::Echo),
    ("idle", Part::Idle),
    ("connect", Part::Connect),
    ("tail", Part::Tail),
    ("instructions", Part::Instructions),
    ("shards", Part::Shards),
    ("broadcast", Part::Broadcast),
    ("messages", Part::Messages),
    ("timers", Part::Timers),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCore {
    Same,
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) parts: Vec<Part>,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) client_core: ClientCore,
    pub(crate) limit: Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Help,
    Serve(String, Setting),
    Hold(SocketAddr, usize),
    Measure(Options),
}

pub(crate) fn parse(words: &[String]) -> Result<Command> {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help);
    }
    match words.split_first() {
        Some((first, rest)) if first == "serve" => serve(rest),
        Some((first, [address, count])) if first == "hold" => {
            Ok(Command::Hold(number("hold", Some(address))?, number("hold", Some(count))?))
        }
        _ => measure(words),
    }
}

fn serve(words: &[String]) -> Result<Command> {
    let mut words = words.iter();
    let name = words.next().ok_or("serve: which server?")?;
    let mut setting = Setting { port: 0, cores: Vec::new(), tables: 1, buffer: 4096 };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--port" => setting.port = number(word, words.next())?,
            "--buffer" => setting.buffer = number(word, words.next())?,
            "--tables" => setting.tables = number::<usize>(word, words.next())?.max(1),
            "--cores" => {
                let list = words.next().ok_or("--cores: which?")?;
                setting.cores =
                    list.split(',').map(|core| number(word, Some(&core.to_owned()))).collect::<Result<_>>()?;
            }
            _ => return Err(format!("serve: what is {word:?}?")),
        }
    }
    Ok(Command::Serve(name.clone(), setting))
}

fn measure(words: &[String]) -> Result<Command> {
    let mut options = Options {
        parts: Vec::new(),
        rounds: 5,
        quick: false,
        contenders: CONTENDERS.to_vec(),
        client_core: ClientCore::Same,
        limit: Duration::from_secs(300),
    };
    let mut rounds = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => rounds = Some(number::<usize>(word, words.next())?.max(1)),
            "--quick" => options.quick = true,
            "--limit" => options.limit = Duration::from_secs(number(word, words.next())?),
            "--servers" => options.contenders = contenders(words.next().ok_or("--servers: which?")?)?,
            "--client" => {
                options.client_core = match words.next().map(String::as_str) {
                    Some("same") => ClientCore::Same,
                    Some("other") => ClientCore::Other,
                    other => return Err(format!("--client is `same` or `other`, not {other:?}")),
                };
            }
            _ => match PARTS.iter().find(|(name, _)| name == word) {
                Some((_, part)) => options.parts.push(*part),
                None => return Err(format!("what is {word:?}? --help tells what there is")),
            },
        }
    }
    if options.parts.is_empty() {
        options.parts = PARTS.iter().map(|(_, part)| *part).collect();
    }
    options.rounds = rounds.unwrap_or(if options.quick { 1 } else { options.rounds });
    Ok(Command::Measure(options))
}

/// The least loop, twice, is always among them: without it there is no ratio and no noise floor.
fn contenders(list: &str) -> Result<Vec<Contender>> {
    let wanted: Vec<&str> = list.split(',').collect();
    if let Some(unknown) = wanted.iter().find(|name| CONTENDERS.iter().all(|contender| contender.name != **name)) {
        return Err(format!("--servers: there is no {unknown:?} in this build"));
    }
    let chosen = |contender: &&Contender| contender.name == "least" || wanted.contains(&contender.name);
    Ok(CONTENDERS.iter().filter(chosen).copied().collect())
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(option: &str, word: Option<&String>) -> Result<T> {
    let word = word.ok_or_else(|| format!("{option}: how many?"))?;
    word.parse().tried(|| format!("{option} {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_means_everything() {
        let Ok(Command::Measure(options)) = parsed("") else { panic!("it measures") };
        assert_eq!((options.parts.len(), options.rounds, options.contenders.len()), (PARTS.len(), 5, CONTENDERS.len()));
    }

    #[test]
    fn quick_is_one_round_unless_told_otherwise() {
        let Ok(Command::Measure(options)) = parsed("echo --quick") else { panic!("it measures") };
        assert_eq!((options.rounds, options.parts.as_slice()), (1, [Part::Echo].as_slice()));
        let Ok(Command::Measure(options)) = parsed("--quick --rounds 3") else { panic!("it measures") };
        assert_eq!(options.rounds, 3);
    }

    #[test]
    fn the_least_loop_is_always_there_twice() {
        let Ok(Command::Measure(options)) = parsed("--servers esockets") else { panic!("it measures") };
        let names: Vec<_> = options.contenders.iter().map(|contender| contender.title).collect();
        assert_eq!(names, ["least", "least again", "esockets"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(parsed("--servers nobody").is_err_and(|error| error.contains("nobody")));
        assert!(parsed("echos").is_err_and(|error| error.contains("echos")));
        assert!(parsed("--rounds many").is_err_and(|error| error.contains("--rounds many")));
    }
}
