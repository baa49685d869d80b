//! HdrHistogram's V2 log: the latencies of each interval, in nanoseconds, a stage, or a run of it, a tag.

use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::report::{Report, StageResult};

/// The log of `report`. Timestamps are seconds since the run began.
pub(crate) fn render(report: &Report) -> String {
    let tagged = report.numbered().map(|(result, number)| {
        let name = result.stage.name();
        (result, if let Some((run, 2..)) = number { format!("{name}-{run}") } else { name.to_owned() })
    });
    render_of(report, tagged)
}

/// The log of `stages`, which are those of `report` or came from it, each with a tag: ASCII without commas and blanks.
pub(crate) fn render_of<'a>(report: &Report, stages: impl IntoIterator<Item = (&'a StageResult, String)>) -> String {
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment(&format!("loadgen {}: latencies in nanoseconds", env!("CARGO_PKG_VERSION")));
    builder.with_start_time(report.begun_at).with_base_time(report.begun_at).with_max_value_divisor(1e6);
    let mut writer = builder.begin_log_with(&mut log, &mut serializer).expect("memory can be written");
    let shown = stages.into_iter().filter(|(result, _)| result.recorder.answered > 0 && !result.is_warmup);
    for (result, tag) in shown {
        let timeline = &result.recorder.timeline;
        let interval = Duration::from_nanos(timeline.interval_ns());
        for (index, times) in timeline.intervals().enumerate() {
            let Some(histogram) = times.as_histogram() else { continue };
            let begin = result.begun_after + interval * index as u32;
            writer
                .write_histogram(histogram, begin, interval, Tag::new(&tag))
                .expect("memory can be written, and any count as V2");
        }
    }
    String::from_utf8(log).expect("the format is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{report, three_runs};
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn each_run_has_a_tag_of_its_own() {
        let mut three = three_runs();
        for result in &mut three.stages[1..] {
            result.recorder.timeline.record(0, u64::MAX, 1000);
            result.recorder.timeline.close();
        }
        let text = render(&three);
        let tags: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Tag=")?.split(',').next()).collect();
        assert_eq!(tags, ["closed-1", "closed-2", "closed-3"]);
    }

    #[test]
    fn what_is_read_back_is_what_was_measured() {
        let mut report = report();
        let timeline = &mut report.stages[1].recorder.timeline;
        (0..1000).for_each(|ms| timeline.record(ms * 1_000_000, u64::MAX, (ms + 1) * 1000));
        timeline.close();
        let text = render(&report);
        let mut all = Histogram::<u64>::new(3).unwrap();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                assert_eq!(interval.tag().unwrap().as_str(), "closed");
                let bytes =
                    base64::Engine::decode(&base64::prelude::BASE64_STANDARD, interval.encoded_histogram()).unwrap();
                all.add(Deserializer::new().deserialize::<u64, _>(&mut bytes.as_slice()).unwrap()).unwrap();
            }
        }
        assert_eq!((all.len(), all.max() / 1000), (1000, 1000));
    }
}
