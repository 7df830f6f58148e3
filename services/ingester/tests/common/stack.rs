//! Kafka, the registry and ClickHouse: one of each for all tests of a program, stopped with it.

use std::sync::{Arc, Mutex, PoisonError};

use contrail::{Component, Stack};

static STACK: Mutex<Option<Arc<Stack>>> = Mutex::new(None);

/// The stack, started by whoever asks first.
pub fn stack() -> Arc<Stack> {
    start([Component::Kafka, Component::Registry, Component::Clickhouse])
}

/// ClickHouse alone, for a program that needs nothing else.
pub fn clickhouse_only() -> Arc<Stack> {
    start([Component::Clickhouse])
}

fn start<const N: usize>(components: [Component; N]) -> Arc<Stack> {
    let mut stack = STACK.lock().unwrap_or_else(PoisonError::into_inner);
    stack
        .get_or_insert_with(|| {
            let stack = Stack::builder()
                .only(components)
                .free_ports()
                .temporary_state()
                .configure(|settings| {
                    // By default the first member of a new group waits 3 s for others.
                    let name = "group.initial.rebalance.delay.ms".to_owned();
                    settings.kafka.properties.insert(name, "100".to_owned());
                })
                .start()
                .unwrap_or_else(|error| panic!("{error}"));
            // Statics are not dropped: without this the stack's files would stay behind. (Its
            // processes would not, the kernel sees to that.)
            // SAFETY: the handler is a function of this program that neither unwinds nor exits.
            assert_eq!(unsafe { nix::libc::atexit(stop) }, 0);
            Arc::new(stack)
        })
        .clone()
}

extern "C" fn stop() {
    let stack = STACK.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(stack);
}
