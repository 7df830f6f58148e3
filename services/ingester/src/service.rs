//! The service as a whole: from settings to a running member of the group, and to its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flight::admin::{self, Admin};
use flight::backoff::Backoff;
use flight::kafka::Inquiry;
use flight::registry::RegistryClient;
use flight::shutdown::{DRAIN_LIMIT, Shutdown};
use flight::supervision;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::consumer::Member;
use crate::dead_letters::DeadLetters;
use crate::error::IngestError;
use crate::metrics::Metrics;
use crate::migrate::{MIGRATIONS, MigrateError, check_server, migrate, retain};
use crate::partition::PartitionContext;
use crate::partition::memory::Memory;
use crate::pulse::{Limits, Pulses, alive_during};
use crate::settings::Settings;
use crate::store::Store;

/// How often the systems around are asked for a sign of life.
const WATCH: Duration = Duration::from_secs(5);
/// Longest time for one attempt at bringing the tables up to date.
const MIGRATION: Duration = Duration::from_secs(3600);

/// Runs the ingester until the shutdown begins, and drains it.
///
/// # Errors
/// What restarting under the same settings cannot mend, see [`IngestError`]. Systems that are away
/// are waited for.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), IngestError> {
    let surface = Admin::default();
    let readiness = surface.readiness().clone();
    for condition in ["clickhouse", "kafka", "registry", "partitions"] {
        readiness.require(condition);
    }
    let metrics = Metrics::new(&mut surface.metrics());
    let listener = admin::bind("listen", &settings.listen).await?;
    tracing::info!(listen = settings.listen, "flight-ingester");
    shutdown.spawn(admin::serve(listener, surface.router(), shutdown.clone()));
    supervision::report(&readiness, &shutdown)?;

    let store = Store::new(&settings.clickhouse)?;
    let registry = Arc::new(RegistryClient::new(&settings.registry)?);
    let context = Arc::new(PartitionContext {
        dead_letters: DeadLetters::new(&settings.kafka, &settings.dead_letter_topic)?,
        settings: settings.clone(),
        store,
        registry,
        metrics,
        readiness,
        pulses: Pulses::default(),
        limits: Limits::new(&settings),
        runtime: Handle::current(),
        failed: CancellationToken::new(),
        memory: Arc::new(Memory::new(settings.batch.memory_bytes)),
        redoing: Mutex::new(()),
    });
    shutdown.spawn(watch(context.clone(), shutdown.clone()));

    let ended = tokio::select! {
        () = shutdown.requested() => Ok(()),
        prepared = prepare(&context) => match prepared {
            Ok(()) => ingest(context, shutdown.clone()).await,
            Err(error) => Err(error),
        },
    };
    if !shutdown.drained(DRAIN_LIMIT).await {
        tracing::warn!("not everything was drained in time; it is recovered at the next start");
    }
    ended
}

/// Waits for ClickHouse, brings its tables up to date unless that is left to others, and waits for the
/// topic.
async fn prepare(context: &PartitionContext) -> Result<(), IngestError> {
    migrate_when_possible(context).await?;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    loop {
        let asked = partition_count(context.settings.clone());
        match alive_during(&context.readiness, context.limits.kafka, asked).await {
            Ok(partitions) => {
                tracing::info!(topic = context.settings.topic, partitions, "topic found");
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(%error, "waiting for the topic");
                context.readiness.set("kafka", Err(error.to_string()));
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn migrate_when_possible(context: &PartitionContext) -> Result<(), IngestError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let days = context.settings.positions_retention_days;
        let bring = async {
            if !context.settings.migrate_on_start {
                return check_server(&context.store).await.map(|()| 0);
            }
            let done = migrate(&context.store, MIGRATIONS).await?;
            retain(&context.store, days).await.map(|_| done.len())
        };
        match alive_during(&context.readiness, MIGRATION, bring).await {
            Ok(applied) => {
                tracing::info!(applied, "ClickHouse is ready");
                return Ok(());
            }
            // The server is away, or does not let us in yet: not for us to end over.
            Err(error @ (MigrateError::Store { .. } | MigrateError::Locked { .. })) => {
                tracing::warn!(%error, "waiting for ClickHouse");
                context.readiness.set("clickhouse", Err(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn partition_count(settings: Settings) -> Result<usize, IngestError> {
    let asked = tokio::task::spawn_blocking(move || {
        let inquiry = Inquiry::new(&settings.kafka, "flight-ingester-metadata")?;
        Ok(inquiry.partition_count(&settings.topic)?)
    });
    asked.await.unwrap_or_else(|_| Err(IngestError::Revoked))
}

/// Serves the group on a thread of its own until the end.
async fn ingest(context: Arc<PartitionContext>, shutdown: Shutdown) -> Result<(), IngestError> {
    let member = Member::join(&context.settings, context.clone())?;
    context.readiness.set("kafka", Ok(()));
    let serve = move || {
        while !shutdown.is_requested() {
            context.pulses.sign_of_life(&context.readiness);
            if let Err(error) = member.poll(Duration::from_millis(100)) {
                member.abandon();
                return Err(error);
            }
        }
        member.leave();
        Ok(())
    };
    match tokio::task::spawn_blocking(serve).await {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Keeps the readiness of the registry, of ClickHouse and of Kafka true while nothing else asks them.
async fn watch(context: Arc<PartitionContext>, shutdown: Shutdown) {
    let mut turn = tokio::time::interval(WATCH);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = turn.tick() => {}
        }
        let registry = context
            .registry
            .ping()
            .await
            .map_err(|error| error.to_string());
        context.readiness.set("registry", registry);
        let clickhouse = context
            .store
            .ping()
            .await
            .map_err(|error| error.to_string());
        context.readiness.set("clickhouse", clickhouse);
        if context.metrics.partitions_assigned.get() > 0 {
            let kafka = partition_count(context.settings.clone()).await;
            context
                .readiness
                .set("kafka", kafka.map(drop).map_err(|error| error.to_string()));
        }
    }
}
