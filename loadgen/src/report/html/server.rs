//! The server's processes over the run, as pictures beside the generator's own use of the processor.

use super::chart::{Axis, Chart};
use super::{figure, short};
use crate::quantity::bytes;
use crate::report::Report;
use crate::server_process::Look;

/// Pictures of what was seen of the server's processes; nothing where they were not named.
pub(super) fn section(report: &Report) -> String {
    let looks = &report.server_looks;
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return String::new() };
    let x = || Axis::linear_to(last.at.as_secs_f64(), |s| format!("{s} s"));
    let (server, generator) = (cores(looks, |look| look.server.cpu_time), cores(looks, |look| look.generator_cpu_time));
    let most = server.iter().chain(&generator).map(|(_, cores)| *cores).fold(0.0, f64::max);
    let y = Axis::linear(most, |cores| format!("{cores:.4}").trim_end_matches('0').trim_end_matches('.').to_owned());
    let mut processor = Chart::new("Processor", "cores in use, server beside generator", x(), y);
    processor.area("teal", &server);
    processor.line("teal", "server", &server);
    processor.line("blue", "generator", &generator);
    let mut charts = figure("Processor: cores in use", processor);
    let course =
        |of: &dyn Fn(&Look) -> f64| looks.iter().map(|look| (look.at.as_secs_f64(), of(look))).collect::<Vec<_>>();
    let highest = |points: &[(f64, f64)]| points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let resident = course(&|look| look.server.resident_bytes as f64);
    let mut memory = Chart::new(
        "Memory of the server",
        "resident",
        x(),
        Axis::linear(highest(&resident) / UNIT, |mib| {
            bytes((mib * UNIT) as u64).replace(".00", "").replace(".0 ", " ")
        }),
    );
    memory.area("teal", &resident.iter().map(|(at, value)| (*at, value / UNIT)).collect::<Vec<_>>());
    charts += &figure("Memory of the server, resident", memory);
    if first.server.descriptors.is_some() {
        let open = course(&|look| look.server.descriptors.unwrap_or(0) as f64);
        let mut chart = Chart::new("Descriptors of the server", "open", x(), Axis::linear(highest(&open), short));
        chart.area("teal", &open);
        let part = if looks.iter().any(|look| look.server.has_own_tables) { ", in its first table only" } else { "" };
        charts += &figure(&format!("Descriptors of the server{part}"), chart);
    }
    let ended = report.stages.last().and_then(|result| result.server_use.as_ref()).map_or(&[][..], |used| &used.gone);
    let ended = ended
        .iter()
        .map(|(pid, at)| format!("<p>Process {pid} ended {:.1} s after the run began.</p>\n", at.as_secs_f64()));
    let ended: String = ended.collect();
    format!("<h2>Server beside generator</h2>\n{ended}<div class=\"charts\">{charts}</div>\n")
}

/// Cores in use between one look and the next, of those that are far enough apart to tell: as steps.
fn cores(looks: &[Look], used: impl Fn(&Look) -> std::time::Duration) -> Vec<(f64, f64)> {
    let Some(mut before) = looks.first() else { return Vec::new() };
    let mut points = Vec::new();
    for look in looks {
        let (from_s, to_s) = (before.at.as_secs_f64(), look.at.as_secs_f64());
        if to_s - from_s >= APART_S {
            let cores = used(look).saturating_sub(used(before)).as_secs_f64() / (to_s - from_s);
            points.extend([(from_s, cores), (to_s, cores)]);
            before = look;
        }
    }
    points
}

/// The kernel counts a process's time in hundredths of a second: in so much time an error of one of them is 5 %.
const APART_S: f64 = 0.2;

/// Memory is shown in steps of round numbers of this.
const UNIT: f64 = 1024.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use crate::server_process::Sample;
    use std::time::Duration;

    fn look(at_s: f64, server_s: f64, generator_s: f64) -> Look {
        let seconds = Duration::from_secs_f64;
        let server =
            Sample { cpu_time: seconds(server_s), resident_bytes: 5 << 20, descriptors: Some(7), ..Sample::default() };
        Look { at: seconds(at_s), server, generator_cpu_time: seconds(generator_s) }
    }

    #[test]
    fn cores_are_those_between_two_looks_and_looks_too_close_are_passed_over() {
        let looks = [look(0.0, 5.0, 0.0), look(1.0, 5.5, 1.0), look(1.1, 5.6, 1.0), look(2.0, 7.5, 1.0)];
        assert_eq!(cores(&looks, |look| look.server.cpu_time), [(0.0, 0.5), (1.0, 0.5), (1.0, 2.0), (2.0, 2.0)]);
        assert_eq!(cores(&looks, |look| look.generator_cpu_time)[1..3], [(1.0, 1.0), (1.0, 0.0)]);
    }

    #[test]
    fn a_processor_that_is_hardly_used_has_an_axis_whose_names_differ() {
        let mut watched = report();
        watched.server_looks = vec![look(0.0, 0.0, 0.0), look(1.0, 0.01, 0.01)];
        let html = section(&watched);
        let chart = html.split("<svg").nth(1).unwrap();
        let upright = chart.split("text-anchor=\"end\">").skip(1).map(|rest| rest.split('<').next().unwrap());
        assert_eq!(upright.collect::<Vec<_>>(), ["0", "0.002", "0.004", "0.006", "0.008", "0.01"]);
    }

    #[test]
    fn the_server_stands_beside_the_generator_where_it_was_named() {
        let mut watched = report();
        assert_eq!(section(&watched), "");
        watched.server_looks = vec![look(0.0, 0.0, 0.0), look(1.0, 0.5, 1.0), look(2.0, 1.5, 2.0)];
        let html = section(&watched);
        assert!(
            html.matches("<svg").count() == 3 && html.contains(">server<") && html.contains(">generator<"),
            "{html}"
        );
        assert!(html.contains("Descriptors of the server</h3>") && !html.contains("NaN"), "{html}");
    }
}
