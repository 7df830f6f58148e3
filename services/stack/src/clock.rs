//! Times as people and other programs read them.

use std::time::{SystemTime, UNIX_EPOCH};

use flight::calendar::format_instant_ms;

/// A time as RFC 3339 in UTC, to the millisecond: `2026-11-23T20:19:04.120Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format_instant_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time of day in UTC: `20:19:04`.
pub fn time_of_day(time: SystemTime) -> String {
    rfc3339(time)[11..19].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_times_are_written_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(
            time_of_day(UNIX_EPOCH + Duration::from_secs(3661)),
            "01:01:01"
        );
    }
}
