//! Results that were added up: what each part was, and what speaks against their sum. No clock, no socket.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::alike::{folded, list};
use crate::quantity::span;
use crate::report::json::facts::LengthFacts;
use crate::results::one_at_a_time;
use crate::shard::Shard;

/// One process's part of results that were added up, as far as it tells whether they may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// `shard 1/4`, or its file, where it was no shard.
    pub(crate) name: String,
    /// Null where its load was its own.
    pub(crate) shard: Option<Shard>,
    pub(crate) version: String,
    /// Its command line; empty where a sum of an older version did not keep it.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// The machine, from its start on.
    pub(crate) boot_id: String,
    pub(crate) seed: u64,
    pub(crate) target: String,
    /// The protocol, and what was sent and expected where that was given.
    pub(crate) said: String,
    #[serde(default = "one_at_a_time")]
    pub(crate) pipeline: u32,
    pub(crate) message_bytes: u32,
    pub(crate) duration_s: f64,
    pub(crate) timeout_s: f64,
    pub(crate) connections: u64,
    /// Of all shards.
    pub(crate) connections_whole: u64,
    /// Those of its stages that are no warm-up and have a duration, in order.
    pub(crate) windows: Vec<Window>,
    /// How long the bodies of HTTP responses had to be, by target.
    #[serde(default)]
    pub(crate) body_bytes: Vec<LengthFacts>,
    /// The verdict on it alone, and the reasons for that.
    pub(crate) verdict: String,
    pub(crate) reasons: Vec<String>,
}

/// When a stage was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) stage: String,
    /// In seconds since 1970, by the clock of its machine.
    pub(crate) begin_unix_s: f64,
    pub(crate) window_s: f64,
    /// Of an open loop, at the beginning and at the end.
    pub(crate) rate_target_range_per_s: Option<[f64; 2]>,
}

impl Window {
    fn end_s(&self) -> f64 {
        self.begin_unix_s + self.window_s
    }
}

/// Why `parts` cannot be added at all, in a sentence; `None` where they can, whatever that is worth.
pub(crate) fn refusal(parts: &[Part]) -> Option<String> {
    let first = parts.first()?;
    parts.iter().find_map(|part| match (first.shard, part.shard) {
        (Some(one), Some(other)) if one.count == other.count => None,
        (None, None) => None,
        (Some(_), Some(_)) => Some(format!("{} and {} are not of one load", first.name, part.name)),
        _ => Some(format!("one of {} and {} is a shard of a load, and the other is none", first.name, part.name)),
    })
}

/// What speaks against the figures of the sum of `parts`: what they are to each other, and then what spoke against each.
pub(crate) fn doubts(parts: &[Part]) -> Vec<String> {
    let mut doubts = shards(parts);
    doubts.extend(settings(parts));
    doubts.extend(lengths(parts));
    doubts.extend(seeds(parts));
    doubts.extend(apart(parts));
    let of_each = parts.iter().flat_map(|part| part.reasons.iter().map(|reason| (part.name.clone(), reason.clone())));
    doubts.extend(folded(of_each.collect(), list));
    doubts
}

/// The part of the time, from 0 to 1, for which the windows of all `parts` were open together, where that was the least;
/// `None` where nothing has a duration.
pub(crate) fn together(parts: &[Part]) -> Option<f64> {
    (0..windows(parts)).map(|index| overlap(parts, index)).reduce(f64::min)
}

/// Shards that are missing, or there twice.
fn shards(parts: &[Part]) -> Vec<String> {
    let indices: Vec<u64> = parts.iter().filter_map(|part| Some(part.shard?.index)).collect();
    let count = parts.iter().find_map(|part| Some(part.shard?.count)).unwrap_or(0);
    let listed = |indices: BTreeSet<u64>| match indices.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice() {
        [] => None,
        [only] => Some(format!("shard {only} of {count} is")),
        many => Some(format!("shards {} of {count} are", many.join(", "))),
    };
    let is_there = |index: &u64| indices.contains(index);
    let missing = listed((0..count).filter(|index| !is_there(index)).collect());
    let is_double = |index: &&u64| indices.iter().filter(|other| other == index).count() > 1;
    let double = listed(indices.iter().filter(is_double).copied().collect());
    let missing = missing.map(|which| format!("{which} missing: its part of the load is not in the figures"));
    missing.into_iter().chain(double.map(|which| format!("{which} there more than once"))).collect()
}

/// What should be the same everywhere, and is not.
fn settings(parts: &[Part]) -> Vec<String> {
    type Setting<'a> = (&'static str, &'a dyn Fn(&Part) -> String);
    let settings: [Setting<'_>; 9] = [
        ("version of loadgen", &|part| part.version.clone()),
        ("target", &|part| part.target.clone()),
        ("protocol", &|part| part.said.clone()),
        ("number of requests at once on a connection", &|part| part.pipeline.to_string()),
        ("size of a request", &|part| format!("{} B", part.message_bytes)),
        ("duration", &|part| format!("{} s", part.duration_s)),
        ("timeout", &|part| format!("{} s", part.timeout_s)),
        ("connections of all shards", &|part| {
            part.shard.map(|_| part.connections_whole.to_string()).unwrap_or_default()
        }),
        ("rate", &|part| part.windows.iter().map(|window| rate(part, window)).collect::<Vec<_>>().join(", ")),
    ];
    let differs = |(name, of): Setting<'_>| {
        let first = of(parts.first()?);
        let (other, theirs) = parts.iter().map(|part| (part, of(part))).find(|(_, theirs)| *theirs != first)?;
        Some(format!("not the same {name}: {first} of {}, {theirs} of {}", parts[0].name, other.name))
    };
    settings.into_iter().filter_map(differs).collect()
}

/// The rate of a shard; loads that were no shards may each have one of their own.
fn rate(part: &Part, window: &Window) -> String {
    // Those of shards differ in the last bits of a division.
    let shown = |per_s: f64| ((per_s * 1e6).round() / 1e6).to_string();
    match (part.shard, window.rate_target_range_per_s.map(|range| range.map(shown))) {
        (Some(_), Some([from, to])) if from == to => from,
        (Some(_), Some([from, to])) => format!("{from}:{to}"),
        _ => String::new(),
    }
}

/// Each part judged responses by what most of its own first ones were.
fn lengths(parts: &[Part]) -> Option<String> {
    let all = || parts.iter().flat_map(|part| part.body_bytes.iter().map(move |it| (part, it)));
    let first = |address: &str| all().find(|(_, it)| it.address == address);
    let differs = |(part, it): (&Part, &LengthFacts)| {
        let (other, one) = first(&it.address).filter(|(_, one)| one.bytes != it.bytes)?;
        Some(format!(
            "not the same page: the responses of {} had to have {} B at {}, and {} B at {}, where all others counted as failed",
            it.address, one.bytes, other.name, it.bytes, part.name
        ))
    };
    all().find_map(differs)
}

/// Shards have one seed, which sets their bytes and arrivals apart; loads of their own have one each.
fn seeds(parts: &[Part]) -> Option<String> {
    let are_shards = parts.first()?.shard.is_some();
    let pairs =
        || parts.iter().enumerate().flat_map(|(index, one)| parts[..index].iter().map(move |other| (other, one)));
    let (one, other) = pairs().find(|(one, other)| (one.seed == other.seed) != are_shards)?;
    Some(if are_shards {
        format!(
            "{} has seed {}, and {} has {}: give all shards the same --seed, or bytes of another one's are not known as such",
            one.name, one.seed, other.name, other.seed
        )
    } else {
        format!(
            "{} and {} have the same seed, {}, so they sent the same bytes at the same moments: one may be the other's \
             copy; for parts of one load give --shard",
            one.name, other.name, one.seed
        )
    })
}

/// How many windows every part has.
fn windows(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.windows.len()).min().unwrap_or(0)
}

fn overlap(parts: &[Part], index: usize) -> f64 {
    let windows = || parts.iter().map(|part| &part.windows[index]);
    let begin_s = windows().map(|it| it.begin_unix_s).fold(f64::MIN, f64::max);
    let end_s = windows().map(Window::end_s).fold(f64::MAX, f64::min);
    let longest_s = windows().map(|it| it.window_s).fold(f64::MIN_POSITIVE, f64::max);
    ((end_s - begin_s) / longest_s).clamp(0.0, 1.0)
}

/// Rates are added as if all had been measured at once. Of several windows that were not it is the worst that is told.
fn apart(parts: &[Part]) -> Option<String> {
    let all = windows(parts);
    let apart: Vec<(usize, f64)> =
        (0..all).map(|index| (index, overlap(parts, index))).filter(|(_, part)| *part < TOGETHER_MIN).collect();
    let (index, overlap) = apart.iter().copied().min_by(|(_, one), (_, other)| one.total_cmp(other))?;
    let (in_how_many, worst) = match all {
        1 => (String::new(), ""),
        all => (format!(" in {} of {all} windows", apart.len()), ", at worst"),
    };
    let begins =
        |one: &&Part, other: &&Part| one.windows[index].begin_unix_s.total_cmp(&other.windows[index].begin_unix_s);
    let (first, last) = (parts.iter().min_by(begins)?, parts.iter().max_by(begins)?);
    let late_s = last.windows[index].begin_unix_s - first.windows[index].begin_unix_s;
    Some(format!(
        "not measured at the same time{in_how_many}: the windows of the {} were open together for {:.0} % of the longest{worst}, {} \
         began {} after \
         {} (give all the same --start-at; clocks have to agree)",
        loop_name(&first.windows[index].stage),
        (overlap * 100.0).floor(),
        last.name,
        span((late_s * 1e9) as u64),
        first.name
    ))
}

/// A stage in words.
fn loop_name(stage: &str) -> String {
    if stage == "hold" { stage.to_owned() } else { format!("{stage} loop") }
}

/// Less than this part of the time together is not one load.
const TOGETHER_MIN: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(index: u64, count: u64) -> Part {
        let window = Window {
            stage: "open".into(),
            begin_unix_s: 1000.0,
            window_s: 10.0,
            rate_target_range_per_s: Some([5.0, 5.0 + 1e-12]),
        };
        Part {
            name: format!("shard {index}/{count}"),
            shard: Some(Shard { index, count }),
            version: "0.1.0".into(),
            command: Vec::new(),
            boot_id: "boot".into(),
            seed: 7,
            target: "h:1".into(),
            said: "echo".to_owned(),
            pipeline: 1,
            message_bytes: 64,
            duration_s: 10.0,
            timeout_s: 5.0,
            connections: 10,
            connections_whole: 30,
            windows: vec![window],
            body_bytes: Vec::new(),
            verdict: "valid".into(),
            reasons: Vec::new(),
        }
    }

    /// What is doubted of three shards of which the second is changed.
    fn doubted(change: impl FnOnce(&mut Part)) -> String {
        let mut parts: Vec<Part> = (0..3).map(|index| part(index, 3)).collect();
        change(&mut parts[1]);
        doubts(&parts).join("\n")
    }

    #[test]
    fn shards_that_belong_together_are_not_doubted() {
        assert_eq!(doubted(|_| ()), "");
        assert_eq!(doubted(|part| part.windows[0].begin_unix_s += 0.5), "", "95 % together");
        assert_eq!(together(&[part(0, 1)]), Some(1.0));
    }

    #[test]
    fn several_windows_apart_are_told_once_with_their_number() {
        let shard = |index, begins_s: [f64; 3]| {
            let mut part = part(index, 2);
            let window = part.windows[0].clone();
            part.windows = begins_s.map(|begin_unix_s| Window { begin_unix_s, ..window.clone() }).to_vec();
            part
        };
        let doubts = doubts(&[shard(0, [0.0, 100.0, 200.0]), shard(1, [0.0, 102.0, 205.0])]);
        assert_eq!(doubts.len(), 1, "{doubts:?}");
        assert!(doubts[0].starts_with("not measured at the same time in 2 of 3 windows: "), "{doubts:?}");
        assert!(doubts[0].contains("for 50 % of the longest, at worst, shard 1/2 began 5.00 s after"), "{doubts:?}");
    }

    #[test]
    fn a_shard_that_is_missing_or_there_twice_is_told() {
        let again = doubted(|part| part.shard = Some(Shard { index: 2, count: 3 }));
        assert_eq!(
            again,
            "shard 1 of 3 is missing: its part of the load is not in the figures\nshard 2 of 3 is there more than once"
        );
        let lonely = doubts(&[part(3, 4)]).join("\n");
        assert!(lonely.starts_with("shards 0, 1, 2 of 4 are missing"), "{lonely}");
    }

    #[test]
    fn what_differs_is_told_with_who_has_what() {
        type Change = fn(&mut Part);
        let differences: [(Change, &str); 8] = [
            (|part| part.version = "0.2.0".into(), "version of loadgen: 0.1.0 of shard 0/3, 0.2.0 of shard 1/3"),
            (|part| part.target = "g:1".into(), "same target"),
            (|part| part.message_bytes = 65, "64 B of shard 0/3, 65 B of shard 1/3"),
            (|part| part.pipeline = 16, "requests at once on a connection: 1 of shard 0/3, 16 of shard 1/3"),
            (|part| part.duration_s = 9.0, "same duration"),
            (|part| part.connections_whole = 31, "connections of all shards"),
            (|part| part.windows[0].rate_target_range_per_s = Some([5.0, 6.0]), "same rate: 5 of shard 0/3, 5:6 of"),
            (|part| part.seed = 8, "seed 7, and shard 1/3 has 8"),
        ];
        for (change, wanted) in differences {
            let said = doubted(change);
            assert!(said.contains(wanted) && said.lines().count() == 1, "{said}");
        }
    }

    #[test]
    fn parts_that_got_other_pages_are_told() {
        let got = |index, bytes: &[(&str, u64)]| {
            let fact = |(address, bytes): &(&str, u64)| LengthFacts { address: (*address).into(), bytes: *bytes };
            Part { body_bytes: bytes.iter().map(fact).collect(), ..part(index, 3) }
        };
        let alike = [got(0, &[]), got(1, &[("a", 5), ("b", 6)]), got(2, &[("b", 6)])];
        assert_eq!(doubts(&alike), [""; 0]);
        let said = doubts(&[got(0, &[("a", 5)]), got(1, &[("a", 5), ("b", 6)]), got(2, &[("b", 7)])]).join("\n");
        assert!(
            said.starts_with(
                "not the same page: the responses of b had to have 6 B at shard 1/3, and 7 B at shard 2/3"
            )
        );
    }

    #[test]
    fn windows_that_were_not_open_together_are_told_and_so_is_what_a_part_says_of_itself() {
        let late = doubted(|part| part.windows[0].begin_unix_s += 2.5);
        assert!(
            late.contains(
                "of the open loop were open together for 75 % of the longest, shard 1/3 began 2.50 s after shard 0/3"
            ),
            "{late}"
        );
        assert!(doubted(|part| part.windows[0].begin_unix_s += 60.0).contains("for 0 %"));
        assert_eq!(doubted(|part| part.reasons.push("busy".into())), "shard 1/3: busy");
        let busy = |index| Part { reasons: vec![format!("busy for 8{index} %")], ..part(index, 3) };
        assert_eq!(doubts(&[busy(0), busy(1), busy(2)]), ["shard 0/3, shard 1/3 and shard 2/3: busy for 80 to 82 %"]);
    }

    #[test]
    fn loads_of_their_own_have_seeds_and_rates_of_their_own() {
        let own = |seed| Part { shard: None, seed, ..part(0, 1) };
        assert_eq!(doubts(&[own(1), own(2)]), [""; 0]);
        assert!(doubts(&[own(1), own(1)])[0].contains("one may be the other's copy"));
        assert!(refusal(&[own(1), part(0, 2)]).unwrap().contains("the other is none"));
        assert!(refusal(&[part(0, 3), part(0, 2)]).unwrap().contains("not of one load"));
        assert_eq!(refusal(&[part(0, 2), part(1, 2)]), None);
    }
}
