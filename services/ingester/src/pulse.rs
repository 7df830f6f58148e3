//! Signs of life of the threads that do the work.
//!
//! A service whose loop turns while a thread beside it hangs would look alive. So each thread says before
//! every step what it is and how long it may take at most: waiting for a system that is away has its bounds
//! in timeouts, and is no fault. Only while no thread is past its own word does the service give the signs of
//! life that the watchdog waits for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flight::admin::Readiness;

use crate::settings::Settings;

/// What a step may take beyond what its timeouts add up to: on a machine that is short of processors, or
/// was stopped for a moment.
const GRACE: Duration = Duration::from_secs(30);
/// Longest wait for Kafka's answer to one request, repeated by the client where it has to be.
const KAFKA: Duration = Duration::from_secs(240);
/// Bytes of an insert that are sent under one timeout.
const PIECE_BYTES: usize = 1 << 20;

/// How long the steps of a thread may take at most, by the timeouts of the settings.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Taking records and decoding them, the registry asked for a schema.
    pub collect: Duration,
    /// One request to Kafka.
    pub kafka: Duration,
    /// One query of ClickHouse.
    pub query: Duration,
    insert: Duration,
}

impl Limits {
    /// The limits under `settings`.
    pub fn new(settings: &Settings) -> Self {
        let registry = &settings.registry;
        let registry = Duration::from_millis(registry.timeout_ms) * registry.attempts;
        let session = Duration::from_millis(settings.group.session_timeout_ms.into());
        Self {
            collect: registry + GRACE,
            kafka: KAFKA + session + GRACE,
            query: Duration::from_millis(settings.clickhouse.query_timeout_ms) + GRACE,
            insert: Duration::from_millis(settings.clickhouse.insert_timeout_ms),
        }
    }

    /// Limit of an insert of so many bytes: its timeout counts for each piece that is sent, and once more
    /// for the answer.
    pub fn insert(&self, bytes: usize) -> Duration {
        let pieces = u32::try_from(bytes / PIECE_BYTES + 2).unwrap_or(u32::MAX);
        self.insert.saturating_mul(pieces) + GRACE
    }
}

#[derive(Debug, Clone, Copy)]
struct Step {
    what: &'static str,
    began: Instant,
    limit: Duration,
}

#[derive(Debug, Default)]
struct Steps {
    by_partition: BTreeMap<i32, Step>,
    /// The thread whose silence was told of.
    told: Option<i32>,
}

/// The steps of all threads, by partition.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<Steps>>);

impl Pulses {
    /// Watches a thread until what is returned is dropped.
    pub fn watch(&self, partition: i32) -> Pulse {
        Pulse {
            partition,
            pulses: self.clone(),
        }
    }

    /// Gives a sign of life, unless a thread is silent for longer than its step may take.
    pub fn sign_of_life(&self, readiness: &Readiness) {
        let mut steps = self.lock();
        let Some(silence) = steps.silence() else {
            steps.told = None;
            return readiness.beat();
        };
        // Said once, and for as long as it lasts by /readyz.
        if steps.told.replace(silence.partition) != Some(silence.partition) {
            tracing::error!("{silence}");
            readiness.set("partitions", Err(silence.to_string()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steps {
    fn silence(&self) -> Option<Silence> {
        let silent = |(partition, step): (&i32, &Step)| {
            let lasts = step.began.elapsed();
            (lasts > step.limit).then_some(Silence {
                partition: *partition,
                step: *step,
                lasts,
            })
        };
        self.by_partition.iter().find_map(silent)
    }
}

/// A thread that is past its own word.
struct Silence {
    partition: i32,
    step: Step,
    lasts: Duration,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "partition {} hangs: `{}` has taken {} s, and {} s is what its timeouts allow; \
             the service manager's watchdog, where there is one, starts the service again",
            self.partition,
            self.step.what,
            self.lasts.as_secs(),
            self.step.limit.as_secs()
        )
    }
}

/// The pulse of one thread.
#[derive(Debug)]
pub struct Pulse {
    partition: i32,
    pulses: Pulses,
}

impl Pulse {
    /// The thread begins a step, which takes `limit` at most.
    pub fn begin(&self, what: &'static str, limit: Duration) {
        let step = Step {
            what,
            began: Instant::now(),
            limit,
        };
        self.pulses.lock().by_partition.insert(self.partition, step);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.pulses.lock().by_partition.remove(&self.partition);
    }
}

/// Gives signs of life while `work` is under way, for `limit` at most.
pub async fn alive_during<T>(
    readiness: &Readiness,
    limit: Duration,
    work: impl Future<Output = T>,
) -> T {
    let beat = async {
        let mut turn = tokio::time::interval(Duration::from_secs(1));
        let began = Instant::now();
        while began.elapsed() < limit {
            turn.tick().await;
            readiness.beat();
        }
        std::future::pending().await
    };
    tokio::select! {
        done = work => done,
        never = beat => never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(pulses: &Pulses, readiness: &Readiness) -> bool {
        let before = readiness.signs_of_life();
        pulses.sign_of_life(readiness);
        readiness.signs_of_life() > before
    }

    #[test]
    fn a_thread_that_hangs_takes_the_signs_of_life_with_it() {
        let (pulses, readiness) = (Pulses::default(), Readiness::default());
        assert!(beats(&pulses, &readiness), "nobody works yet");
        let (one, other) = (pulses.watch(1), pulses.watch(2));
        one.begin("collect", Duration::from_secs(60));
        other.begin("insert", Duration::ZERO);
        std::thread::sleep(Duration::from_millis(5));
        assert!(!beats(&pulses, &readiness));
        let unmet = readiness.unmet();
        assert!(
            unmet["partitions"].starts_with("partition 2 hangs: `insert` has taken 0 s"),
            "{unmet:?}"
        );
        other.begin("insert", Duration::from_secs(60));
        assert!(beats(&pulses, &readiness), "it came round");
        other.begin("commit", Duration::ZERO);
        std::thread::sleep(Duration::from_millis(5));
        assert!(!beats(&pulses, &readiness));
        drop(other);
        assert!(beats(&pulses, &readiness), "it ended");
    }

    #[test]
    fn waiting_for_a_system_that_is_away_is_within_the_limits() {
        let mut settings = Settings::default();
        settings.clickhouse.insert_timeout_ms = 600_000;
        settings.clickhouse.query_timeout_ms = 700_000;
        settings.registry.timeout_ms = 100_000;
        let limits = Limits::new(&settings);
        // A piece is sent, and the answer waited for.
        assert!(limits.insert(10) > Duration::from_millis(2 * 600_000));
        assert!(limits.insert(5 << 20) > Duration::from_millis(6 * 600_000));
        assert!(limits.query > Duration::from_millis(700_000));
        let attempts = u64::from(settings.registry.attempts);
        assert!(limits.collect > Duration::from_millis(attempts * 100_000));
    }

    #[tokio::test]
    async fn work_that_is_awaited_is_alive_for_its_time_only() {
        let readiness = Readiness::default();
        let work = || tokio::time::sleep(Duration::from_millis(1100));
        alive_during(&readiness, Duration::from_secs(60), work()).await;
        let signs = readiness.signs_of_life();
        assert!(signs >= 2, "{signs} signs of life in more than a second");
        alive_during(&readiness, Duration::ZERO, work()).await;
        assert_eq!(readiness.signs_of_life(), signs);
    }
}
