//! flight-ingester: from Kafka into ClickHouse, each event exactly once.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flight::cli::{ConfigArgs, check_config, report};
use flight::shutdown::Shutdown;
use flight_ingester::allocator;
use flight_ingester::error::IngestError;
use flight_ingester::migrate::{MIGRATIONS, migrate, retain};
use flight_ingester::service;
use flight_ingester::settings::{ENV_PREFIX, Settings};
use flight_ingester::store::Store;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reads positions from Kafka and inserts them into ClickHouse, each exactly once.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service (the default).
    Run,
    /// Bring the tables up to date and exit.
    Migrate,
    /// Check the settings, print them as they take effect, and exit.
    CheckConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    flight::memory::use_small_pages();
    allocator::give_back_soon();
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Command::Run);
    if matches!(command, Command::CheckConfig) {
        return check_config::<Settings>(ENV_PREFIX, &cli.config);
    }
    let settings: Settings = match cli.config.load(ENV_PREFIX) {
        Ok(settings) => settings,
        Err(error) => return report(&error),
    };
    let _telemetry = match flight::telemetry::init("flight-ingester", &settings.telemetry) {
        Ok(guard) => guard,
        Err(error) => return report(&error),
    };
    flight::failpoint::setup();
    let ended = match command {
        Command::Migrate => bring_up_to_date(&settings).await,
        _ => match Shutdown::on_signals() {
            Ok(shutdown) => service::run(settings, shutdown).await,
            Err(error) => Err(error.into()),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "flight-ingester ends");
            eprintln!("flight-ingester: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bring_up_to_date(settings: &Settings) -> Result<(), IngestError> {
    let store = Store::new(&settings.clickhouse)?;
    let done = migrate(&store, MIGRATIONS).await?;
    println!(
        "applied {} of {} migrations: {done:?}",
        done.len(),
        MIGRATIONS.len()
    );
    if retain(&store, settings.positions_retention_days).await? {
        println!(
            "flight_positions keeps its rows for {} days (0: for ever)",
            settings.positions_retention_days
        );
    }
    Ok(())
}
