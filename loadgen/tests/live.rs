//! What is seen of a run while it goes on: a view on a terminal that leaves nothing behind, plain lines in a pipe, or nothing.

mod support;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use support::{Server, command, loadgen, skip};

/// Runs a program on a terminal of its own: how wide and how high it is, what to wait for before Ctrl-C (or nothing), the program. Its
/// standard output is thrown away; what it wrote to the terminal comes back as it was.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
columns, rows, sign, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode(), sys.argv[4:]
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp("sh", ["sh", "-c", 'exec "$@" >/dev/null', "sh"] + program)
seen = b""
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:
        break
    if not data:
        break
    seen += data
    if sign and sign in seen:
        os.write(terminal, b"\x03")
        sign = b""
sys.stdout.buffer.write(seen)
sys.stdout.flush()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// Runs loadgen with the arguments of `line` on a terminal, and interrupts it at `sign`; the exit code, and what it wrote.
fn on_terminal(
    line: &str,
    (columns, rows): (usize, usize),
    sign: &str,
    environment: &[(&str, &str)],
) -> Option<(Option<i32>, String)> {
    let is_there = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success());
    if !is_there("python3") {
        skip("a terminal is made by Python's pty, and there is no python3");
        return None;
    }
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, &columns.to_string(), &rows.to_string(), sign, env!("CARGO_BIN_EXE_loadgen")]);
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command.env_remove("LC_CTYPE").env("TERM", "xterm").env("LC_ALL", "C.UTF-8").envs(environment.iter().copied());
    let output = command.output().unwrap();
    Some((output.status.code(), String::from_utf8(output.stdout).unwrap()))
}

/// The part of a terminal that such output needs: a cursor, lines that wrap, and what clears them.
struct Screen {
    columns: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The most rows that were in use.
    most: usize,
}

impl Screen {
    /// The rows after `written`, without blanks at their ends, and the most that were in use.
    fn after(written: &str, columns: usize) -> (Vec<String>, usize) {
        let mut screen = Screen { columns, rows: vec![Vec::new()], row: 0, column: 0, most: 1 };
        let mut rest = written.chars().peekable();
        while let Some(character) = rest.next() {
            match character {
                '\x1b' => {
                    assert_eq!(rest.next(), Some('['), "only control sequences: {written:?}");
                    let mut number = String::new();
                    let end = loop {
                        match rest.next().unwrap() {
                            digit if digit.is_ascii_digit() || digit == ';' || digit == '?' => number.push(digit),
                            end => break end,
                        }
                    };
                    screen.control(end, number.parse().ok());
                }
                '\r' => screen.column = 0,
                '\n' => screen.row += 1,
                character => screen.put(character),
            }
            screen.rows.resize_with(screen.rows.len().max(screen.row + 1), Vec::new);
            screen.most = screen.most.max(screen.rows.len());
        }
        let rows = screen.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned());
        (rows.collect(), screen.most)
    }

    fn put(&mut self, character: char) {
        if self.column == self.columns {
            (self.row, self.column) = (self.row + 1, 0);
            self.rows.resize_with(self.rows.len().max(self.row + 1), Vec::new);
        }
        let row = &mut self.rows[self.row];
        row.resize(row.len().max(self.column + 1), ' ');
        row[self.column] = character;
        self.column += 1;
    }

    fn control(&mut self, what: char, number: Option<usize>) {
        let by = number.unwrap_or(1);
        match (what, number) {
            ('A', _) => self.row = self.row.checked_sub(by).expect("never above its own beginning"),
            ('B', _) => self.row += by,
            ('C', _) => self.column += by,
            ('D', _) => self.column = self.column.saturating_sub(by),
            ('G', _) => self.column = by - 1,
            ('K', Some(2)) => self.rows[self.row].clear(),
            ('K', _) => self.rows[self.row].truncate(self.column),
            ('J', _) => {
                self.rows[self.row].truncate(self.column);
                self.rows.truncate(self.row + 1);
            }
            ('m' | 'h' | 'l', _) => {}
            _ => panic!("a control sequence that is not known here: {what}"),
        }
    }
}

/// Columns and rows of a terminal.
const USUAL: (usize, usize) = (80, 24);

fn is_blank(rows: &[String]) -> bool {
    rows.iter().all(String::is_empty)
}

#[test]
fn a_terminal_shows_the_last_second_and_nothing_when_it_is_over() {
    let server = Server::good();
    for (columns, rows, lines) in [(80, 24, 4), (40, 24, 4), (80, 4, 3), (80, 3, 2), (80, 1, 1)] {
        let time = if lines == 4 { "3s" } else { "1500ms" };
        let line = format!("open {} -c 5 -R 500 --arrival constant -d {time}", server.address);
        let Some((code, written)) = on_terminal(&line, (columns, rows), "", &[]) else { return };
        assert!(matches!(code, Some(0 | 4)), "{written}");
        for wanted in
            ["open loop at 500/s", "5 of 5 open", "/s · p50 ", " · p99 "].iter().take(if lines == 1 { 1 } else { 4 })
        {
            assert!(written.contains(wanted), "no '{wanted}' in {written:?}");
        }
        assert!(lines < 4 || written.contains(['▁', '█']) && !written.contains("0 of 0"), "{written:?}");
        let (left, most) = Screen::after(&written, columns);
        assert!(is_blank(&left), "{left:#?}");
        assert_eq!(most, lines, "it stays where it is, no line wraps, and none is scrolled away");
    }
}

#[test]
fn ctrl_c_ends_well() {
    let server = Server::good();
    let line = format!("open {} -c 5 -R 500 -d 30s", server.address);
    // The picture is of the longest times, since 500 answers are too few for a 99th percentile.
    let Some((code, written)) = on_terminal(&line, USUAL, "  max ", &[]) else { return };
    assert_eq!(code, Some(1), "{written}");
    let (rows, most) = Screen::after(&written, 80);
    assert!(is_blank(&rows) && most == 4, "{most} {rows:#?}");
}

#[test]
fn a_locale_without_utf_8_has_ascii_and_a_dumb_terminal_plain_lines() {
    let server = Server::good();
    let line = format!("open {} -c 5 -R 500 --arrival constant -d 2500ms", server.address);
    let Some((_, written)) = on_terminal(&line, USUAL, "", &[("LC_ALL", "C")]) else { return };
    assert!(written.is_ascii() && written.contains("answers/s | p50 ") && written.contains('#'), "{written:?}");
    let Some((_, written)) = on_terminal(&line, USUAL, "", &[("TERM", "dumb")]) else { return };
    assert!(written.contains(" s  open loop at 500/s: ") && !written.contains('\x1b'), "{written:?}");
}

#[test]
fn lines_of_a_search_stand_above_the_view() {
    let server = Server::good();
    let line = format!("search {} -c 2 -d 300ms --from 100 --to 200 --slo p50<10s", server.address);
    let Some((_, written)) = on_terminal(&line, USUAL, "", &[]) else { return };
    let (rows, _) = Screen::after(&written, 80);
    let left: Vec<&String> = rows.iter().filter(|row| !row.is_empty()).collect();
    assert!(left.len() >= 3 && left.iter().all(|row| row.contains("/s  p50 ")), "{rows:#?}");
}

#[test]
fn a_pipe_has_a_line_a_second_and_a_quiet_run_none() {
    let server = Server::good();
    let line = format!("open {} -c 5 -R 500 --arrival constant -d 3s", server.address);
    let said = loadgen(&line).stderr;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("open loop at 500/s: 5 of 5 open · ")).collect();
    assert!((1..=4).contains(&lines.len()), "{said}");
    for line in lines {
        assert!([" answers/s · p50 ", " · p99 ", " · max "].iter().all(|wanted| line.contains(wanted)), "{line}");
    }
    assert!(!said.contains('\x1b') && !said.contains('\r'), "{said:?}");
    assert_eq!(loadgen(&format!("{line} --quiet")).stderr, "");
    let churn = loadgen(&format!("churn {} -c 2 -d 2s", server.address)).stderr;
    assert!(
        churn.contains("churn: ") && churn.contains(" answers/s · p50 "),
        "connections that come and go, too: {churn}"
    );
}

#[test]
fn nobody_waits_for_a_pipe_that_is_not_read() {
    let path = std::env::temp_dir().join(format!("loadgen-full-{}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let end =
        |is_read: bool| OpenOptions::new().read(is_read).write(!is_read).custom_flags(libc::O_NONBLOCK).open(&path);
    let (_reader, mut full) = (end(true).unwrap(), end(false).unwrap());
    let wrong = loop {
        if let Err(error) = full.write(b"nobody reads this\n") {
            break error;
        }
    };
    assert_eq!(wrong.kind(), ErrorKind::WouldBlock);
    let stuck = || OpenOptions::new().write(true).open(&path).unwrap();
    let server = Server::good();
    let line = format!("open {} -c 5 -R 500 --arrival constant -d 3s --json -", server.address);
    let output = command(&line).stderr(stuck()).output().unwrap();
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 4)) && results["is_ok"] == true, "{results:#}");
    assert_eq!(support::stage(&results, "open")["requests_answered"], 1500);
    let refused = command("rr 127.0.0.1:1 --cores 65535").stderr(stuck()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "what is wrong cannot be said, but the code tells");
    std::fs::remove_file(path).unwrap();
}
