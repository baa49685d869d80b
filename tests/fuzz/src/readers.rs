//! What loadgen reads: arguments, answers of servers, and results.

use crate::address::Address;
use crate::listen_address::ListenAddress;
use crate::moment::parse_moment;
use crate::protocol::frames::Frames;
use crate::protocol::http::Responses;
use crate::protocol::script::Script;
use crate::quantity::{parse_count, parse_duration, parse_rate, parse_size, span};
use crate::results;
use crate::slo::Slo;
use crate::source_list::SourceList;
use crate::target::Target;

/// Words of a command line. What is read is not too large to be said again.
pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (parse_count(text), parse_size(text), parse_moment(text), Address::named(text).is_ok());
    let _ = (text.parse::<Target>().is_ok(), text.parse::<ListenAddress>().is_ok());
    if let Ok(rate) = parse_rate(text) {
        assert!(rate.is_finite() && rate >= 0.0, "{rate}");
    }
    if let Ok(duration) = parse_duration(text) {
        let _ = span(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
    if let Ok(sources) = text.parse::<SourceList>() {
        assert!(!sources.addresses.is_empty(), "a list that was read has something");
    }
    if let Ok(slo) = text.parse::<Slo>() {
        let _ = (slo.asks_for_rate(), slo.samples_min(), slo.longest_ns(), slo.percentiles().count());
    }
}

/// Answers on one connection, whole and then in two pieces, which must come to the same.
pub fn http_responses(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let whole = answers(&[bytes]);
    let (head, tail) = bytes.split_at(bytes.len().min(usize::from(cut)));
    assert_eq!(whole, answers(&[head, tail]), "wherever it is cut");
    let each: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(whole, answers(&each), "byte by byte");
}

fn answers(pieces: &[&[u8]]) -> (Vec<String>, String) {
    let (mut responses, mut found) = (Responses::default(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match responses.take((0, 0), rest) {
                Ok(Some((response, taken))) => {
                    assert!(taken <= rest.len(), "more than there was");
                    found.push(format!("{response:?}"));
                    rest = &rest[taken..];
                }
                Ok(None) => break,
                Err(kind) => return (found, format!("{kind:?}")),
            }
        }
    }
    let last = responses.end((0, 0)).map(|response| format!("{response:?}"));
    (found, format!("{last:?}"))
}

/// What a WebSocket server sends, whole, cut at a place, and byte by byte.
pub fn server_frames(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let whole = said(&[bytes]);
    let (head, tail) = bytes.split_at(bytes.len().min(usize::from(cut)));
    assert_eq!(whole, said(&[head, tail]), "wherever it is cut");
    let each: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(whole, said(&each), "byte by byte");
}

fn said(pieces: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>, String) {
    let (mut frames, mut said, mut owed) = (Frames::default(), Vec::new(), None);
    for piece in pieces {
        let before = said.len();
        let taken = frames.take(piece, &mut said, &mut owed);
        assert!(said.len() - before <= piece.len(), "more was said than came");
        if let Err(kind) = taken {
            return (said, owed, format!("{kind:?}"));
        }
    }
    (said, owed, String::new())
}

/// What is to be sent and expected, each up to a line's end; behind them what a server answers, whole and in pieces.
pub fn script(data: &[u8]) {
    let mut parts = data.splitn(3, |&byte| byte == b'\n');
    let mut text = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let (Some(send), Some(expect)) = (text(), text()) else { return };
    let Ok(script) = Script::new(send, expect) else { return };
    assert_eq!(script.texts(), [send, expect]);
    let answer = parts.next().unwrap_or_default();
    if answer.is_empty() {
        return;
    }
    let whole = script.advance(0, answer).map_err(drop);
    let mut pieces = Ok((0, 0));
    for byte in answer.chunks(1) {
        let Ok((position, taken)) = pieces else { break };
        if script.is_whole(position) {
            break;
        }
        pieces = script.advance(position, byte).map_err(drop).map(|(position, more)| (position, taken + more));
    }
    assert_eq!(whole, pieces, "wherever it is cut");
}

/// Results that claim to be loadgen's.
pub fn results_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = results::read("a file", text).is_ok();
}
