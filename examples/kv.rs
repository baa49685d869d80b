//! A store of keys and values that speaks a part of Redis's protocol: redis-cli and redis-benchmark work against it.
//!
//! `cargo run --release --example kv`, then `redis-cli -p 1234`, or `redis-benchmark -p 1234 -t set,get,incr -P 16 -q`. Another
//! port: `-- 4321`; and a Unix socket beside it, for `redis-cli -s /tmp/kv.sock`: `-- 4321 /tmp/kv.sock`.
//!
//! One shard, as Redis has one thread: then the store is a plain map of the handler's, without a lock. A command that has
//! not come in whole stays in the input; answers to commands that came together leave together.
//!
//! Whatever clients do, the store keeps no more than `MEMORY_MAX`, and each of them makes it hold `COMMAND_MAX` of input and
//! `OUTPUT_MAX` of answers beside that at the most.

use std::collections::HashMap;
use std::ops::Range;

use esockets::{Address, Builder, Client, Handler, Peer, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A command with all its arguments is no larger than this.
const COMMAND_MAX: usize = 16 << 20;
/// Arguments of a command.
const ARGUMENTS_MAX: usize = 1 << 16;
/// What may wait for a client that does not read.
const OUTPUT_MAX: usize = 4 * COMMAND_MAX;
/// With more than this waiting for a client, its commands wait, too.
const ANSWERS_WAITING: usize = 1 << 20;
/// So one answer always fits if it is no longer; a short command can ask for a much longer one.
const ANSWER_MAX: usize = OUTPUT_MAX - ANSWERS_WAITING;
/// All keys and values, what they cost beside their bytes included. Looked at before a command, as Redis does it with its
/// `maxmemory`: one command may exceed it, none that follows.
const MEMORY_MAX: usize = 1 << 30;
/// What the map and the allocator take for a key and its value, beside their bytes.
const ENTRY_BYTES: usize = 128;

struct Store {
    values: HashMap<Box<[u8]>, Box<[u8]>>,
    memory_used: usize,
    memory_max: usize,
    /// The answer in hand; its memory is used again for the next.
    answer: Vec<u8>,
}

impl Handler for Store {
    type Session = Progress;
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<Progress> {
        Some(Progress::default())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, progress: &mut Progress) -> bool {
        loop {
            // What is left is shown again, as soon as enough of these has been taken.
            if client.output_waiting() > ANSWERS_WAITING {
                client.resume();
                return true;
            }
            self.answer.clear();
            self.answer.shrink_to(ANSWERS_WAITING); // what a long one took is not kept
            let goes_on = match progress.parse(client.peek()) {
                Ok(Some(Command { words, length })) => {
                    let goes_on = self.execute(&words);
                    client.consume(length);
                    goes_on
                }
                Ok(None) => return true,
                Err(why) => {
                    error(&mut self.answer, &format!("Protocol error: {why}"));
                    client.recv();
                    false
                }
            };
            if !client.send(&self.answer) || !goes_on {
                return false;
            }
        }
    }
}

impl Store {
    fn new(memory_max: usize) -> Store {
        Store { values: HashMap::new(), memory_used: 0, memory_max, answer: Vec::new() }
    }

    /// Writes the answer to a command; false ends the connection.
    fn execute(&mut self, words: &[&[u8]]) -> bool {
        let Some((name, arguments)) = words.split_first() else { return true };
        let answer = &mut self.answer;
        match (name.to_ascii_uppercase().as_slice(), arguments) {
            // A web page can have a browser send these, and then a body that is commands: as Redis does, hang up.
            (b"POST" | b"HOST:", _) => return false,
            (b"SET" | b"MSET" | b"INCR", _) if self.memory_used > self.memory_max => {
                answer.extend_from_slice(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n");
            }
            (b"PING", []) => answer.extend_from_slice(b"+PONG\r\n"),
            (b"PING" | b"ECHO", [text]) => bulk(answer, Some(text)),
            (b"SET", [key, value]) => {
                self.set(key, value);
                self.answer.extend_from_slice(OK);
            }
            (b"SET", [_, _, ..]) => error(answer, "syntax error: this store knows no options"),
            (b"MSET", pairs) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
                pairs.chunks(2).for_each(|pair| self.set(pair[0], pair[1]));
                self.answer.extend_from_slice(OK);
            }
            (b"GET", [key]) => bulk(answer, self.values.get(*key).map(Box::as_ref)),
            (b"MGET", keys @ [_, ..]) => self.get_many(keys),
            (b"DEL", keys @ [_, ..]) => {
                let gone = keys.iter().filter(|key| self.remove(key)).count();
                integer(&mut self.answer, gone as i64);
            }
            (b"EXISTS", keys @ [_, ..]) => {
                integer(answer, keys.iter().filter(|key| self.values.contains_key(**key)).count() as i64);
            }
            (b"INCR", [key]) => self.increment(key),
            (b"DBSIZE", []) => integer(answer, self.values.len() as i64),
            (b"FLUSHALL" | b"FLUSHDB", _) => {
                self.values = HashMap::new(); // `clear` would keep the table
                self.memory_used = 0;
                answer.extend_from_slice(OK);
            }
            (b"SELECT", [b"0"]) => answer.extend_from_slice(OK),
            // What redis-cli and redis-benchmark ask before they begin.
            (b"COMMAND" | b"CONFIG", _) => array(answer, 0),
            (b"QUIT", []) => {
                answer.extend_from_slice(OK);
                return false;
            }
            _ => error(answer, &format!("unknown command '{}', or not with so many arguments", printable(name))),
        }
        true
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.memory_used += ENTRY_BYTES + key.len() + value.len();
        if let Some(old) = self.values.insert(key.into(), value.into()) {
            self.memory_used -= ENTRY_BYTES + key.len() + old.len();
        }
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let old = self.values.remove(key);
        self.memory_used -= old.as_ref().map_or(0, |old| ENTRY_BYTES + key.len() + old.len());
        old.is_some()
    }

    /// One value may be asked for many times: what that comes to is known before any of it is copied.
    fn get_many(&mut self, keys: &[&[u8]]) {
        let values = || keys.iter().map(|key| self.values.get(*key).map(Box::as_ref));
        let length: usize = values().map(|value| BULK_BYTES + value.map_or(0, <[u8]>::len)).sum();
        if length > ANSWER_MAX - BULK_BYTES {
            return error(&mut self.answer, &format!("answer exceeds maximum allowed size ({ANSWER_MAX} bytes)"));
        }
        array(&mut self.answer, keys.len());
        values().for_each(|value| bulk(&mut self.answer, value));
    }

    fn increment(&mut self, key: &[u8]) {
        let text = self.values.get(key).map_or(Ok("0"), |value| str::from_utf8(value)).ok();
        match text.and_then(|text| text.parse::<i64>().ok()?.checked_add(1)) {
            Some(number) => {
                self.set(key, number.to_string().as_bytes());
                integer(&mut self.answer, number);
            }
            None => error(&mut self.answer, "value is not an integer or out of range"),
        }
    }
}

const OK: &[u8] = b"+OK\r\n";

/// What a client asks for.
struct Command<'a> {
    /// Its name and its arguments.
    words: Vec<&'a [u8]>,
    /// How much of the input it takes.
    length: usize,
}

/// How far the command that is coming in has been understood: many pieces of it are not each looked at from its front.
#[derive(Default)]
struct Progress {
    /// Where to go on.
    at: usize,
    /// How many words there will be, and where those are that have come in.
    count: usize,
    words: Vec<Range<usize>>,
}

impl Progress {
    /// The command that `input` begins with; `None` while it is not whole, then `input` is shown again with what follows.
    ///
    /// Clients send an array of strings, each with its length in front of it (RESP,
    /// <https://redis.io/docs/latest/develop/reference/protocol-spec>); people, a line.
    fn parse<'a>(&mut self, input: &'a [u8]) -> Result<Option<Command<'a>>, &'static str> {
        let command = match input.first() {
            None => None,
            Some(b'*') => self.array(input)?,
            Some(_) => self.line(input)?,
        };
        if command.is_some() {
            *self = Progress::default();
        }
        Ok(command)
    }

    fn line<'a>(&mut self, input: &'a [u8]) -> Result<Option<Command<'a>>, &'static str> {
        let Some(found) = input[self.at..].iter().position(|&byte| byte == b'\n') else {
            self.at = input.len();
            return if input.len() > LINE_MAX { Err("too big inline request") } else { Ok(None) };
        };
        let length = self.at + found;
        let words = input[..length].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        Ok(Some(Command { words: words.collect(), length: length + 1 }))
    }

    fn array<'a>(&mut self, input: &'a [u8]) -> Result<Option<Command<'a>>, &'static str> {
        if self.at == 0 {
            let Some((count, at)) = number(input, 0, ARGUMENTS_MAX)? else { return Ok(None) };
            (self.count, self.at) = (count, at);
        }
        while self.words.len() < self.count {
            match input.get(self.at) {
                Some(b'$') => {}
                Some(_) => return Err("expected '$'"),
                None => return Ok(None),
            }
            let Some((length, start)) = number(input, self.at, COMMAND_MAX)? else { return Ok(None) };
            let Some(end) = input.get(start + length..start + length + 2) else { return Ok(None) };
            if end != b"\r\n" {
                return Err("a string is longer than it says");
            }
            self.words.push(start..start + length);
            self.at = start + length + 2;
        }
        let words = self.words.iter().map(|word| &input[word.clone()]).collect();
        Ok(Some(Command { words, length: self.at }))
    }
}

/// A line without its length in front.
const LINE_MAX: usize = 64 << 10;
/// A number has no more digits.
const DIGITS_MAX: usize = 20;

/// The number behind the sign at `at`, and where the line behind it ends.
fn number(input: &[u8], at: usize, most: usize) -> Result<Option<(usize, usize)>, &'static str> {
    let line = &input[at + 1..];
    let Some(length) = line.iter().take(DIGITS_MAX).position(|&byte| byte == b'\r') else {
        return if line.len() < DIGITS_MAX { Ok(None) } else { Err("invalid length") };
    };
    match line.get(length + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err("invalid length"),
    }
    let digits = &line[..length];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("invalid length");
    }
    let number = str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    let number = number.filter(|number| *number <= most).ok_or("invalid length")?;
    Ok(Some((number, at + 1 + length + 2)))
}

/// What a value takes in an answer beside its bytes: a sign, its length and two ends of lines.
const BULK_BYTES: usize = 1 + DIGITS_MAX + 4;

fn bulk(answer: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            answer.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
            answer.extend_from_slice(value);
            answer.extend_from_slice(b"\r\n");
        }
        None => answer.extend_from_slice(b"$-1\r\n"),
    }
}

fn integer(answer: &mut Vec<u8>, number: i64) {
    answer.extend_from_slice(format!(":{number}\r\n").as_bytes());
}

fn array(answer: &mut Vec<u8>, length: usize) {
    answer.extend_from_slice(format!("*{length}\r\n").as_bytes());
}

fn error(answer: &mut Vec<u8>, why: &str) {
    answer.extend_from_slice(format!("-ERR {why}\r\n").as_bytes());
}

/// The name of a command as it can stand in an answer, which ends with its line.
fn printable(name: &[u8]) -> String {
    name.iter().take(64).map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' }).collect()
}

fn builder() -> Builder {
    Server::builder().shards(1).input_max(COMMAND_MAX).output_max(OUTPUT_MAX).output_low(ANSWERS_WAITING / 2)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(1234), |port| port.parse())?;
    let mut builder = builder().listen(Address::tcp("127.0.0.1", port));
    for path in arguments {
        builder = builder.listen(Address::unix(path)); // beside the port
    }
    let server = builder.start(|_shard| Store::new(MEMORY_MAX))?;
    println!("listening on {}", server.local_addr());
    signals.forever().next();
    // What was sent is flushed, and the Unix socket's file is removed.
    server.stop();
    server.join()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use esockets::testing::TestClient;

    /// The answer to `input`, come byte by byte or at once, which makes no difference.
    fn answer(input: &[u8]) -> String {
        let [mut slow, mut fast] = [(); 2].map(|()| TestClient::connect_to(&builder(), Store::new(MEMORY_MAX)));
        input.iter().for_each(|byte| slow.send(&[*byte]));
        fast.send(input);
        let [slow, fast] = [slow.received(), fast.received()].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(slow, fast);
        fast
    }

    #[test]
    fn what_is_set_is_got() {
        assert_eq!(
            answer(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\0x\r\nget k\r\nGET none\n"),
            "+OK\r\n$4\r\n\r\n\0x\r\n$-1\r\n"
        );
        assert_eq!(answer(b"MSET a 1 b 2\nMGET b a c\n"), "+OK\r\n*3\r\n$1\r\n2\r\n$1\r\n1\r\n$-1\r\n");
        assert_eq!(answer(b"SET a 1\nEXISTS a a b\nDEL a b\nDBSIZE\n"), "+OK\r\n:2\r\n:1\r\n:0\r\n");
        assert_eq!(
            answer(b"INCR n\nINCR n\nSET n x\nINCR n\n").lines().nth(3),
            Some("-ERR value is not an integer or out of range")
        );
    }

    #[test]
    fn an_empty_command_has_no_answer_and_an_unknown_one_an_error() {
        assert_eq!(answer(b"\r\n*0\r\nPING\n"), "+PONG\r\n");
        assert!(answer(b"b\x07d x y\nPING\n").starts_with("-ERR unknown command 'b?d'"));
    }

    #[test]
    fn what_is_no_command_ends_the_connection() {
        for bad in
            ["*x\r\n", "*1\r\nx", "*1\r\n$-1\r\n", "*99999999\r\n", "*1\r\n$3\r\nabcd\r\n", "*123456789012345678901234"]
        {
            let mut client = TestClient::connect_to(&builder(), Store::new(MEMORY_MAX));
            client.send(bad.as_bytes());
            assert!(client.received().starts_with(b"-ERR Protocol error") && !client.is_open(), "{bad:?}");
        }
    }

    /// A client of a store that keeps no more than so much.
    fn client(memory_max: usize) -> TestClient<Store> {
        TestClient::connect_to(&builder(), Store::new(memory_max))
    }

    #[test]
    fn many_pieces_are_each_looked_at_once() {
        let mut client = client(MEMORY_MAX);
        client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nab");
        let progress = client.session().unwrap();
        assert_eq!((progress.at, progress.words.as_slice()), (20, &[8..11, 17..18][..]));
        client.send(b"cd\r\nPIN");
        assert_eq!((client.session().unwrap().at, client.received()), (3, b"+OK\r\n".to_vec()));
        client.send(b"G\r\n");
        assert_eq!((client.session().unwrap().at, client.received()), (0, b"+PONG\r\n".to_vec()));
    }

    #[test]
    fn a_value_asked_for_many_times_is_no_answer_without_bounds() {
        let mut client = client(MEMORY_MAX);
        let value = "x".repeat(1 << 20);
        client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len()).as_bytes());
        assert_eq!(client.received(), b"+OK\r\n");
        client.send(format!("MGET {}\r\n", "k ".repeat(62)).as_bytes());
        assert!(client.received().len() > 62 * value.len());
        client.send(format!("MGET {}\r\n", "k ".repeat(1000)).as_bytes());
        assert!(client.received().starts_with(b"-ERR answer exceeds") && client.is_open());
    }

    #[test]
    fn a_full_store_takes_nothing_more_until_something_is_gone() {
        let mut client = client(3 * ENTRY_BYTES);
        client.send(b"MSET a 1 b 2 c 3\r\nSET a 2\r\nINCR n\r\nMSET d 4\r\nGET a\r\n");
        let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n".repeat(3);
        assert_eq!(String::from_utf8(client.received()).unwrap(), format!("+OK\r\n{oom}$1\r\n1\r\n"));
        client.send(b"DEL b none\r\nINCR n\r\nINCR n\r\n");
        assert!(client.received().starts_with(b":1\r\n:1\r\n-OOM"));
        client.send(b"FLUSHALL\r\nSET a 1\r\n");
        assert_eq!(client.received(), b"+OK\r\n".repeat(2));
        client.send(b"SET a 123\r\nDEL a\r\n");
        assert_eq!(client.handler().memory_used, 0);
    }

    #[test]
    fn what_a_web_page_has_a_browser_send_is_no_commands() {
        for start in ["POST / HTTP/1.1\r\n", "PUT / HTTP/1.1\r\nHost: here:1234\r\n"] {
            let mut client = client(MEMORY_MAX);
            client.send(format!("{start}Content-Length: 9\r\n\r\nSET k v\r\n").as_bytes());
            assert!(!client.is_open() && client.handler().values.is_empty(), "{start}");
        }
    }
}
