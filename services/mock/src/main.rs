//! The `flight-mock` binary: command line, telemetry, shutdown; the rest is the library's.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use flight::calendar;
use flight::cli::ConfigArgs;
use flight::shutdown::{DRAIN_LIMIT, Shutdown};
use flight_mock::Simulator;
use flight_mock::server::feed::now_ms;
use flight_mock::server::{Patience, serve};
use flight_mock::settings::{ENV_PREFIX, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulates air traffic as a log of positions that can be read from any offset.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the log (the default).
    Run,
    /// Say whether the settings can be used, and which they are.
    CheckConfig,
    /// Print the source that the settings describe, as JSON.
    Describe,
}

fn main() -> ExitCode {
    flight::memory::use_small_pages();
    let cli = Cli::parse();
    if let Some(Command::CheckConfig) = cli.command {
        return flight::cli::check_config::<Settings>(ENV_PREFIX, &cli.config);
    }
    let settings: Settings = match cli.config.load(ENV_PREFIX) {
        Ok(settings) => settings,
        Err(error) => return flight::cli::report(&error),
    };
    let result = match cli.command {
        Some(Command::Describe) => describe(&settings),
        _ => run(&settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flight-mock: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn describe(settings: &Settings) -> anyhow::Result<()> {
    let simulator = Simulator::new(settings.parameters())?;
    let parameters = simulator.parameters();
    let description = serde_json::json!({
        "name": simulator.source_name(),
        "seed": parameters.seed,
        "fleet": parameters.fleet,
        "period_ms": parameters.period_ms,
        "epoch": calendar::format_instant(parameters.epoch_ms),
        "origin": 0,
        "next": simulator.live_edge(now_ms()),
        "last": simulator.last_offset(),
    });
    println!("{description:#}");
    Ok(())
}

#[tokio::main]
async fn run(settings: &Settings) -> anyhow::Result<()> {
    let _telemetry = flight::telemetry::init("flight-mock", &settings.telemetry)?;
    let shutdown = Shutdown::on_signals().context("signal handlers")?;
    let listener = flight::admin::bind("listen", &settings.listen).await?;
    let serving = {
        let (settings, shutdown) = (settings.clone(), shutdown.clone());
        shutdown
            .clone()
            .spawn(async move { serve(&settings, Patience::default(), listener, shutdown).await })
    };
    let mut serving = serving;
    // Either the listener fails, or a signal comes and clients get their time to go.
    let outcome = tokio::select! {
        outcome = &mut serving => Some(outcome),
        () = shutdown.requested() => None,
    };
    if !shutdown.drained(DRAIN_LIMIT).await {
        tracing::warn!("not everything was drained in time");
    }
    if let Some(outcome) = outcome {
        outcome.context("the server's task")??;
    }
    tracing::info!("stopped");
    Ok(())
}
