//! What the integration tests share: one real Kafka, registry and ClickHouse for each test program,
//! events that follow from their identity, the ingester as a process, and the account of what is in
//! the tables and among the dead letters.

#![allow(dead_code)]

pub mod case;
pub mod events;
pub mod ingester;
pub mod kafka;
pub mod registry;
pub mod stack;
pub mod table;

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
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Runs a future to its end.
pub fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
