//! The flight-producer binary: command line, logs, admin endpoint, signals.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use flight::admin::{self, Admin};
use flight::cli::{ConfigArgs, check_config, report};
use flight::shutdown::Shutdown;
use flight::supervision;
use flight_producer::{ENV_PREFIX, Settings, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reads a source of flight positions and writes each to Kafka exactly once.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Run the producer (the default).
    Run,
    /// Print the settings in effect, or what is wrong with them.
    CheckConfig,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::CheckConfig) = cli.command {
        return check_config::<Settings>(ENV_PREFIX, &cli.config);
    }
    let settings: Settings = match cli.config.load(ENV_PREFIX) {
        Ok(settings) => settings,
        Err(error) => return report(&error),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(serve(settings)).unwrap_or_else(|error| {
        // The subscriber may not be there: then the log has no place.
        eprintln!("flight-producer: {error:#}");
        ExitCode::FAILURE
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

async fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let _telemetry = flight::telemetry::init("flight-producer", &settings.telemetry)?;
    flight::failpoint::setup();
    let shutdown = Shutdown::on_signals()?;
    let admin = Admin::default();
    let listener = admin::bind("listen", &settings.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "metrics and readiness");
    // A token of its own: the endpoint tells of the draining until that is done.
    let endpoint = Shutdown::new();
    endpoint.spawn(admin::serve(listener, admin.router(), endpoint.clone()));
    supervision::report(admin.readiness(), &shutdown)?;
    let result = run(settings, &admin, shutdown).await;
    endpoint.drained(Duration::from_millis(500)).await;
    Ok(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            tracing::error!("{fatal}");
            ExitCode::from(fatal.exit_code())
        }
    })
}
