//! How many events a second one core generates and writes as JSON:
//! `cargo run --release -p flight-mock --example throughput`.

use std::time::Instant;

use flight_mock::{Parameters, Simulator};

fn main() -> Result<(), flight_mock::SimulatorError> {
    const EVENTS: i64 = 4_000_000;
    for fleet in [500, 20_000] {
        let start = Instant::now();
        let simulator = Simulator::new(Parameters {
            seed: 42,
            fleet,
            period_ms: 1000,
            epoch_ms: 1_767_225_600_000,
        })?;
        let built = start.elapsed();
        let mut json = Vec::new();
        let mut bytes = 0;
        let start = Instant::now();
        for offset in 0..EVENTS {
            simulator.event(offset)?.write_json(&mut json);
            if json.len() > 1 << 20 {
                bytes += json.len();
                json.clear();
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        bytes += json.len();
        println!(
            "fleet {fleet}: built in {built:?}; {:.2} M events/s, {:.0} bytes an event",
            EVENTS as f64 / seconds / 1e6,
            bytes as f64 / EVENTS as f64
        );
    }
    Ok(())
}
