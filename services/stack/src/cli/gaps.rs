//! `contrail gaps`: what is missing.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::Failure;
use super::console::grouped;
use crate::components::Context;
use crate::gaps::{GapReport, Options, check};
use crate::layout::Layout;
use crate::settings::Settings;
use crate::verify::VerifySettings;

/// Exit code: something is missing.
const EXIT_GAPS: u8 = 1;
/// Exit code: whether something is missing cannot be told.
const EXIT_FAILED: u8 = 2;

#[derive(Debug, clap::Args)]
pub struct GapsArgs {
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Look for every event, and not only for those that are new since the last check, or were missing then.
    #[arg(long)]
    full: bool,
    /// Leave out what `repair_gaps` of Airflow knows that the source itself has no more.
    #[arg(long)]
    skip_lost: bool,
    /// Do not look in Kafka for what is missing, nor say where it is missing first.
    #[arg(long)]
    quick: bool,
    /// Longest wait, in seconds, until the ingester has caught up with what is in Kafka now. What it has
    /// not taken by then counts as on its way.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
}

/// Prints what is missing; the exit code says whether anything is.
pub fn run(layout: Layout, settings: Settings, args: &GapsArgs) -> ExitCode {
    match report(layout, settings, args) {
        Ok(report) if report.missing == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_GAPS),
        Err(error) => {
            eprintln!("contrail: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn report(layout: Layout, settings: Settings, args: &GapsArgs) -> Result<GapReport, Failure> {
    let context = Context::to_ask(layout, settings);
    let settings = VerifySettings {
        wait: Duration::from_secs(args.wait),
        ..VerifySettings::of(&context)
    };
    let runtime = super::runtime()?;
    let options = Options {
        full: args.full,
        skip_lost: args.skip_lost,
        quick: args.quick,
    };
    let report = runtime.block_on(check(&settings, options))?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", text(&report)),
    }
    Ok(report)
}

fn text(report: &GapReport) -> String {
    let mut text = String::new();
    for source in &report.sources {
        let (name, missing) = (&source.source, grouped(source.missing));
        let _ = writeln!(
            text,
            "{name}: {missing} missing of offsets {} to below {}",
            source.begin, source.checked_below
        );
        if source.pending > 0 {
            let _ = writeln!(
                text,
                "  {} more were passed over in an outage: the producer is sending them",
                grouped(source.pending)
            );
        }
    }
    for gap in &report.gaps {
        let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "?".to_owned());
        let _ = writeln!(
            text,
            "  {} to {} ({} events, {} to {}) of {}{}",
            gap.first,
            gap.last,
            grouped(gap.count),
            time(&gap.from),
            time(&gap.to),
            gap.source,
            gap.place
                .map(|place| format!(", not in {}", place.name()))
                .unwrap_or_default()
        );
    }
    text
}
