//! The command `doctor`: what a run would need, what fits, and what would make more fit.

use std::fs;
use std::io::{Write, stdout};

use serde::Serialize;

use crate::accept_queues::AcceptQueues;
use crate::address::Address;
use crate::args::Load;
use crate::churn::Churn;
use crate::layout;
use crate::load;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::preflight::{self, Finding, Grade};
use crate::problem::Problem;
use crate::quantity::{count, counted};
use crate::report::Exit;
use crate::report::paragraph::paragraph;
use crate::target::Target;
use crate::terminal::report_columns;

/// Examines this machine for a `load` on `targets`, whose connections may come and go, and writes what it found. Returns
/// whether the load fits.
///
/// # Errors
/// What makes no sense in the command line, and a target without an address.
pub(crate) fn run(targets: &[Target], load: &Load, churn: Option<Churn>) -> Result<Exit, Problem> {
    let machine = Machine::prepare();
    let plan = load::plan(targets, load, churn, &machine)?;
    let mut findings = preflight::findings(&plan, &machine);
    if !plan.is_server_inside() {
        findings.extend(server(&plan, &machine));
    }
    let fits = !is_short(&findings);
    let most = most(&plan, load, &machine);
    let (page, json) = (page(&plan, &findings, most, report_columns()), json(&plan, &findings, (fits, most)));
    match &load.output.json {
        Some(path) if path.as_os_str() != "-" => {
            let wrong = |error| Problem::Output { name: path.display().to_string(), error };
            fs::write(path, json).map_err(wrong)?;
            say(&page);
        }
        Some(_) => say(&json),
        None => say(&page),
    }
    Ok(if fits { Exit::Ok } else { Exit::Failed })
}

fn is_short(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.grade == Grade::Short)
}

/// How many connections of this kind the machine surely has room for, laid out as so many would be: found by halving.
fn most(plan: &Plan, load: &Load, machine: &Machine) -> u64 {
    let fits = |connections| {
        let enough = |it: &Finding| it.grade != Grade::Short && it.fits.is_none_or(|fits| fits >= connections);
        let plan = plan.resized(connections, load, machine);
        plan.is_ok_and(|plan| preflight::findings(&plan, machine).iter().all(enough))
    };
    let (mut low, mut high) = (0, CONNECTIONS_END);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        (low, high) = if fits(middle) { (middle, high) } else { (low, middle) };
    }
    low
}

/// The listeners at the target, as they are now, and what a server of loadgen's would need there.
fn server(plan: &Plan, machine: &Machine) -> Vec<Finding> {
    let finding = |thing, sum, grade, remedy| Finding { thing, sum, fits: None, grade, remedy };
    let (connections, limit) = (plan.connections, machine.descriptors_max);
    if plan.is_unix() {
        return plan.targets.iter().filter_map(unix_listener).chain(limits(plan)).chain(settings(plan)).collect();
    }
    let mut found: Vec<Finding> = limits(plan).into_iter().chain(settings(plan)).collect();
    if let Some(queues) = AcceptQueues::of(&plan.ips()).and_then(|mut queues| queues.look()) {
        let (listeners, backlog) = (counted(queues.listeners, "listener"), count(queues.backlog));
        let is_short = queues.backlog < BACKLOG_GOOD && connections > queues.backlog;
        found.push(finding(
            "listeners",
            format!("{listeners} at {}, a backlog of {backlog} each", plan.addresses()),
            if is_short { Grade::Doubtful } else { Grade::Fits },
            format!("give listen(2) in the server a backlog of {BACKLOG_GOOD}"),
        ));
    } else if plan.is_server_here() {
        let sum = format!("none at {} now", plan.addresses());
        let remedy = format!("`loadgen serve --listen {} --connections-max {connections}`", plan.targets[0]);
        found.push(finding("listeners", sum, Grade::Doubtful, remedy));
    }
    if plan.is_server_here() && !layout::shares_table(machine.cores.len(), connections, limit) {
        found.push(its_server(connections, machine));
    }
    found
}

/// What the server may open is its own limits' affair: of a process that was named they can be read.
fn limits(plan: &Plan) -> Vec<Finding> {
    let finding = |sum, fits, grade, remedy: &str| Finding { thing: LIMITS, sum, fits, grade, remedy: remedy.into() };
    if !plan.is_server_here() {
        let sum = "not visible from here, for it is not on this machine: descriptors, memory, backlog".to_owned();
        return vec![finding(
            sum,
            None,
            Grade::Doubtful,
            "`ulimit -n` and `loadgen doctor` there, where it is started",
        )];
    }
    if plan.server_pids.is_empty() {
        let sum = "not visible from here, for it is a process of its own: descriptors above all".to_owned();
        return vec![finding(
            sum,
            None,
            Grade::Doubtful,
            "`--server-pid PID` here looks at them, and `ss -ltnp` shows the PID",
        )];
    }
    let of_process = |pid: &u32| {
        let (most, open) = (descriptors_max(*pid), descriptors_open(*pid));
        let Some((most, open)) = most.zip(open) else {
            let sum = format!("those of process {pid} cannot be read");
            return finding(sum, None, Grade::Doubtful, "run this as its user");
        };
        let left = most.saturating_sub(open);
        let sum = format!(
            "process {pid} may open {} descriptors, in each table that it has, and has {} open: {} are left",
            count(most),
            count(open),
            count(left)
        );
        let grade = if plan.connections > left { Grade::Doubtful } else { Grade::Fits };
        let wanted = plan.connections.saturating_add(open.max(layout::RESERVE));
        finding(sum, Some(left), grade, &format!("`sudo prlimit --pid {pid} --nofile={wanted}`"))
    };
    plan.server_pids.iter().map(of_process).collect()
}

/// The soft limit of a process's descriptors.
fn descriptors_max(pid: u32) -> Option<u64> {
    most_open_files(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
}

/// How many it has open, in the table of its first thread.
fn descriptors_open(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

/// What a server sets itself, beside what the system allows it: only its configuration tells. Loadgen's own has no such.
fn settings(plan: &Plan) -> Option<Finding> {
    let is_ours = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == OURS);
    if !plan.server_pids.is_empty() && plan.server_pids.iter().all(is_ours) {
        return None;
    }
    Some(Finding {
        thing: SETTINGS,
        sum: "not visible from here: what it is configured to take, unless it is loadgen's own".to_owned(),
        fits: None,
        grade: Grade::Doubtful,
        remedy:
            "look at worker_connections in nginx, maxclients in Redis, maxconn in HAProxy, or what such is called there"
                .to_owned(),
    })
}

/// The soft limit of descriptors, of what /proc/PID/limits says: see proc_pid_limits(5).
fn most_open_files(table: &str) -> Option<u64> {
    let row = table.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    row.split_whitespace().next()?.parse().ok()
}

/// What `loadgen serve` comes down to for so many connections. That it is the server, under this limit, is not known.
fn its_server(connections: u64, machine: &Machine) -> Finding {
    let limit = machine.descriptors_max;
    let shards = layout::shards_for(connections, machine.cores.len(), limit);
    let (sum, hold) = (layout::shards_sum(shards, connections, limit), layout::shards_hold(shards, limit));
    Finding {
        thing: "its server",
        sum: format!("with `loadgen serve` under this limit: {sum}"),
        fits: Some(hold),
        grade: if hold < connections { Grade::Doubtful } else { Grade::Fits },
        remedy: preflight::more_descriptors(layout::shards_limit(connections, None), "the server's shell", machine),
    }
}

/// Who listens at a Unix socket.
fn unix_listener(address: &Address) -> Option<Finding> {
    let Address::Unix(unix) = address else { return None };
    let is_there = unix_listeners(&fs::read_to_string("/proc/net/unix").ok()?).any(|name| name == unix.name());
    let (sum, grade) = match is_there {
        true => (format!("one at {unix}; connects that find its queue full are tried again"), Grade::Fits),
        false => (format!("none at {unix} now"), Grade::Doubtful),
    };
    let remedy = "start the server first; `ss -lx` shows who listens where".to_owned();
    Some(Finding { thing: "listeners", sum, fits: None, grade, remedy })
}

/// The names of those who listen, of what /proc/net/unix says: see unix(7). A relative path stands there as it was bound.
fn unix_listeners(table: &str) -> impl Iterator<Item = &str> {
    let words = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|words| words.get(3) == Some(&SO_ACCEPTCON)).filter_map(|words| words.get(7).copied())
}

/// The flag of a socket that listens.
const SO_ACCEPTCON: &str = "00010000";

fn say(text: &str) {
    // Somebody like `head` has read enough.
    let _ = stdout().write_all(text.as_bytes());
}

/// What was found, for programs.
#[derive(Debug, Serialize)]
struct Diagnosis<'a> {
    connections: u64,
    target: &'a str,
    fits: bool,
    /// How many would surely fit, laid out as so many need it.
    connections_max: u64,
    findings: Vec<Fact<'a>>,
}

#[derive(Debug, Serialize)]
struct Fact<'a> {
    thing: &'static str,
    /// `fits`, `perhaps` or `short`.
    grade: &'static str,
    /// For how many connections it is enough, laid out as for those that were asked for; null where it does not come
    /// down to a number.
    connections_max: Option<u64>,
    sum: &'a str,
    remedy: &'a str,
}

fn json(plan: &Plan, findings: &[Finding], (fits, connections_max): (bool, u64)) -> String {
    let grade = |grade| match grade {
        Grade::Fits => "fits",
        Grade::Doubtful => "perhaps",
        Grade::Short => "short",
    };
    let facts = findings.iter().map(|it| Fact {
        thing: it.thing,
        grade: grade(it.grade),
        connections_max: it.fits,
        sum: &it.sum,
        remedy: &it.remedy,
    });
    let (connections, target, findings) = (plan.connections, plan.name.as_str(), facts.collect());
    let diagnosis = Diagnosis { connections, target, fits, connections_max, findings };
    serde_json::to_string_pretty(&diagnosis).expect("numbers and strings can always be written as JSON") + "\n"
}

fn page(plan: &Plan, findings: &[Finding], most: u64, columns: usize) -> String {
    let mut page = format!("{} to {}:\n", counted(plan.connections, "connection"), plan.name);
    for finding in findings {
        let (mark, remedy) = match finding.grade {
            Grade::Fits => ("fits ", None),
            Grade::Doubtful => ("PERHAPS", Some(&finding.remedy)),
            Grade::Short => ("SHORT", Some(&finding.remedy)),
        };
        let remedy = remedy.map(|remedy| format!("for more: {remedy}"));
        if columns < ROWS_MIN {
            page += &format!("  {mark:<7}  {}\n", finding.thing);
            for text in [Some(&finding.sum), remedy.as_ref()].into_iter().flatten() {
                page += &paragraph("   ", text, columns);
            }
            continue;
        }
        page += &paragraph(&format!("  {mark:<7}  {:<15} ", finding.thing), &finding.sum, columns);
        if let Some(remedy) = remedy {
            page += &paragraph(&" ".repeat(27), &remedy, columns);
        }
    }
    let doubtful = findings.iter().filter(|finding| finding.grade == Grade::Doubtful).filter_map(|it| it.fits);
    let (closing, most) = match doubtful.filter(|fits| *fits < plan.connections).min() {
        _ if is_short(findings) => ("It does not fit:", most),
        Some(sure) => ("Perhaps it fits; up to", most.min(sure)),
        None if findings.iter().all(is_sure) => ("It fits; up to", most),
        None => ("On this side it fits; up to", most),
    };
    let closing = paragraph("", &format!("{closing} {} would.", counted(most, "connection")), columns);
    page + &closing.lines().map(|line| line.trim_start().to_owned() + "\n").collect::<String>()
}

/// Whether it says how it is with the server, too.
fn is_sure(finding: &Finding) -> bool {
    !matches!(finding.thing, LIMITS | SETTINGS) || finding.grade == Grade::Fits
}

/// What the system allows the server, and what that allows itself.
const LIMITS: &str = "server's limits";
const SETTINGS: &str = "server's own";

/// The name of this program's processes.
const OURS: &str = "loadgen";

/// Columns below which what was found stands under its name, not beside it.
const ROWS_MIN: usize = 60;

/// More connections than any machine holds.
const CONNECTIONS_END: u64 = 1 << 32;

/// A backlog that a load generator does not overflow in the time in which a busy server is not scheduled.
const BACKLOG_GOOD: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use crate::plan::tests::{machine, plan};
    use clap::Parser;

    /// The page for `loadgen rr` with these arguments on a machine of the tests.
    fn page_of(arguments: &str, columns: usize) -> String {
        let line = format!("loadgen rr {arguments}");
        let Some(Command::Rr(rr)) = Args::parse_from(line.split_whitespace()).command else { panic!("{line}") };
        let (plan, machine) = (plan(arguments).unwrap(), machine());
        page(&plan, &preflight::findings(&plan, &machine), most(&plan, &rr.load, &machine), columns)
    }

    #[test]
    fn what_is_short_is_said_with_what_fits_and_what_helps() {
        let page = page_of("[::1]:1 -c 30k", 200);
        assert!(page.starts_with("30,000 connections to [::1]:1:\n  fits"), "{page}");
        let line = page.lines().find(|line| line.contains("SHORT")).unwrap();
        assert!(line.contains("ports") && line.contains("28,232"), "{page}");
        assert!(page.contains("for more: `--source`"), "{page}");
        assert!(page.ends_with("It does not fit: 28,232 connections would.\n"), "{page}");
    }

    #[test]
    fn who_listens_at_a_unix_socket_stands_in_a_table() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01  9214 /run/a.sock\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03  9215 /run/b.sock\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01  9216 @c\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01  9217\n";
        assert_eq!(unix_listeners(table).collect::<Vec<_>>(), ["/run/a.sock", "@c"]);
    }

    #[test]
    fn limits_of_a_server_that_is_another_process_are_said_not_to_be_visible() {
        let of = |arguments: &str| {
            let findings = limits(&plan(arguments).unwrap());
            (findings[0].grade, page(&plan(arguments).unwrap(), &findings, 5, 200))
        };
        let (grade, far) = of("192.0.2.1:1 -c 10");
        assert!(
            grade == Grade::Doubtful && far.contains("not visible from here, for it is not on this machine"),
            "{far}"
        );
        assert!(far.ends_with("On this side it fits; up to 5 connections would.\n"), "{far}");
        let (grade, near) = of("127.0.0.1:1 -c 10");
        assert!(
            grade == Grade::Doubtful && near.contains("a process of its own") && near.contains("--server-pid"),
            "{near}"
        );
        assert!(of("unix:/run/a.sock -c 10").1.contains("a process of its own"));
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             95840                95840                processes \n\
                     Max open files            1024                 20000                files     \n";
        assert_eq!((most_open_files(table), most_open_files("")), (Some(1024), None));
    }

    #[test]
    fn what_a_foreign_server_is_configured_to_take_is_said_not_to_be_visible() {
        let page_of = |arguments: &str| {
            let plan = plan(arguments).unwrap();
            page(&plan, settings(&plan).as_slice(), 5, 200)
        };
        // Processes of the tests bear another name.
        for arguments in
            ["127.0.0.1:1 -c 10", "192.0.2.1:1 -c 10", &format!("127.0.0.1:1 --server-pid {}", std::process::id())]
        {
            let page = page_of(arguments);
            for wanted in ["PERHAPS", "worker_connections", "maxclients", "maxconn", "On this side it fits"] {
                assert!(page.contains(wanted), "no '{wanted}' in {page}");
            }
        }
    }

    #[test]
    fn what_fits_is_said_with_its_sum_and_the_machines_bound_whatever_was_asked_for() {
        let page = page_of("127.0.0.1:1 -c 100k", 200);
        assert!(page.contains("6 tables × 19,936 = 119,616 for 100,000"), "{page}");
        // 4 GiB are enough for so many, both ends of each.
        for connections in ["10", "100k", "400k"] {
            let page = page_of(&format!("127.0.0.1:1 -c {connections}"), 200);
            assert!(page.ends_with("It fits; up to 499,879 connections would.\n"), "{connections}: {page}");
        }
        let one = page_of("127.0.0.1:1 -c 10 --threads 1", 200);
        assert!(one.ends_with("It fits; up to 19,936 connections would.\n"), "{one}");
    }

    #[test]
    fn it_fits_the_terminal_but_for_commands() {
        for columns in [40, 80, 120] {
            let page = page_of("[::1]:1 -c 30k", columns);
            for line in page.lines().filter(|line| !line.contains('`')) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
            assert!(page.contains("ip_local_port_range=\"1024 65535\"`"), "a command is one line: {page}");
        }
    }
}
