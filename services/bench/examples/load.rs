//! Fills a server's table with generated positions, to try questions on:
//! `cargo run --release -p contrail-bench --example load -- --rows 20000000 --days 31`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Parser;
use contrail_bench::data::Dataset;

#[derive(Debug, Parser)]
struct Options {
    /// ClickHouse's HTTP interface.
    #[arg(long, default_value = "http://127.0.0.1:8123")]
    url: String,
    #[arg(long, default_value = "default")]
    user: String,
    #[arg(long, env = "CLICKHOUSE_PASSWORD", default_value = "admin")]
    password: String,
    /// The table, which must have the columns of flight_data.flight_positions.
    #[arg(long, default_value = "flight_data.flight_positions")]
    table: String,
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Aircraft.
    #[arg(long, default_value_t = 500)]
    fleet: u32,
    /// Days, up to now, over which the rows are spread.
    #[arg(long, default_value_t = 31)]
    days: u64,
    /// Instead of `days`: milliseconds between two positions of an aircraft.
    #[arg(long)]
    period_ms: Option<u32>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let dataset = match options.period_ms {
        Some(period_ms) => Dataset::with_period(options.rows, options.fleet, period_ms, now_ms),
        None => Dataset::over_days(options.rows, options.fleet, options.days, now_ms),
    };
    println!("{}", dataset.parameters.source_name());
    let client = clickhouse::Client::default()
        .with_url(&options.url)
        .with_user(&options.user)
        .with_password(&options.password);
    let begun = Instant::now();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(dataset.load(&client, &options.table, |rows| {
            println!(
                "{rows} rows, {:.0} a second",
                rows as f64 / begun.elapsed().as_secs_f64()
            );
        }))
}
