//! Records that cannot be decoded or cannot be true.

use flight::dead_letter as letters;
use flight::position::Identified;
use flight_ingester::decode::OBSERVED_MS;

use crate::common::case::Case;
use crate::common::events::{encode, now_ms};
use crate::common::ingester::Ingester;
use crate::common::kafka::Raw;

const HOUR_MS: i64 = 3_600_000;

/// A record between good ones.
struct Bad {
    what: &'static str,
    reason: &'static str,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

fn bad(what: &'static str, reason: &'static str, payload: Vec<u8>) -> Bad {
    Bad {
        what,
        reason,
        payload: Some(payload),
        headers: Vec::new(),
    }
}

/// What is wrong, the reason given for it, and how to make an event so.
type Spoil = (&'static str, &'static str, fn(&mut Identified));

/// Every way in which an event is impossible.
fn impossible() -> Vec<Spoil> {
    vec![
        ("NaN longitude", "longitude", |e| {
            e.position.longitude = f64::NAN
        }),
        ("infinite longitude", "longitude", |e| {
            e.position.longitude = f64::NEG_INFINITY;
        }),
        ("longitude beyond the globe", "longitude", |e| {
            e.position.longitude = 180.00001;
        }),
        ("NaN latitude", "latitude", |e| {
            e.position.latitude = f64::NAN
        }),
        ("latitude beyond the pole", "latitude", |e| {
            e.position.latitude = -90.5
        }),
        ("NaN speed", "ground_speed", |e| {
            e.position.gspeed = f32::NAN
        }),
        ("altitude in orbit", "altitude", |e| {
            e.position.altitude = i32::MAX
        }),
        ("NaN track", "track", |e| e.position.track = Some(f32::NAN)),
        ("clock ahead", "clock", |e| {
            e.position.timestamp = now_ms() + 25 * HOUR_MS
        }),
        ("clock behind", "clock", |e| {
            e.position.timestamp = now_ms() - 25 * HOUR_MS
        }),
        ("clock at zero", "clock", |e| e.position.timestamp = 0),
        ("clock at the beginning of numbers", "clock", |e| {
            e.position.timestamp = i64::MIN;
        }),
        ("clock at the end of numbers", "clock", |e| {
            e.position.timestamp = i64::MAX;
        }),
        ("control characters", "name", |e| {
            e.position.callsign = "FDB\u{1b}[2J\u{0}".into();
        }),
        ("endless callsign", "name", |e| {
            e.position.callsign = "x".repeat(70_000)
        }),
        ("no flight id", "name", |e| e.position.flight_id.clear()),
        ("negative source offset", "source_offset", |e| {
            e.source_offset = -1
        }),
        ("least source offset", "source_offset", |e| {
            e.source_offset = i64::MIN
        }),
    ]
}

fn bad_records(case: &Case) -> Vec<Bad> {
    let good = encode(&case.event(1, 7), case.schema_id);
    let mut all: Vec<Bad> = impossible()
        .into_iter()
        .map(|(what, reason, spoil)| {
            let mut event = case.event(1, 7);
            spoil(&mut event);
            bad(what, reason, encode(&event, case.schema_id))
        })
        .collect();
    let mut trailing = good.clone();
    trailing.push(0);
    let mut not_utf8 = good.clone();
    not_utf8[6] = 0xff;
    let mut unknown = good.clone();
    unknown[1..5].copy_from_slice(&0x7fff_fff0u32.to_be_bytes());
    let mut above_i32 = good.clone();
    above_i32[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    all.extend([
        bad("cut at the end", "datum", good[..good.len() - 1].to_vec()),
        bad("cut in the middle", "datum", good[..20].to_vec()),
        bad("nothing behind the header", "datum", good[..5].to_vec()),
        bad("cut in the header", "not_wire_format", good[..3].to_vec()),
        bad("more than a record", "datum", trailing),
        bad("not UTF-8", "datum", not_utf8),
        bad("JSON", "not_wire_format", br#"{"flight_id":"x"}"#.to_vec()),
        bad("an unknown schema", "unknown_schema", unknown),
        bad("the last schema id", "unknown_schema", above_i32),
        bad("empty", "empty", Vec::new()),
        Bad {
            what: "a tombstone",
            reason: "empty",
            payload: None,
            headers: Vec::new(),
        },
        Bad {
            what: "a header that is no number does not excuse the clock",
            reason: "clock",
            payload: Some({
                let mut event = case.event(1, 7);
                event.position.timestamp = 1;
                encode(&event, case.schema_id)
            }),
            headers: vec![(OBSERVED_MS.into(), b"long ago".to_vec())],
        },
        // As large as Kafka takes, with headers of some size: they must fit into the letter too.
        Bad {
            what: "as large as can be",
            reason: "not_wire_format",
            payload: Some(vec![b'x'; 860_000]),
            headers: vec![("big".into(), vec![b'h'; 139_600])],
        },
        Bad {
            what: "nearly all headers",
            reason: "not_wire_format",
            payload: Some(vec![b'x'; 1_000]),
            headers: vec![("big".into(), vec![b'h'; 998_600])],
        },
    ]);
    all
}

#[test]
fn what_cannot_be_decoded_or_be_true_is_a_dead_letter_and_its_neighbours_pass() {
    let case = Case::with_partitions("bad", 1);
    let bad = bad_records(&case);
    let writer = case.writer();
    writer.begin();
    for (offset, bad) in (0..).zip(&bad) {
        writer.put(&case.event(0, offset));
        let mut headers = bad.headers.clone();
        headers.push(("traceparent".into(), bad.what.as_bytes().to_vec()));
        writer.put_raw(&Raw {
            partition: 0,
            key: Some(format!("key of {}", bad.what).into_bytes()),
            payload: bad.payload.clone(),
            headers,
        });
    }
    writer.commit();
    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, &case.events(0, 0..bad.len() as i64));
    case.assert_rows(1, &[]);
    ingester.wait_until_ready();

    let found = case.letters();
    assert_eq!(found.len(), bad.len(), "{:?}", found.keys());
    for (index, bad) in bad.iter().enumerate() {
        let origin = format!("{}:0:{}", case.settings.topic, 2 * index + 1);
        let letter = &found[&origin];
        let what = bad.what;
        assert_eq!(letter.text(letters::REASON), bad.reason, "{what}");
        assert!(!letter.text(letters::DETAIL).is_empty(), "{what}");
        assert_eq!(letter.text(letters::ORIGIN), origin, "{what}");
        assert_eq!(letter.text(letters::ORIGINAL_KEY), format!("key of {what}"));
        assert_eq!(letter.text("original-traceparent"), what);
        for (name, value) in &bad.headers {
            assert_eq!(
                &letter.headers[&format!("original-{name}")],
                value,
                "{what}"
            );
        }
        assert_eq!(
            letter.payload,
            bad.payload.clone().unwrap_or_default(),
            "{what}: not the bytes that came"
        );
        if ["clock", "longitude", "name"].contains(&bad.reason) {
            assert_eq!(letter.text(letters::SOURCE), case.source(1), "{what}");
            assert_eq!(letter.text(letters::SOURCE_OFFSET), "7", "{what}");
        }
    }
    assert_eq!(ingester.counted("dead_letters"), bad.len() as u64);
    ingester.stop();
}

#[test]
fn strange_records_that_can_be_true_are_rows() {
    let case = Case::with_partitions("strange", 1);
    let mut events = case.events(0, 0..7);
    events[0].position.callsign = "'; DROP TABLE flight_positions; --".into();
    events[1].position.callsign.clear();
    events[2].position.callsign = r"\N\\'\t😀 é".into();
    events[3].position.longitude = -180.0;
    events[3].position.latitude = 90.0;
    // Old, and sent again: the header says when it was observed.
    let old = now_ms() - 400 * 24 * HOUR_MS;
    events[4].position.timestamp = old;
    events[5].source_offset = i64::MAX;
    // The source's clock is a little wrong, the record's own time is not asked.
    events[6].position.timestamp = old + 23 * HOUR_MS;
    let writer = case.writer();
    writer.begin();
    for (index, event) in events.iter().enumerate() {
        let headers = match index {
            4 | 6 => vec![(OBSERVED_MS.to_owned(), old.to_string().into_bytes())],
            _ => Vec::new(),
        };
        writer.put_raw(&Raw {
            payload: Some(encode(event, case.schema_id)),
            headers,
            ..Raw::default()
        });
    }
    writer.commit();
    let ingester = Ingester::start(&case.settings);
    case.assert_rows(0, &events);
    assert_eq!(case.letters().len(), 0);
    ingester.stop();
}
