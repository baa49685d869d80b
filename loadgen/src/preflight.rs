//! What fits: whether a plan's descriptors, ports and memory are there, said before anything is begun.

use thiserror::Error;

use crate::machine::Machine;
use crate::plan::Plan;
use crate::quantity::{bytes, count, counted};

/// What there is too little of, how many connections would have fitted, and how to get more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Shortage {
    /// RLIMIT_NOFILE, see getrlimit(2).
    #[error(
        "out of descriptors: {} need {}, and this process may open {}, so {} would fit.\n\
         For more: `sudo prlimit --pid $$ --nofile={needed}` in this shell, or LimitNOFILE={needed} in a systemd \
         unit{}.",
        counted(*.connections, "connection"), count(*.needed), count(*.limit), count(*.fits), or_fewer(*.fits)
    )]
    Descriptors {
        /// Connections asked for.
        connections: u64,
        /// Descriptors that they need.
        needed: u64,
        /// Descriptors that the hard limit allows.
        limit: u64,
        /// Connections that would fit.
        fits: u64,
    },
    /// `net.ipv4.ip_local_port_range`, see ip(7).
    #[error(
        "out of ports: {} connections to one destination from one address, and the kernel has {} ports for them, so {} \
         would fit.\nFor more: `sudo sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"` makes it 64,512{}.",
        count(*.connections), count(*.fits), count(*.fits), or_fewer(*.fits)
    )]
    Ports {
        /// Connections asked for.
        connections: u64,
        /// Connections that would fit.
        fits: u64,
    },
    /// MemAvailable, see proc_meminfo(5).
    #[error(
        "out of memory: {} connections need about {}, and {} is available, so about {} would fit.\n\
         For more: stop other programs, or add memory{}.",
        count(*.connections), bytes(*.needed_bytes), bytes(*.available_bytes), count(*.fits), or_fewer(*.fits)
    )]
    Memory {
        /// Connections asked for.
        connections: u64,
        /// Memory that they need, about.
        needed_bytes: u64,
        /// Memory that is there.
        available_bytes: u64,
        /// Connections that would fit.
        fits: u64,
    },
}

/// Whether `plan` fits into `machine`.
///
/// # Errors
/// The first shortage: of descriptors, ports, memory, in this order.
pub(crate) fn check(plan: &Plan, machine: &Machine) -> Result<(), Shortage> {
    let connections = plan.connections;
    let ends = if plan.server_inside { 2 } else { 1 };
    let needed = connections * ends + reserve(plan.threads);
    if needed > machine.descriptors_max {
        let fits = descriptors_fit(machine, plan.threads) / ends;
        return Err(Shortage::Descriptors { connections, needed, limit: machine.descriptors_max, fits });
    }
    let fits = plan.sources.capacity(machine.ports);
    if connections > fits {
        return Err(Shortage::Ports { connections, fits });
    }
    let available_bytes = machine.memory_available_bytes;
    // Both ends of a connection to this machine lie in this machine's memory, whichever process has them.
    let each = CONNECTION_END_BYTES * if plan.target.ip().is_loopback() { 2 } else { 1 };
    let needed_bytes = connections.saturating_mul(each);
    if needed_bytes > available_bytes {
        return Err(Shortage::Memory { connections, needed_bytes, available_bytes, fits: available_bytes / each });
    }
    Ok(())
}

/// How many connections suit `machine` when both ends of each are this process's: what fits its descriptors and half of
/// its memory, and no more than `most`.
pub(crate) fn suitable(machine: &Machine, threads: usize, most: u64) -> u64 {
    let by_descriptors = descriptors_fit(machine, threads) / 2;
    let by_memory = machine.memory_available_bytes / 2 / (2 * CONNECTION_END_BYTES);
    by_descriptors.min(by_memory).min(most).max(1)
}

/// What one end of a TCP connection takes: 4 KiB of the kernel at rest, some more while bytes are on their way.
const CONNECTION_END_BYTES: u64 = 6 * 1024;

/// Descriptors for everything but connections: three standard ones, a result file, libraries, and for each thread on
/// either side a poll, a listener and a wake-up.
fn reserve(threads: usize) -> u64 {
    64 + 4 * threads as u64
}

/// The other way out, where there is one.
fn or_fewer(fits: u64) -> String {
    if fits == 0 { String::new() } else { format!("; or `-c {fits}`") }
}

fn descriptors_fit(machine: &Machine, threads: usize) -> u64 {
    machine.descriptors_max.saturating_sub(reserve(threads))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{machine, plan};

    #[test]
    fn descriptors_fit_to_the_last_one() {
        // 20,000 less the reserve of 64 + 4.
        let fitting = plan("127.0.0.1:1 --threads 1 -c 19932").unwrap();
        assert_eq!(check(&fitting, &machine()), Ok(()));
        let shortage = check(&plan("127.0.0.1:1 --threads 1 -c 19933").unwrap(), &machine()).unwrap_err();
        let expected = Shortage::Descriptors { connections: 19_933, needed: 20_001, limit: 20_000, fits: 19_932 };
        assert_eq!(shortage, expected);
        assert!(shortage.to_string().contains("--nofile=20001"), "{shortage}");
        assert!(shortage.to_string().contains("19,932 would fit"), "{shortage}");
    }

    #[test]
    fn a_server_inside_takes_a_descriptor_for_each_connection_too() {
        let mut both = plan("127.0.0.1:1 --threads 1 -c 9966").unwrap();
        both.server_inside = true;
        assert_eq!(check(&both, &machine()), Ok(()));
        both.connections += 1;
        assert!(matches!(check(&both, &machine()), Err(Shortage::Descriptors { fits: 9966, .. })));
    }

    #[test]
    fn ports_run_out_only_where_the_kernel_chooses_them() {
        let roomy = Machine { descriptors_max: 100_000, ..machine() };
        assert_eq!(check(&plan("127.0.0.1:1 -c 60k").unwrap(), &roomy), Ok(()));
        assert_eq!(check(&plan("[::1]:1 -c 28232").unwrap(), &roomy), Ok(()));
        let shortage = check(&plan("[::1]:1 -c 28233").unwrap(), &roomy).unwrap_err();
        assert_eq!(shortage, Shortage::Ports { connections: 28_233, fits: 28_232 });
        assert!(shortage.to_string().contains("ip_local_port_range"), "{shortage}");
    }

    #[test]
    fn memory_counts_both_ends_on_this_machine() {
        let small = Machine { memory_available_bytes: 12 * 1024 * 100, ..machine() };
        assert_eq!(check(&plan("127.0.0.1:1 -c 100").unwrap(), &small), Ok(()));
        assert!(matches!(check(&plan("127.0.0.1:1 -c 101").unwrap(), &small), Err(Shortage::Memory { fits: 100, .. })));
        assert_eq!(check(&plan("192.0.2.1:1 -c 200").unwrap(), &small), Ok(()));
    }

    #[test]
    fn the_suitable_number_is_the_least_of_its_bounds() {
        assert_eq!(suitable(&machine(), 1, 5_000), 5_000);
        assert_eq!(suitable(&machine(), 1, 10_000), 9_966);
        assert_eq!(suitable(&Machine { memory_available_bytes: 24 * 1024 * 10, ..machine() }, 1, 5_000), 10);
        assert_eq!(suitable(&Machine { descriptors_max: 10, ..machine() }, 1, 5_000), 1);
    }
}
