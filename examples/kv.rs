//! A store of keys and values that speaks a part of Redis's protocol: redis-cli and redis-benchmark work against it.
//!
//! `cargo run --release --example kv`, then `redis-cli -p 1234`, or `redis-benchmark -p 1234 -t set,get,incr -P 16 -q`. Another
//! port: `-- 4321`; and a Unix socket beside it, for `redis-cli -s /tmp/kv.sock`: `-- 4321 /tmp/kv.sock`.
//!
//! One shard, as Redis has one thread: then the store is a plain map of the handler's, without a lock. A command that has
//! not come in whole stays in the input; answers to commands that came together leave together.

use std::collections::HashMap;

use esockets::{Address, Builder, Client, Handler, Peer, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A command with all its arguments is no larger than this.
const COMMAND_MAX: usize = 16 << 20;
/// Arguments of a command.
const ARGUMENTS_MAX: usize = 1 << 16;

#[derive(Default)]
struct Store {
    values: HashMap<Box<[u8]>, Vec<u8>>,
    /// The answer in hand; its memory is used again for the next.
    answer: Vec<u8>,
}

impl Handler for Store {
    type Session = ();
    type Message = ();

    fn handle_incoming(&mut self, _client: &mut Client<'_>, _address: &Peer) -> Option<()> {
        Some(())
    }

    fn handle_readable(&mut self, client: &mut Client<'_>, (): &mut ()) -> bool {
        loop {
            // What is left is shown again, as soon as enough of these has been taken.
            if client.output_waiting() > ANSWERS_WAITING {
                client.resume();
                return true;
            }
            self.answer.clear();
            let goes_on = match parse(client.peek()) {
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

/// With more than this waiting for a client, its commands wait, too.
const ANSWERS_WAITING: usize = 1 << 20;

impl Store {
    /// Writes the answer to a command; false ends the connection.
    fn execute(&mut self, words: &[&[u8]]) -> bool {
        let Some((name, arguments)) = words.split_first() else { return true };
        let answer = &mut self.answer;
        match (name.to_ascii_uppercase().as_slice(), arguments) {
            (b"PING", []) => answer.extend_from_slice(b"+PONG\r\n"),
            (b"PING" | b"ECHO", [text]) => bulk(answer, Some(text)),
            (b"SET", [key, value]) => {
                self.values.insert((*key).into(), value.to_vec());
                answer.extend_from_slice(OK);
            }
            (b"SET", [_, _, ..]) => error(answer, "syntax error: this store knows no options"),
            (b"MSET", pairs) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
                self.values.extend(pairs.chunks(2).map(|pair| (pair[0].into(), pair[1].to_vec())));
                answer.extend_from_slice(OK);
            }
            (b"GET", [key]) => bulk(answer, self.values.get(*key).map(Vec::as_slice)),
            (b"MGET", keys @ [_, ..]) => {
                array(answer, keys.len());
                keys.iter().for_each(|key| bulk(answer, self.values.get(*key).map(Vec::as_slice)));
            }
            (b"DEL", keys @ [_, ..]) => {
                let gone = keys.iter().filter(|key| self.values.remove(**key).is_some()).count();
                integer(answer, gone as i64);
            }
            (b"EXISTS", keys @ [_, ..]) => {
                integer(answer, keys.iter().filter(|key| self.values.contains_key(**key)).count() as i64);
            }
            (b"INCR", [key]) => self.increment(key),
            (b"DBSIZE", []) => integer(answer, self.values.len() as i64),
            (b"FLUSHALL" | b"FLUSHDB", _) => {
                self.values.clear();
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

    fn increment(&mut self, key: &[u8]) {
        let value = self.values.entry(key.into()).or_insert_with(|| b"0".to_vec());
        match str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()?.checked_add(1)) {
            Some(number) => {
                *value = number.to_string().into_bytes();
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

/// The command that `input` begins with; `None` while it is not whole.
///
/// Clients send an array of strings, each with its length in front of it (RESP, <https://redis.io/docs/latest/develop/reference/protocol-spec>);
/// people, a line.
fn parse(input: &[u8]) -> Result<Option<Command<'_>>, &'static str> {
    if input.is_empty() {
        return Ok(None);
    }
    if input[0] != b'*' {
        let Some(length) = input.iter().position(|&byte| byte == b'\n') else {
            return if input.len() > LINE_MAX { Err("too big inline request") } else { Ok(None) };
        };
        let words = input[..length].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Ok(Some(Command { words: words.collect(), length: length + 1 }));
    }
    let Some((count, mut at)) = number(input, 0, ARGUMENTS_MAX)? else { return Ok(None) };
    let mut words = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        match input.get(at) {
            Some(b'$') => {}
            Some(_) => return Err("expected '$'"),
            None => return Ok(None),
        }
        let Some((length, start)) = number(input, at, COMMAND_MAX)? else { return Ok(None) };
        let Some(end) = input.get(start + length..start + length + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err("a string is longer than it says");
        }
        words.push(&input[start..start + length]);
        at = start + length + 2;
    }
    Ok(Some(Command { words, length: at }))
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
    Server::builder().shards(1).input_max(COMMAND_MAX).output_max(4 * COMMAND_MAX).output_low(ANSWERS_WAITING / 2)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().map_or(Ok(1234), |port| port.parse())?;
    let mut builder = builder().listen(Address::tcp("127.0.0.1", port));
    for path in arguments {
        builder = builder.listen(Address::unix(path)); // beside the port
    }
    let server = builder.start(|_shard| Store::default())?;
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
        let [mut slow, mut fast] = [(); 2].map(|()| TestClient::connect_to(&builder(), Store::default()));
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
            let mut client = TestClient::connect_to(&builder(), Store::default());
            client.send(bad.as_bytes());
            assert!(client.received().starts_with(b"-ERR Protocol error") && !client.is_open(), "{bad:?}");
        }
    }
}
