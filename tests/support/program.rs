//! An example that runs as a program of its own, alone or under a tool.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

/// An example that runs, on a port that was free. It ends when this is dropped.
pub(crate) struct Program {
    process: Child,
    pub(crate) address: SocketAddr,
    /// What it said first.
    pub(crate) said: String,
}

impl Program {
    pub(crate) fn start(name: &str) -> Program {
        Program::start_under(&[], name).expect("an example starts")
    }

    /// At a Unix socket, too.
    pub(crate) fn start_at(name: &str, path: &Path) -> Program {
        Program::run(&[], name, &["0", path.to_str().unwrap()]).expect("an example starts")
    }

    /// One that is told more than a port.
    pub(crate) fn start_with(name: &str, words: &[&str]) -> Program {
        Program::run(&[], name, words).expect("an example starts")
    }

    /// `tool` is a command that runs the one which follows it. `None`: it does not, or what it runs ends at once.
    pub(crate) fn start_under(tool: &[&str], name: &str) -> Option<Program> {
        Program::run(tool, name, &["0"])
    }

    /// The same after what a shell does first, such as `ulimit -n 100`, or `exec 2>FILE` to have what it complains of.
    pub(crate) fn start_after(setting: &str, name: &str, words: &[&str]) -> Program {
        let script = format!("{setting}; exec \"$0\" \"$@\"");
        Program::run(&["sh", "-c", &script], name, words).expect("an example starts")
    }

    fn run(tool: &[&str], name: &str, arguments: &[&str]) -> Option<Program> {
        let path = build(name).display().to_string();
        let words = [tool, &[&path], arguments].concat();
        let mut process = Command::new(words[0]).args(&words[1..]).stdout(Stdio::piped()).spawn().ok()?;
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        // What it says later is read, too: it must neither wait for that nor fail.
        thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let mut program = Program { process, address: SocketAddr::from(([127, 0, 0, 1], 0)), said: line };
        program.address.set_port(port?);
        Some(program)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// Sends it a signal by its name, and waits for its end.
    pub(crate) fn end_by(&mut self, signal: &str) -> ExitStatus {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success(), "sending {signal}");
        self.process.wait().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

/// Builds an example as this test itself was built, and says where it lies: another profile's may be old, or missing.
fn build(name: &str) -> PathBuf {
    // This test's own program is TARGET_DIR/[TRIPLE/]PROFILE/deps/NAME, and cargo's folder for tests TARGET_DIR/tmp.
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let parts: Vec<&str> = folder.strip_prefix(target_dir).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
    let (profile, triple) = parts.split_last().expect("a profile has a folder");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", name, "--target-dir"]).arg(target_dir);
    build.args(["--profile", if *profile == "debug" { "dev" } else { profile }]);
    build.args(triple.iter().flat_map(|triple| ["--target", triple]));
    let features = [("websocket", cfg!(feature = "websocket")), ("tls", cfg!(feature = "tls"))];
    let features: Vec<&str> = features.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect();
    build.args(["--features", &features.join(",")]);
    assert!(build.status().unwrap().success(), "building the example {name}");
    folder.join("examples").join(name)
}

impl Drop for Program {
    fn drop(&mut self) {
        let id = self.process.id();
        // What a tool runs would outlive it.
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let _ = Command::new("kill").args(["-9", child]).status();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
