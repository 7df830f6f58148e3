//! The flight-producer binary: command line, logs, admin endpoint, signals.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use flight::admin::{self, Admin};
use flight::cli::{ConfigArgs, EXIT_CONFIG, check_config, report};
use flight::shutdown::Shutdown;
use flight::supervision;
use flight_producer::replay::{self, ReplayError, Replays, Wanted};
use flight_producer::{ENV_PREFIX, Settings, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest wait at the end for a replay that is under way.
const REPLAY_DRAIN: Duration = Duration::from_secs(2);

/// Reads a source of flight positions and writes each to Kafka exactly once.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Run the producer (the default).
    Run,
    /// Send events again that were sent before: by offsets (--first, --last) or by times (--from, --to),
    /// ends included. Beside a producer that runs, or without one; what is in ClickHouse is not added twice.
    Replay(replay::Request),
    /// Print the settings in effect, or what is wrong with them.
    CheckConfig,
}

fn main() -> ExitCode {
    flight::memory::use_small_pages();
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
    let work = async {
        match cli.command {
            Some(Command::Replay(request)) => send_again(settings, request).await,
            _ => serve(settings).await,
        }
    };
    let code = runtime.block_on(work).unwrap_or_else(|error| {
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
    flight_producer::require(&admin);
    let listener = admin::bind("listen", &settings.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "metrics and readiness");
    let replays = Replays::start(settings.clone(), &admin, shutdown.clone())?;
    // A token of its own: the endpoint tells of the draining until that is done.
    let endpoint = Shutdown::new();
    let router = admin.router().merge(replays.router());
    endpoint.spawn(admin::serve(listener, router, endpoint.clone()));
    supervision::report(admin.readiness(), &shutdown)?;
    let result = run(settings, &admin, shutdown.clone()).await;
    // Where the producer ended by itself, its replays end with it.
    shutdown.trigger();
    tokio::task::spawn_blocking(move || replays.wait_until_over(REPLAY_DRAIN)).await?;
    endpoint.drained(Duration::from_millis(500)).await;
    Ok(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            tracing::error!("{fatal}");
            ExitCode::from(fatal.exit_code())
        }
    })
}

/// `flight-producer replay`.
async fn send_again(settings: Settings, request: replay::Request) -> anyhow::Result<ExitCode> {
    let wanted = match Wanted::try_from(request) {
        Ok(wanted) => wanted,
        Err(refusal) => {
            eprintln!("replay: {refusal}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let shutdown = Shutdown::on_signals()?;
    let began = Instant::now();
    let sent = tokio::task::spawn_blocking(move || {
        let mut shown = Instant::now();
        replay::once(
            settings,
            shutdown,
            &wanted,
            |range| {
                println!(
                    "sending {} events of {} again: offsets {} to {}",
                    range.total(),
                    range.source,
                    range.first(),
                    range.last()
                );
            },
            |sent| {
                if shown.elapsed() > Duration::from_secs(1) {
                    shown = Instant::now();
                    println!("{sent} sent");
                }
            },
        )
    })
    .await?;
    Ok(match sent {
        Ok(range) => {
            println!(
                "{} events are in Kafka again, after {:.1} s",
                range.total(),
                began.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(error @ ReplayError::Refused(_)) => {
            eprintln!("replay: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
        Err(error) => {
            eprintln!("replay failed: {error}; what was sent of it does no harm, ask again");
            ExitCode::FAILURE
        }
    })
}
