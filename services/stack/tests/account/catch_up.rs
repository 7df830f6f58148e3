//! After a long outage live events come at once; what was missed follows beside them, and until it is there
//! it is told apart from what is missing.

use std::time::Duration;

use contrail::Stack;
use contrail::component::Component::Producer;
use serde_json::Value;

use crate::gaps::{gaps, none};
use crate::whole::{
    TABLE, World, assert_clean, eventually, now_ms, number, rows, sql, turn, verify,
};

/// Events a second.
const RATE: u32 = 4_000;

/// How old the newest position is, in milliseconds.
pub fn age_ms(stack: &Stack) -> i64 {
    let newest = format!("SELECT toUnixTimestamp64Milli(max(timestamp)) FROM {TABLE}");
    now_ms() - sql(stack, &newest).parse::<i64>().unwrap()
}

/// What `contrail gaps` calls pending, where nothing is missing.
fn pending(stack: &Stack) -> i64 {
    let (code, report) = gaps(stack, &["--wait", "1"]);
    assert_eq!((code, number(&report["missing"])), (0, 0), "{report:#}");
    assert_eq!(report["pending"], report["sources"][0]["pending"]);
    number(&report["pending"])
}

fn live(stack: &Stack) {
    eventually(Duration::from_secs(60), "events are live", || {
        age_ms(stack) < 3_000
    });
}

#[test]
fn after_an_outage_live_events_come_first_and_nothing_is_lost() {
    let _turn = turn();
    let stack = World::begun(Duration::from_secs(1), RATE, 1000)
        .settle(Stack::builder().free_ports().temporary_state())
        .env(Producer, "FLIGHT_PRODUCER_CATCH_UP__AFTER_EVENTS", "90000")
        // So slowly that it can be looked at.
        .env(
            Producer,
            "FLIGHT_PRODUCER_CATCH_UP__MAX_EVENTS_PER_S",
            "1500",
        )
        .start()
        .unwrap();
    eventually(Duration::from_secs(60), "10,000 rows", || {
        rows(&stack) >= 10_000
    });
    // The world began before the producer did.
    eventually(Duration::from_secs(240), "nothing is pending", || {
        pending(&stack) == 0
    });
    stack.stop(Producer).unwrap();
    std::thread::sleep(Duration::from_secs(30));
    stack.start(Producer).unwrap();
    live(&stack);
    let first = pending(&stack);
    assert!(first > 0, "live before the hole is filled");
    // The account names it, and calls nothing missing.
    let (code, report) = verify(&stack, &[]);
    assert_eq!((code, &report["ok"]), (0, &Value::Bool(true)), "{report:#}");
    let source = &report["sources"][0];
    let told = number(&source["pending_count"]);
    assert!(told > 0 && told < first, "{told} of {first}: {report:#}");
    assert_eq!(source["missing_count"], 0);

    // Killed in the middle, it goes on where it was.
    stack.kill(Producer).unwrap();
    stack.wait_ready(Producer, Duration::from_secs(60)).unwrap();
    live(&stack);
    let second = pending(&stack);
    assert!(second > 0 && second < told, "{second} of {told}");
    eventually(Duration::from_secs(240), "the hole is filled", || {
        pending(&stack) == 0
    });
    none(&stack, &["--full"]);
    stack.stop(Producer).unwrap();
    assert_clean(&stack);
    stack.shut_down();
}
