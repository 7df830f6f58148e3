//! (d) How old a position is when a query can see it, while events come as they happen.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use contrail::Stack;
use contrail::component::Component::{Clickhouse, Ingester, Kafka, Mock, Producer};
use flight_mock::{Parameters, Simulator};

use super::Group;
use crate::Plan;
use crate::cpu::Meter;
use crate::report::{Line, Role, Target, Unit};
use crate::world::{World, now_ms, pid};

/// The group.
pub const GROUP: Group = Group {
    letter: 'd',
    title: "age of a position when a query sees it, 1 in 50 looked for, every 25 ms",
    run,
};

/// Aircraft, each with a position a second: events a second.
const FLEETS: [u32; 2] = [1_000, 20_000];
/// What must hold at the larger rate.
const P99_MS: f64 = 1500.0;
/// One event in so many is looked for.
const SAMPLE: i64 = 50;
/// Pause between two looks. What is seen at the end of one counts as late as that.
const LOOK: Duration = Duration::from_millis(25);
/// One round.
const ROUND: Duration = Duration::from_secs(12);
/// Before the first round: the pipeline has been ready for a while.
const WARM: Duration = Duration::from_secs(4);
/// An event that is not seen for so long is lost.
const LOST: Duration = Duration::from_secs(30);

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for fleet in FLEETS {
        eprintln!("  {fleet} events/s");
        let rate = Rate::start(fleet)?;
        let mut rounds = Vec::new();
        for _ in 0..plan.rounds {
            rounds.push(rate.round()?);
        }
        rate.stack.shut_down();
        lines.extend(rate_lines(fleet, &rounds));
    }
    Ok(lines)
}

/// What one round gave.
struct Round {
    /// Ages in milliseconds, ascending.
    ages_ms: Vec<i64>,
    events: u64,
    cpu: Vec<(String, f64)>,
}

impl Round {
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.ages_ms.len() * percent).div_ceil(100).max(1);
        self.ages_ms[rank - 1] as f64
    }
}

fn rate_lines(fleet: u32, rounds: &[Round]) -> Vec<Line> {
    let cpu: Vec<_> = rounds.iter().map(|r| (r.events, r.cpu.clone())).collect();
    [50, 95, 99]
        .into_iter()
        .map(|percent| {
            let line = Line::new(
                'd',
                Role::Ours,
                format!("{fleet} events/s, p{percent}"),
                "flight-mock → WebSocket → flight-producer → Kafka → flight-ingester → \
                 clickhouse-embedded → SELECT; a fleet's events of one second happen at once",
                Unit::Milliseconds,
                rounds
                    .iter()
                    .map(|round| round.percentile(percent))
                    .collect(),
            );
            match percent {
                99 if fleet == FLEETS[1] => line.with_cpu(&cpu).with_target(Target::AtMost(P99_MS)),
                99 => line.with_cpu(&cpu),
                _ => line,
            }
        })
        .collect()
}

/// A stack at work.
struct Rate {
    stack: Stack,
    simulator: Simulator,
}

impl Rate {
    fn start(fleet: u32) -> Result<Self> {
        let world = World {
            fleet,
            period_ms: 1000,
            age: Duration::from_secs(3600),
        };
        let stack = world.stack().start()?;
        std::thread::sleep(WARM);
        let source = ask(
            &stack,
            "SELECT any(toString(source)) FROM flight_data.flight_positions",
        )?;
        let simulator = Simulator::new(Parameters::from_source_name(&source)?)?;
        Ok(Self { stack, simulator })
    }

    /// Looks again and again for the events that happen within one round, until all were seen.
    fn round(&self) -> Result<Round> {
        let processes = [
            ("flight-mock", Mock),
            ("flight-producer", Producer),
            ("kafka", Kafka),
            ("flight-ingester", Ingester),
            ("clickhouse-embedded", Clickhouse),
        ];
        let pids: Vec<_> = processes
            .into_iter()
            .map(|(name, component)| Ok((name, pid(&self.stack, component)?)))
            .collect::<Result<_>>()?;
        let meter = Meter::start(pids)?;
        let begun_ms = now_ms();
        let end_ms = begun_ms + ROUND.as_millis() as i64;
        let first = self.simulator.live_edge(begun_ms);
        let behind = self.simulator.live_edge(end_ms);
        let sampled = |offset: &i64| offset % SAMPLE == 0;
        let mut unseen: Vec<i64> = (first..behind).filter(sampled).collect();
        let mut ages_ms = Vec::with_capacity(unseen.len());
        let mut cpu = None;
        let deadline = Instant::now() + ROUND + LOST;
        while let (Some(least), Some(most)) = (unseen.first(), unseen.last()) {
            ensure!(
                Instant::now() < deadline,
                "{} of the events from {least} to {most} were not seen within {LOST:?}",
                unseen.len()
            );
            std::thread::sleep(LOOK);
            let seen: HashSet<i64> = ask(
                &self.stack,
                &format!(
                    "SELECT source_offset FROM flight_data.flight_positions \
                     WHERE source_offset BETWEEN {least} AND {most} AND source_offset % {SAMPLE} = 0 \
                     AND timestamp >= fromUnixTimestamp64Milli({}, 'UTC')",
                    self.simulator.timestamp(*least)?
                ),
            )?
            .lines()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
            let now_ms = now_ms();
            for offset in unseen.extract_if(.., |offset| seen.contains(offset)) {
                ages_ms.push(now_ms - self.simulator.timestamp(offset)?);
            }
            if now_ms >= end_ms && cpu.is_none() {
                cpu = Some(meter.stop()?);
            }
        }
        ages_ms.sort_unstable();
        Ok(Round {
            ages_ms,
            events: (behind - first) as u64,
            cpu: cpu.map_or_else(|| meter.stop(), Ok)?,
        })
    }
}

fn ask(stack: &Stack, sql: &str) -> Result<String> {
    let timeout = Duration::from_secs(30);
    stack
        .warehouse()
        .query(sql, &[], "TabSeparated", timeout)
        .map(|answer| answer.trim().to_owned())
        .map_err(anyhow::Error::msg)
        .with_context(|| sql.to_owned())
}
