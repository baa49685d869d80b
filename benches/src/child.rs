//! A server process: started alone or under a tool, measured from outside through /proc, ended with its parent.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Result, Tried};
use crate::server::{Contender, Setting};

/// Under valgrind a start takes seconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) struct Child {
    process: std::process::Child,
    pub(crate) address: SocketAddr,
}

impl Child {
    pub(crate) fn start(contender: &Contender, setting: &Setting) -> Result<Child> {
        Child::start_under(&[], contender, setting)
    }

    /// `tool` is a command that runs the command which follows it; without one, the server runs by itself.
    pub(crate) fn start_under(tool: &[String], contender: &Contender, setting: &Setting) -> Result<Child> {
        let program = env::current_exe().tried(|| "finding this program's own file".to_owned())?;
        let mut words: Vec<String> = tool.to_vec();
        words.extend([program.display().to_string(), "serve".to_owned(), contender.name.to_owned()]);
        words.extend(["--port".to_owned(), setting.port.to_string()]);
        words.extend(["--buffer".to_owned(), setting.buffer.to_string()]);
        words.extend(["--tables".to_owned(), setting.tables.to_string()]);
        if !setting.cores.is_empty() {
            let cores: Vec<String> = setting.cores.iter().map(usize::to_string).collect();
            words.extend(["--cores".to_owned(), cores.join(",")]);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().tried(|| format!("running {}", words.join(" ")))?;
        match address(&mut process) {
            Some(address) => Ok(Child { process, address }),
            None => Err(format!("{} did not start: {}", contender.title, last_words(&mut process))),
        }
    }

    /// Nanoseconds of processor time, user and system, of all threads that live.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        let folder = format!("/proc/{}/task", self.process.id());
        let mut sum = 0;
        for thread in fs::read_dir(&folder).tried(|| format!("listing {folder}"))?.flatten() {
            let path = thread.path().join("schedstat");
            // A thread may end between the listing and the reading; what it used is lost to all in the same way.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let first = text.split_whitespace().next().unwrap_or_default();
            sum += first.parse::<u64>().tried(|| format!("reading {} of {text:?}", path.display()))?;
        }
        if sum == 0 { Err(format!("{folder}/*/schedstat says 0: this kernel keeps no account")) } else { Ok(sum) }
    }

    /// Bytes that are resident, counted page by page: /proc/PID/status may be off by a batch of pages for each core.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.process.id());
        let text = fs::read_to_string(&path).tried(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| format!("{path} has no line `Rss:`"))
    }

    /// Ends it the friendly way, so that a tool around it gets to write its account.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        drop(self.process.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < STOP_TIMEOUT {
            if let Some(status) = self.process.try_wait().tried(|| "waiting for a server's end".to_owned())? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("the server at {} did not end within {STOP_TIMEOUT:?}", self.address))
    }

    /// What it had to say, once it is over; for the reason why it does not answer.
    pub(crate) fn complaint(mut self) -> String {
        drop(self.process.stdin.take());
        last_words(&mut self.process)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn address(process: &mut std::process::Child) -> Option<SocketAddr> {
    let output = process.stdout.take()?;
    let (tell, told) = mpsc::channel();
    // A thread of its own: reading from a pipe has no timeout. It ends with the process at the latest.
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(output).read_line(&mut line);
        let _ = tell.send(line);
    });
    told.recv_timeout(START_TIMEOUT).ok()?.trim().parse().ok()
}

fn last_words(process: &mut std::process::Child) -> String {
    drop(process.stdin.take());
    thread::sleep(Duration::from_millis(50));
    let _ = process.kill();
    let _ = process.wait();
    let mut text = String::new();
    if let Some(mut errors) = process.stderr.take() {
        let _ = errors.read_to_string(&mut text);
    }
    match text.trim() {
        "" => "it says nothing".to_owned(),
        said => said.replace('\n', "; "),
    }
}
