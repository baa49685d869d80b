//! More clients than one process has descriptors for: processes that hold some each, and hear what is said to all.

use std::env;
use std::io::{BufRead, BufReader, Write, stdin};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::client::Client;
use crate::failure::{Result, Tried};
use crate::routes::Routes;
use crate::server::BROADCAST_BYTES;

/// They end with whoever started them.
pub(crate) struct Crowd {
    members: Vec<Member>,
}

struct Member {
    process: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Crowd {
    /// Opens `count` connections to `address`, no more than `each_max` in a process, and returns when all have echoed.
    pub(crate) fn open(address: SocketAddr, count: usize, each_max: usize) -> Result<Crowd> {
        let processes = count.div_ceil(each_max);
        let share = |index: usize| count / processes + usize::from(index < count % processes);
        let members: Result<Vec<Member>> = (0..processes).map(|index| Member::start(address, share(index))).collect();
        let mut crowd = Crowd { members: members? };
        crowd.wait()?;
        Ok(crowd)
    }

    /// Tells them that a message will come.
    pub(crate) fn listen(&mut self) -> Result<()> {
        let tell =
            |member: &mut Member| member.orders.write_all(b"\n").tried(|| "telling a process of clients".to_owned());
        self.members.iter_mut().try_for_each(tell)
    }

    /// Until all have done what they are at.
    pub(crate) fn wait(&mut self) -> Result<()> {
        for member in &mut self.members {
            let mut line = String::new();
            let read = member.reports.read_line(&mut line).tried(|| "waiting for a process of clients".to_owned())?;
            if read == 0 {
                return Err("a process of clients has failed, see above".to_owned());
            }
        }
        Ok(())
    }
}

impl Member {
    fn start(address: SocketAddr, count: usize) -> Result<Member> {
        let program = env::current_exe().tried(|| "finding this program's own file".to_owned())?;
        let mut command = Command::new(program);
        command.args(["hold", &address.to_string(), &count.to_string()]);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .tried(|| format!("running a process of {count} clients"))?;
        let (orders, reports) = (process.stdin.take(), process.stdout.take());
        let (Some(orders), Some(reports)) = (orders, reports) else { return Err("a child without pipes".to_owned()) };
        Ok(Member { process, orders, reports: BufReader::new(reports) })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What such a process does: it says when its connections are open, and then for each line that all have heard a message.
pub(crate) fn hold(address: SocketAddr, count: usize) -> Result<()> {
    let mut client = Client::new(address, BROADCAST_BYTES)?;
    client.open(count, &mut Routes::new())?;
    println!();
    for line in stdin().lines() {
        line.tried(|| "waiting to be told".to_owned())?;
        client.hear()?;
        println!();
    }
    Ok(())
}
