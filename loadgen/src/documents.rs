//! Files with results: their text, of which no more is read than results can be, and the JSON objects in it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Deserializer;
use serde_json::value::RawValue;

/// The text of the file at `path`, which may be a pipe.
///
/// # Errors
/// A sentence: what the kernel said, or that it cannot be results.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    let name = path.display();
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!(
            "{name}: it is longer than {} MiB, more than is read of one file: give results of so many runs in several",
            BYTES_MAX >> 20
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("{name}: it is no text: byte {} is not UTF-8, and JSON is", at + 1)
    })
}

/// The JSON objects in `text`: one or several behind each other, between which lines may stand that begin with anything else.
///
/// # Errors
/// A sentence: that there is none, or where one is broken.
pub(crate) fn objects(text: &str) -> Result<Vec<&RawValue>, String> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start();
        if !rest.starts_with('{') {
            match rest.find("\n{") {
                Some(at) => rest = &rest[at + 1..],
                None if found.is_empty() => return Err("it has no JSON object".to_owned()),
                None => return Ok(found),
            }
        }
        let mut values = Deserializer::from_str(rest).into_iter();
        match values.next() {
            Some(Ok(value)) => found.push(value),
            Some(Err(error)) => return Err(broken(&text[..text.len() - rest.len()], &error)),
            None => return Ok(found),
        }
        rest = &rest[values.byte_offset()..];
    }
}

/// What is wrong with an object that stands behind `before`, and where in the file.
fn broken(before: &str, error: &serde_json::Error) -> String {
    let line = before.matches('\n').count() + error.line();
    let indent = if error.line() == 1 { before.len() - before.rfind('\n').map_or(0, |at| at + 1) } else { 0 };
    let column = indent + error.column();
    let whole = error.to_string();
    let why = whole.split(" at line ").next().unwrap_or(&whole);
    let hint = if error.is_eof() { ": was it written to its end?" } else { "" };
    format!("it is no JSON at line {line}, column {column}: {why}{hint}")
}

/// Results of a run take some 100 KiB; those of a thousand pods, in one log, are less than this.
const BYTES_MAX: u64 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_stand_behind_each_other_and_other_lines_between_them() {
        let found = objects("{\"a\": 1}\n{\n\"b\": {}\n}{\"c\": 3}\nloadgen: a line\n{\"d\": 4}\nthe end\n").unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[3].get(), "{\"d\": 4}");
        assert!(objects("loadgen: none").unwrap_err().contains("no JSON object"));
        assert!(objects("").is_err());
    }

    #[test]
    fn what_is_broken_is_told_with_its_place_in_the_file() {
        let why = |text: &str| objects(text).unwrap_err();
        assert_eq!(
            why("{\"a\": 1}\n{\"b\": "),
            "it is no JSON at line 2, column 6: EOF while parsing a value: was it written to its end?"
        );
        assert_eq!(why("a line\n{\"a\": 1}{\n\"b\" 1}"), "it is no JSON at line 3, column 5: expected `:`");
        assert_eq!(why("{\"a\": 1}  {\"b\" 1}"), "it is no JSON at line 1, column 16: expected `:`");
    }

    #[test]
    fn no_more_is_read_than_results_can_be() {
        let why = text(Path::new("/dev/zero")).unwrap_err();
        assert!(why.starts_with("/dev/zero: it is longer than 128 MiB, more than is read of one file"), "{why}");
    }
}
