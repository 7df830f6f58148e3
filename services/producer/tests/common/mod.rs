//! What the integration tests share: a real Kafka, a registry and a source that do as they are told,
//! the producer as a process, and the account of what is in the topics.

#![allow(dead_code)]

pub mod kafka;
pub mod ledger;
pub mod process;
pub mod registry;
pub mod source;

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A port of this machine that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until something holds; says what did not, if it never does.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
