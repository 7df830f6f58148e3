//! flight-producer as a library in this process, reading from memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use contrail::Component;
use flight::admin::Admin;
use flight::shutdown::Shutdown;
use flight::source::SourceDescriptor;
use flight_producer::{LocalSource, Settings, run_local};

use super::events::Events;
use super::{Cluster, EVENTS};
use crate::rounds::Run;

/// Longest time for a run, and for what precedes it.
const LIMIT: Duration = Duration::from_secs(60);

struct Memory {
    events: Arc<Events>,
    /// Nothing is given before this is set.
    open: AtomicBool,
}

impl LocalSource for Memory {
    fn describe(&self) -> SourceDescriptor {
        SourceDescriptor {
            name: self.events.source.clone(),
            origin: 0,
            next: self.events.end(),
        }
    }

    fn batch(&self, from: i64) -> Option<Bytes> {
        let open = self.open.load(Ordering::Acquire);
        open.then(|| self.events.frame(from)).flatten()
    }
}

/// From the first frame to the last one's commit.
pub fn produce(cluster: &Cluster<'_>, name: &str, events: &Arc<Events>) -> Result<Run> {
    let mut settings = Settings {
        kafka: cluster.kafka.clone(),
        ..Settings::default()
    };
    settings.registry.url = cluster.stack.registry_url();
    settings.source.initial_offset = Some(0);
    settings.catch_up.after_events = 0;
    settings.topics.positions.name = name.to_owned();
    settings.topics.checkpoints.name = format!("{name}-checkpoints");
    settings.commit.transactional_id = Some(name.to_owned());
    let source = Arc::new(Memory {
        events: Arc::clone(events),
        open: AtomicBool::new(false),
    });
    let admin = Admin::default();
    let shutdown = Shutdown::new();
    let task = {
        let (source, admin, shutdown) = (source.clone(), admin.clone(), shutdown.clone());
        cluster
            .runtime
            .spawn(async move { run_local(source, settings, &admin, shutdown).await })
    };
    let began = Instant::now();
    // Before it has begun it has declared nothing that could be unmet.
    while counter(&admin, "flight_producer_sessions_total") < 1 || !admin.readiness().is_ready() {
        ensure!(
            began.elapsed() < LIMIT && !task.is_finished(),
            "the producer is not ready: {:?}",
            admin.readiness().unmet()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let processes = [
        ("producer", std::process::id()),
        (Component::Kafka.name(), cluster.kafka_pid()?),
    ];
    let run = Run::measure(processes, || {
        source.open.store(true, Ordering::Release);
        let began = Instant::now();
        while committed(&admin) < EVENTS {
            ensure!(
                began.elapsed() < LIMIT && !task.is_finished(),
                "only {} events were committed",
                committed(&admin)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(EVENTS)
    });
    shutdown.trigger();
    cluster
        .runtime
        .block_on(task)
        .context("the producer's task")??;
    run
}

fn committed(admin: &Admin) -> u64 {
    counter(admin, "flight_producer_events_committed_total")
}

fn counter(admin: &Admin, name: &str) -> u64 {
    let families = admin.gather();
    let family = families.iter().find(|family| family.name() == name);
    family
        .and_then(|family| family.get_metric().first())
        .map_or(0, |metric| metric.get_counter().get_value() as u64)
}
