//! Moments as people and programs write them: RFC 3339, or seconds since 1970 (UTC).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, Unit};

/// Reads a moment such as `2026-11-25T10:00:00Z`, `2026-11-25T11:00:00+01:00` or `1795600800`.
pub(crate) fn parse_moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(UNIX_EPOCH + Duration::from_secs(seconds.into()));
    }
    let moment = text.parse::<Timestamp>().and_then(SystemTime::try_from);
    moment.map_err(|error| {
        format!(
            "'{text}' is no moment: give 2026-11-25T10:00:00Z, with +01:00 in place of Z for another time zone, or seconds \
             since 1970, such as `$(date -d '+1 min' +%s)`; {error}"
        )
    })
}

/// `moment` as RFC 3339 has it, in UTC and to the millisecond.
pub(crate) fn rfc3339(moment: SystemTime) -> String {
    let rounded = Timestamp::try_from(moment).and_then(|moment| moment.round(Unit::Millisecond));
    // Only a clock that is set thousands of years off gives what it cannot write.
    rounded.map_or_else(|_| "unknown".to_owned(), |moment| moment.to_string())
}

/// The same to the second that has begun.
pub(crate) fn rfc3339_seconds(moment: SystemTime) -> String {
    let begun = Timestamp::try_from(moment).and_then(|moment| Timestamp::from_second(moment.as_second()));
    begun.map_or_else(|_| "unknown".to_owned(), |moment| moment.to_string())
}

/// Seconds since 1970; less before.
pub(crate) fn unix_s(moment: SystemTime) -> f64 {
    match moment.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_any_time_zone_and_written_in_utc() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_795_600_800);
        for text in ["1795600800", "2026-11-25T10:00:00Z", "2026-11-25T11:00:00+01:00", "2026-11-25 10:00:00Z"] {
            assert_eq!(parse_moment(text), Ok(moment), "{text}");
        }
        assert_eq!(rfc3339(moment), "2026-11-25T10:00:00Z");
        assert_eq!(rfc3339(moment + Duration::from_micros(250_400)), "2026-11-25T10:00:00.25Z");
        assert_eq!(rfc3339_seconds(moment + Duration::from_millis(999)), "2026-11-25T10:00:00Z");
        assert_eq!((unix_s(moment), unix_s(UNIX_EPOCH - Duration::from_secs(1))), (1_795_600_800.0, -1.0));
    }

    #[test]
    fn what_is_no_moment_is_refused_with_examples() {
        for wrong in ["", "now", "10:00", "2026-11-25", "2026-11-25T10:00:00", "2026-13-01T00:00:00Z", "-5", "+30s"] {
            let error = parse_moment(wrong).expect_err(wrong);
            assert!(error.contains("2026-11-25T10:00:00Z") && error.contains("+%s"), "{error}");
        }
    }
}
