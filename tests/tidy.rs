//! The house keeps its own rules: storeys, rooms, lengths, first lines.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library's files from the ground up: each uses only files above it in this list.
const STOREYS: &[&str] = &[
    "planted",
    "buffer",
    "queue",
    "slab",
    "wheel",
    "spin",
    "mailbox",
    "reason",
    "histogram",
    "stats",
    "metrics",
    "peer",
    "address",
    "agreed",
    "target",
    "sys",
    "tuning",
    "socket",
    "unix",
    "claim",
    "loan",
    "error",
    "kernel",
    "tls",
    "listeners",
    "config",
    "seats",
    "pace",
    "slate",
    "client",
    "shard",
    "handler",
    "timed",
    "trace",
    "acceptor",
    "connection",
    "reactor",
    "remote",
    "watchdog",
    "life",
    "entrance",
    "server",
    "builder",
    "testing",
    "websocket",
    "lib",
];

/// What a room may not hold, whoever would find it convenient.
const CLOSED: [(&[&str], &[&str]); 4] = [
    (&["client", "handler", "shard", "slate"], &["mio", "socket2", "std::net::Tcp", "Instant"]),
    (&["connection", "reactor", "acceptor"], &["mio::", "socket2", "Instant", "std::net"]),
    (&["buffer", "slab", "wheel", "spin", "mailbox"], &["crate::", "Instant", "std::net"]),
    (&["socket"], &["epoll", ".accept", ".recv(", ".send(", "Poll"]),
];

/// The room for unsafe code; and those who give the promise that the builder's unsafe knob asks for, or pass it on.
const UNSAFE: &[&str] = &[
    "src/sys.rs",
    "benches/src/server/least.rs",
    "benches/src/server/esockets.rs",
    "src/server.rs",
    "examples/push.rs",
    "examples/tls.rs",
    "examples/websocket.rs",
    "loadgen/src/unshared.rs",
    "tests/children.rs",
    "tests/private_fd_tables.rs",
    "tests/beyond_the_limit.rs",
    "tests/restart.rs",
    "tests/shard_death.rs",
];

/// A function fits a screen, a file can be read at one sitting.
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 800;
/// Whoever embeds the library compiles and trusts these, itself included.
const CRATES_MAX: usize = 10;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Up to the unit tests at its foot; nothing of a file that is only a test.
    fn production(&self) -> &str {
        if self.path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("simulation")) {
            return "";
        }
        self.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    /// The room of the library that it belongs to: `kernel` for all files of that folder.
    fn room(&self) -> Option<String> {
        let mut parts = self.path.strip_prefix("src").ok()?.components();
        let first = parts.next()?.as_os_str().to_str()?;
        Some(first.trim_end_matches(".rs").to_owned())
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root).unwrap().to_owned(), text });
            }
        }
    }
    assert!(!found.is_empty(), "there is something to look at");
    found
}

const EVERYWHERE: [&str; 6] = ["src", "loadgen/src", "loadgen/tests", "tests", "examples", "benches/src"];

#[test]
fn a_file_uses_only_files_below_it() {
    for source in sources(&["src"]) {
        let room = source.room().unwrap();
        let storey = STOREYS.iter().position(|&name| name == room);
        let storey = storey.unwrap_or_else(|| panic!("{} has no storey", source.name()));
        let used = source.production().split("crate::").skip(1);
        for used in used.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()) {
            let below = STOREYS[..=storey].contains(&used) || !STOREYS.contains(&used);
            assert!(below, "{} uses {used}, which is above it", source.name());
        }
    }
}

#[test]
fn a_room_holds_nothing_that_belongs_to_another() {
    for source in sources(&["src"]) {
        let room = source.room().unwrap();
        for (rooms, forbidden) in CLOSED {
            if rooms.contains(&room.as_str()) {
                // Links in the documentation may lead anywhere.
                let code = source.production().lines().filter(|line| !line.trim_start().starts_with("//"));
                for (line, word) in code.flat_map(|line| forbidden.iter().map(move |word| (line, word))) {
                    assert!(!line.contains(word), "{} holds `{word}`: {line}", source.name());
                }
            }
        }
    }
}

/// The names of the functions that a text defines and that begin so.
fn functions<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    let named = text.split("    fn ").skip(1).map(|rest| rest.split('(').next().unwrap());
    named.filter(move |name| name.starts_with(start))
}

#[test]
fn a_handler_that_is_timed_is_called_as_any_other() {
    let sources = sources(&["src"]);
    let text = |name: &str| sources.iter().find(|source| source.path.ends_with(name)).unwrap().production();
    let (handler, timed) = (text("src/handler.rs"), text("src/timed.rs"));
    let definition = &handler[handler.find("pub trait Handler").unwrap()..handler.find("pub struct Closures").unwrap()];
    let all: BTreeSet<&str> = functions(definition, "handle_").collect();
    let passed_on: BTreeSet<&str> = functions(timed, "handle_").collect();
    assert!(all.len() >= 11, "{all:?}");
    assert_eq!(passed_on, all, "what src/timed.rs does not pass on falls back to its default");
}

#[test]
fn protocols_on_top_know_only_what_a_user_does() {
    let rooms = public_rooms(include_str!("../src/lib.rs"));
    for source in sources(&["src/websocket"]) {
        for used in source.production().split("crate::").skip(1) {
            let name = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let is_public = !STOREYS.contains(&name) || rooms.contains(&name);
            assert!(is_public && !used.starts_with("{self"), "{} uses {name}, which is private", source.name());
        }
    }
}

/// The modules that every user sees.
fn public_rooms(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

#[test]
fn unsafe_code_stands_in_one_room_and_gives_its_reason() {
    for source in sources(&EVERYWHERE) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !(code.contains("unsafe {") || code.contains("unsafe impl")) || code.contains('"') {
                continue;
            }
            let allowed = UNSAFE.iter().any(|path| source.path.ends_with(path));
            assert!(allowed, "{}:{}: unsafe outside sys", source.name(), number + 1);
            let reason = lines[..number].iter().rev().take(4).any(|line| line.contains("SAFETY:"));
            assert!(reason, "{}:{}: without a reason", source.name(), number + 1);
        }
    }
}

#[test]
fn the_library_prints_nothing_unwraps_nothing_and_owes_nothing() {
    let forbidden =
        ["println!", "eprintln!", "dbg!", ".unwrap()", ".expect(", "todo!", "unimplemented!", "TODO", "FIXME"];
    for source in sources(&["src"]) {
        for line in source.production().lines().filter(|line| !line.trim_start().starts_with("//")) {
            for word in forbidden {
                assert!(!line.contains(word), "{} holds `{word}`: {line}", source.name());
            }
        }
    }
}

#[test]
fn each_file_says_in_its_first_line_what_it_holds() {
    for source in sources(&EVERYWHERE) {
        let first = source.text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 20, "{} begins with {first:?}", source.name());
    }
}

#[test]
fn functions_fit_a_screen_and_files_a_sitting() {
    for source in sources(&EVERYWHERE) {
        let length = source.text.lines().count();
        assert!(length <= FILE_LINES_MAX, "{} has {length} lines", source.name());
        let mut begun: Option<(usize, usize)> = None;
        for (number, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let is_head =
                ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn "].iter().any(|start| head.starts_with(start));
            if is_head && !head.ends_with(';') {
                begun = Some((number, indent));
            }
            if let Some((start, depth)) = begun
                && line.trim_end() == format!("{}}}", " ".repeat(depth))
            {
                let lines = number - start + 1;
                assert!(lines <= FUNCTION_LINES_MAX, "{}:{}: {lines} lines", source.name(), start + 1);
                begun = None;
            }
        }
    }
}

#[test]
fn the_library_is_built_of_ten_crates_at_the_most() {
    let arguments = ["tree", "--locked", "--edges", "normal", "--package", "esockets", "--prefix", "none"];
    let tree = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("esockets") && crates.contains("mio"), "{crates:?}");
    assert!(crates.len() <= CRATES_MAX && !crates.contains("tracing"), "{} crates: {crates:?}", crates.len());
}

/// What stands between ```` ```rust ```` (or with attributes) and the next fence.
fn first_rust_block(markdown: &str) -> &str {
    let start = markdown.find("```rust").expect("the README shows a server");
    let body = &markdown[start..];
    let body = &body[body.find('\n').unwrap() + 1..];
    &body[..body.find("```").unwrap()]
}

#[test]
fn the_readme_shows_the_echo_example_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let example = fs::read_to_string(root.join("examples/echo.rs")).unwrap();
    let code: String = example
        .lines()
        .skip_while(|line| line.starts_with("//!") || line.is_empty())
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(first_rust_block(&readme), code);
    assert!(example.lines().count() <= 30);
}

/// Kinds of tests that are not a file of their own.
const TESTED_BY: [&str; 4] = ["simulation", "unit tests", "model check", "`loadgen`"];

#[test]
fn what_goes_wrong_has_been_tried_or_is_no_promise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("src/failures.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| when |"));
    let mut tried = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" |").collect();
        let &[_, _, tests] = &cells[..] else { panic!("not three cells: {row}") };
        let files: Vec<&str> = tests.split('`').filter(|name| name.ends_with(".rs")).collect();
        for file in &files {
            let found = ["tests", "loadgen/tests"].iter().any(|folder| root.join(folder).join(file).is_file());
            assert!(found, "{file} is no test: {row}");
        }
        let known = !files.is_empty() || TESTED_BY.iter().any(|kind| tests.contains(kind));
        assert!(known || row.contains("*Not*"), "a promise that nobody has tried: {row}");
        tried += usize::from(known);
    }
    assert!(tried > 50, "{tried} rows were found");
}
