//! Source addresses as a user writes them: single ones and networks, separated by commas.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses of this machine that connections are to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceList {
    /// In the order in which they were written, each once.
    pub(crate) addresses: Vec<IpAddr>,
}

impl FromStr for SourceList {
    type Err = String;

    fn from_str(text: &str) -> Result<SourceList, String> {
        let mut addresses = Vec::new();
        for part in text.split(',') {
            match part.split_once('/') {
                Some((base, prefix)) => addresses.extend(network(part, base, prefix)?),
                None => addresses.push(part.parse().map_err(|_| format!("'{part}' is no address: {EXAMPLE}"))?),
            }
            if addresses.len() > ADDRESSES_MAX {
                return Err(format!("'{text}' has more than {ADDRESSES_MAX} addresses: {EXAMPLE}"));
            }
        }
        // An IPv4 address that is written as IPv6 (::ffff:10.0.0.2) is one: connections from it are IPv4.
        addresses.iter_mut().for_each(|address: &mut IpAddr| *address = address.to_canonical());
        if let Some((address, what)) = addresses.iter().find_map(|address| Some((address, nobodys(*address)?))) {
            return Err(format!("no connection comes from {address}, {what}: {EXAMPLE}"));
        }
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        Ok(SourceList { addresses })
    }
}

/// What `address` is, if it is none that one machine has. The kernel would take it, and then choose another one itself.
fn nobodys(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("which stands for any address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address"),
        _ => None,
    }
}

/// The hosts of a network: without its own and the broadcast address, where an IPv4 network has them.
fn network(part: &str, base: &str, prefix: &str) -> Result<Vec<IpAddr>, String> {
    let wrong = || format!("'{part}' is no network: {EXAMPLE}");
    let (base, prefix): (IpAddr, u32) = (base.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?);
    let width: u32 = if base.is_ipv4() { 32 } else { 128 };
    let free = width.checked_sub(prefix).ok_or_else(wrong)?;
    if free > FREE_BITS_MAX {
        return Err(format!("'{part}' has more than {ADDRESSES_MAX} addresses: {EXAMPLE}"));
    }
    let size = 1u128 << free;
    let edge = u128::from(base.is_ipv4() && free > 1);
    let hosts = edge..size - edge;
    Ok(match base {
        IpAddr::V4(base) => {
            let first = u128::from(u32::from(base)) & !(size - 1);
            hosts.map(|host| Ipv4Addr::from((first + host) as u32).into()).collect()
        }
        IpAddr::V6(base) => {
            let first = u128::from(base) & !(size - 1);
            hosts.map(|host| Ipv6Addr::from(first + host).into()).collect()
        }
    })
}

const EXAMPLE: &str = "give addresses of this machine such as 10.0.0.2,10.0.0.3 or 10.0.1.0/24";

/// With 31,744 ports each, two thousand million connections to one destination.
const ADDRESSES_MAX: usize = 65_536;
const FREE_BITS_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.parse::<SourceList>().unwrap().addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_and_networks_may_be_mixed() {
        assert_eq!(list("10.0.0.2"), ["10.0.0.2"]);
        assert_eq!(list("10.0.0.2,10.0.1.0/30,::1"), ["10.0.0.2", "10.0.1.1", "10.0.1.2", "::1"]);
        assert_eq!(list("10.0.0.2,10.0.0.2"), ["10.0.0.2"]);
    }

    #[test]
    fn networks_have_their_hosts_to_the_edge() {
        assert_eq!(list("10.0.0.5/32"), ["10.0.0.5"]);
        assert_eq!(list("10.0.0.5/31"), ["10.0.0.4", "10.0.0.5"]);
        assert_eq!(list("127.0.5.9/24").len(), 254);
        assert_eq!(list("255.255.255.253/32"), ["255.255.255.253"]);
        assert_eq!(list("fd00::/127"), ["fd00::", "fd00::1"]);
        assert_eq!(list("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/112").len(), 65_536);
        assert_eq!(list("10.1.0.0/16").len(), 65_534);
    }

    #[test]
    fn ipv4_that_is_written_as_ipv6_is_ipv4() {
        assert_eq!(list("::ffff:127.0.0.1,127.0.0.1"), ["127.0.0.1"]);
        assert_eq!(list("::ffff:10.0.0.4/127"), ["10.0.0.4", "10.0.0.5"]);
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        for (text, why) in [
            ("224.0.0.1", "a multicast address"),
            ("10.0.0.2,239.1.0.0/24", "a multicast address"),
            ("ff02::1", "a multicast address"),
            ("0.0.0.0", "any address"),
            ("::", "any address"),
            ("::/127", "any address"),
            ("::ffff:0.0.0.0", "any address"),
            ("255.255.255.255", "the broadcast address"),
            ("255.255.255.254/31", "the broadcast address"),
        ] {
            let sentence = text.parse::<SourceList>().unwrap_err();
            assert!(sentence.contains(why) && sentence.contains("10.0.1.0/24"), "{text}: {sentence}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_an_example() {
        for wrong in ["", "a", "10.0.0", "10.0.0.1,", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8", "::/64", "::1/129"] {
            assert!(wrong.parse::<SourceList>().unwrap_err().contains("10.0.1.0/24"), "{wrong}");
        }
    }
}
