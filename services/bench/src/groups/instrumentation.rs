//! (i) What traces and the asking for metrics cost: the whole pipeline at full speed, with and without.
//!
//! Two stacks stand side by side, of which one works at a time. *On* has its traces sent to a receiver in this
//! process, at the default share of batches, and its metrics asked for every second. *Off* has neither. Counting
//! itself cannot be turned off: both do it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use contrail::Stack;
use contrail::component::Component::{self, Clickhouse, Ingester, Kafka, Mock, Producer};

use super::Group;
use super::ingest::settle;
use crate::Plan;
use crate::cpu::Meter;
use crate::report::{Line, Role, Target, Unit};
use crate::rounds::Run;
use crate::world::{World, metric, metrics, pid};

/// The group.
pub const GROUP: Group = Group {
    letter: 'i',
    title: "what instrumentation costs, the whole pipeline at full speed in pairs of on and off",
    run,
};

/// Fewer would tell of chance.
const LEAST_PAIRS: usize = 5;
/// How long the producer works in one run.
const WINDOW: Duration = Duration::from_secs(10);
/// Without a row for so long, the pipeline is drained.
const DRAINED: Duration = Duration::from_millis(1500);
/// Share of the throughput without that must be left.
const LEFT: f64 = 0.97;
/// The services that are instrumented.
const SERVICES: [Component; 4] = [Mock, Producer, Ingester, Clickhouse];

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let receiver = Receiver::start()?;
    let (off, on) = (Side::start(None)?, Side::start(Some(receiver.endpoint()))?);
    // Both once, for nothing: files, caches and connections are there afterwards.
    for side in [&off, &on] {
        side.run(Duration::from_secs(3))?;
    }
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for pair in 0..plan.rounds.max(LEAST_PAIRS) {
        // Which one comes first changes.
        for is_on in [pair % 2 == 1, pair % 2 == 0] {
            let (side, runs) = match is_on {
                true => (&on, &mut with),
                false => (&off, &mut without),
            };
            let run = side.run(WINDOW)?;
            let name = if is_on { "on" } else { "off" };
            eprintln!(
                "    pair {} {name:>3}: {:.0} events/s",
                pair + 1,
                run.rate()
            );
            runs.push(run);
        }
    }
    let requests = receiver.requests.load(Ordering::Relaxed);
    eprintln!("    the receiver took {requests} requests with traces");
    ensure!(
        requests > 0,
        "no trace arrived: that is no measurement of traces"
    );
    off.stack.shut_down();
    on.stack.shut_down();
    Ok(lines(&without, &with))
}

fn lines(without: &[Run], with: &[Run]) -> Vec<Line> {
    let rates = |runs: &[Run]| runs.iter().map(Run::rate).collect();
    let cpu = |runs: &[Run]| -> Vec<_> { runs.iter().map(|r| (r.events, r.cpu.clone())).collect() };
    let path = "flight-mock → flight-producer → Kafka → flight-ingester → clickhouse-embedded, all at once";
    let ratios = with
        .iter()
        .zip(without)
        .map(|(on, off)| on.rate() / off.rate());
    let line = |role, subject: &str, path: &str, unit, samples| {
        Line::new('i', role, subject, path, unit, samples)
    };
    vec![
        line(Role::Part, "off", path, Unit::PerSecond, rates(without)).with_cpu(&cpu(without)),
        line(Role::Ours, "on", path, Unit::PerSecond, rates(with)).with_cpu(&cpu(with)),
        line(
            Role::Ours,
            "on / off",
            "each pair: traces of 1 batch in 100, metrics asked for every second, beside neither",
            Unit::Times,
            ratios.collect(),
        )
        .with_target(Target::AtLeast(LEFT)),
    ]
}

/// A stack with or without instrumentation.
struct Side {
    stack: Stack,
    is_on: bool,
}

impl Side {
    fn start(endpoint: Option<String>) -> Result<Self> {
        let world = World {
            fleet: 20_000,
            period_ms: 1000,
            age: Duration::from_secs(2 * 3600),
        };
        let is_on = endpoint.is_some();
        let stack = world
            .stack()
            .env(Producer, "FLIGHT_PRODUCER_SOURCE__INITIAL_OFFSET", "0")
            .configure(|settings| settings.telemetry.otlp_endpoint = endpoint)
            .start()?;
        stack.stop(Producer)?;
        Ok(Self { stack, is_on })
    }

    /// Has the producer work for a while, and counts what comes out at the end, until nothing does any more.
    fn run(&self, window: Duration) -> Result<Run> {
        let stack = &self.stack;
        settle(stack)?;
        let asking = AtomicBool::new(self.is_on);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while asking.load(Ordering::Relaxed) {
                    for service in SERVICES {
                        let _ = metrics(service, stack.port(service));
                    }
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
            let run = self.work(window);
            asking.store(false, Ordering::Relaxed);
            run
        })
    }

    fn work(&self, window: Duration) -> Result<Run> {
        let stack = &self.stack;
        let before = self.inserted()?;
        stack.start(Producer)?;
        let others = Meter::start([
            ("flight-mock", pid(stack, Mock)?),
            ("kafka", pid(stack, Kafka)?),
            ("flight-ingester", pid(stack, Ingester)?),
            ("clickhouse-embedded", pid(stack, Clickhouse)?),
        ])?;
        let producer = Meter::start([("flight-producer", pid(stack, Producer)?)])?;
        let begun = Instant::now();
        std::thread::sleep(window);
        // It is gone afterwards, and with it what it used.
        let mut cpu = producer.stop()?;
        stack.stop(Producer)?;
        let (mut seen, mut last) = (self.inserted()?, Instant::now());
        while last.elapsed() < DRAINED {
            ensure!(begun.elapsed() < 6 * window, "the pipeline is not drained");
            std::thread::sleep(Duration::from_millis(20));
            let now = self.inserted()?;
            if now > seen {
                (seen, last) = (now, Instant::now());
            }
        }
        cpu.extend(others.stop()?);
        let events = (seen - before) as u64;
        ensure!(events > 0, "nothing went through the pipeline");
        Ok(Run {
            events,
            elapsed: last - begun,
            cpu,
        })
    }

    /// Rows that the ingester has inserted.
    fn inserted(&self) -> Result<f64> {
        let port = self.stack.port(Ingester);
        metric(Ingester, port, "flight_ingester_rows_inserted_total")
    }
}

/// Takes traces and throws them away.
struct Receiver {
    port: u16,
    requests: Arc<AtomicU64>,
}

impl Receiver {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let requests = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || {
                    while let Ok(true) = take(&stream) {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Self { port, requests })
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// One request of a connection; false at its end.
fn take(mut stream: &TcpStream) -> std::io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_compared_with_each_other() {
        let runs = |rates: [u64; 3]| {
            rates.map(|events| Run {
                events,
                elapsed: Duration::from_secs(1),
                cpu: Vec::new(),
            })
        };
        // The machine became slower: each pair tells 1 % all the same.
        let lines = lines(&runs([1000, 800, 600]), &runs([990, 792, 594]));
        assert_eq!(lines[2].value(), 0.99);
        assert!(lines[2].is_met());
        assert!(!super::lines(&runs([1000; 3]), &runs([960; 3]))[2].is_met());
    }

    #[test]
    fn the_receiver_takes_one_request_after_the_other() {
        let receiver = Receiver::start().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port)).unwrap();
        for n in 1..=2 {
            stream
                .write_all(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 5\r\n\r\nspans")
                .unwrap();
            let mut answer = [0; 38];
            stream.read_exact(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            let deadline = Instant::now() + Duration::from_secs(5);
            while receiver.requests.load(Ordering::Relaxed) < n {
                assert!(Instant::now() < deadline);
            }
        }
    }
}
