//! Times that were measured, as a histogram that takes memory only for what it has seen.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// Counts nanoseconds to three digits, 0.1 % of the value, whatever their number.
///
/// Sixty workers have three of them each, most of which stay empty, so the first sample makes the histogram, and it grows
/// with the longest: 16 KiB for microseconds, 130 KiB for tens of milliseconds, 220 KiB for a minute.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    histogram: Option<Histogram<u64>>,
    ns_max: u64,
}

impl Times {
    /// No times yet; those beyond `ns_max` will count as that.
    pub(crate) fn new(ns_max: u64) -> Times {
        Times { histogram: None, ns_max }
    }

    /// Counts one.
    pub(crate) fn record(&mut self, ns: u64) {
        self.record_n(ns, 1);
    }

    /// Counts `number` of the same.
    pub(crate) fn record_n(&mut self, ns: u64, number: u64) {
        let ns = ns.min(self.ns_max);
        // Growing, it takes every value that fits an i64, and a week of nanoseconds does.
        self.histogram().record_n(ns, number).expect("it grows as needed");
    }

    /// Adds what `other` has, bucket by bucket, so that percentiles of the sum are those of all samples together.
    pub(crate) fn merge(&mut self, other: &Times) {
        if let Some(theirs) = &other.histogram {
            self.histogram().add(theirs).expect("it grows as needed");
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The time that a part of them, from 0 to 1, do not exceed; 0 when there are none.
    pub(crate) fn at_quantile(&self, quantile: f64) -> u64 {
        self.histogram.as_ref().map_or(0, |histogram| histogram.value_at_quantile(quantile))
    }

    /// Their mean; 0 when there are none.
    pub(crate) fn mean(&self) -> f64 {
        self.histogram.as_ref().map_or(0.0, Histogram::mean)
    }

    /// The longest; 0 when there are none.
    pub(crate) fn max(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::max)
    }

    /// The histogram, for formats that need more than is here; `None` where nothing was recorded.
    pub(crate) fn as_histogram(&self) -> Option<&Histogram<u64>> {
        self.histogram.as_ref()
    }

    /// All values with how often each was seen, in ascending order; none are left.
    pub(crate) fn take_values(&mut self) -> Vec<(u64, u64)> {
        let Some(histogram) = &mut self.histogram else { return Vec::new() };
        let values = histogram.iter_recorded().map(|it| (it.value_iterated_to(), it.count_at_value())).collect();
        histogram.reset();
        values
    }

    /// Those that [`take_values`](Times::take_values) gave.
    pub(crate) fn of_values(values: &[(u64, u64)]) -> Times {
        let mut times = Times::new(u64::MAX >> 1);
        values.iter().for_each(|(ns, number)| times.record_n(*ns, *number));
        times
    }

    /// All of them in HdrHistogram's compressed V2 format, as base64: what every reader of that format decodes, and what
    /// can be added to another run's. `None` when there are none.
    pub(crate) fn encoded(&self) -> Option<String> {
        let mut bytes = Vec::new();
        let histogram = self.histogram.as_ref()?;
        // Counts beyond an i64 are all that it refuses, and writing to memory does not fail.
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("its counts fit an i64");
        Some(STANDARD.encode(bytes))
    }

    /// The same to two digits, 1 % of the value, in half of the room: enough for a picture.
    pub(crate) fn encoded_coarsely(&self) -> Option<String> {
        let mut coarse = Histogram::new(DIGITS_COARSE).expect("two digits are valid");
        let steps = self.histogram.as_ref().filter(|histogram| !histogram.is_empty())?.iter_recorded();
        steps.for_each(|it| coarse.record_n(it.value_iterated_to(), it.count_at_value()).expect("it grows as needed"));
        Times { histogram: Some(coarse), ns_max: 0 }.encoded()
    }

    /// Those that [`encoded`](Times::encoded) wrote.
    ///
    /// # Errors
    /// A sentence: what it is instead of such a histogram.
    pub(crate) fn decoded(text: &str) -> Result<Times, String> {
        let bytes = STANDARD.decode(text).map_err(|error| format!("histogram is no base64: {error}"))?;
        let read = Deserializer::new().deserialize(&mut bytes.as_slice());
        let read: Histogram<u64> = read.map_err(|error| format!("histogram cannot be read: {error}"))?;
        // Added to one of its own, which grows as needed.
        let mut times = Times::new(u64::MAX >> 1);
        times.merge(&Times { histogram: Some(read), ns_max: 0 });
        Ok(times)
    }

    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.histogram.get_or_insert_with(|| Histogram::new(DIGITS).expect("three digits are valid"))
    }
}

const DIGITS: u8 = 3;
const DIGITS_COARSE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_the_longest_and_keeps_three_digits() {
        let mut times = Times::new(60_000_000_000);
        for ns in [1, 1_000, 123_456_789, 59_999_000_000] {
            times.record(ns);
            assert!(times.max().abs_diff(ns) <= ns / 1000, "{ns} became {}", times.max());
        }
        assert_eq!(times.len(), 4);
        assert_eq!(times.at_quantile(0.5) / 1_000, 1);
    }

    #[test]
    fn empty_ones_take_nothing_and_add_nothing() {
        let (mut one, other) = (Times::new(1_000), Times::new(1_000));
        one.merge(&other);
        assert!(one.histogram.is_none());
        assert_eq!((one.len(), one.max(), one.at_quantile(0.99)), (0, 0, 0));
    }

    #[test]
    fn a_time_beyond_the_bound_is_kept_at_the_bound() {
        let mut times = Times::new(60_000_000_000);
        times.record(600_000_000_000);
        assert_eq!(times.len(), 1);
        assert!((60_000_000_000..60_100_000_000).contains(&times.max()), "{}", times.max());
    }

    #[test]
    fn what_is_encoded_is_what_was_counted_bucket_by_bucket() {
        let mut times = Times::new(60_000_000_000);
        assert_eq!(times.encoded(), None);
        (1..=1_000).for_each(|us| times.record_n(us * 997, us));
        times.record(59_000_000_000);
        let bytes = STANDARD.decode(times.encoded().unwrap()).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(Some(&read), times.histogram.as_ref());
        let mut again = Times::decoded(&times.encoded().unwrap()).unwrap();
        assert_eq!(again.histogram, times.histogram);
        let mut coarse = Times::decoded(&times.encoded_coarsely().unwrap()).unwrap();
        assert_eq!((coarse.len(), Times::new(9).encoded_coarsely()), (times.len(), None));
        assert!(coarse.at_quantile(0.5).abs_diff(times.at_quantile(0.5)) <= times.at_quantile(0.5) / 100);
        assert!(coarse.take_values().len() < times.clone().take_values().len());
        again.record(3_600_000_000_000);
        assert_eq!(again.len(), times.len() + 1, "it still grows");
        assert!(Times::decoded("x").unwrap_err().contains("no base64"));
        assert!(Times::decoded("aGlzdA==").unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_long_time_joins_short_ones() {
        let (mut short, mut long) = (Times::new(60_000_000_000), Times::new(60_000_000_000));
        short.record_n(1_000, 99);
        long.record(10_000_000_000);
        short.merge(&long);
        assert_eq!(short.len(), 100);
        assert!(short.max() >= 10_000_000_000);
    }
}
