//! A source's name promises its events: two builds that give one name different bytes would make
//! every stored event look changed to the verifier. If this test fails, the change is one that
//! needs another name.
#![allow(clippy::unwrap_used)]

use flight_mock::Simulator;

#[test]
fn events_of_a_name_never_change() {
    let simulator = Simulator::from_source_name("mock-s42-f500-p1000-e1767225600000").unwrap();
    let mut json = Vec::new();
    for offset in [0, 1, 250, 499, 2_500_000, 14_000_000_123] {
        simulator.event(offset).unwrap().write_json(&mut json);
        json.push(b'\n');
    }
    assert_eq!(
        String::from_utf8(json).unwrap(),
        include_str!("golden.ndjson")
    );
}

/// The same over many events, by FNV-1a of their bytes.
#[test]
fn a_hundred_thousand_events_never_change() {
    let simulator = Simulator::from_source_name("mock-s42-f500-p1000-e1767225600000").unwrap();
    let mut json = Vec::new();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for n in 0..100_000 {
        json.clear();
        simulator.event(n * 98_765).unwrap().write_json(&mut json);
        for byte in &json {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(format!("{hash:016x}"), include_str!("golden.hash").trim());
}
