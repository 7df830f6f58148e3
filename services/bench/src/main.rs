//! `contrail-bench`, run by `make bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use contrail_bench::Plan;
use contrail_bench::compare::{self, Verdict};
use contrail_bench::groups::GROUPS;
use contrail_bench::machine::Machine;
use contrail_bench::report::{Report, table};
use contrail_bench::world::now_ms;
use flight::calendar::format_instant;

/// The last run's figures, whenever it was.
const LATEST: &str = "latest.json";

/// Measures the platform beside its peers and its limits.
#[derive(Debug, Parser)]
#[command(name = "contrail-bench", version)]
struct Options {
    /// Letters of the groups to measure, with commas between. All, if not given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<char>,
    /// How often each subject is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows in the tables that questions are asked of.
    #[arg(long, default_value_t = 20_000_000)]
    rows: u64,
    /// Directory for the figures as JSON: one file for each run, and `latest.json`.
    #[arg(long, default_value = "var/bench")]
    results: PathBuf,
    /// An earlier run's JSON: says for each line whether it became better or worse. `latest` is the
    /// last run's.
    #[arg(long)]
    compare: Option<PathBuf>,
    /// Exit with 1 if a target is missed, or a line is worse than in the run compared with.
    #[arg(long)]
    strict: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if options.rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    let known: String = GROUPS.iter().map(|group| group.letter).collect();
    if let Some(letter) = options.only.iter().find(|letter| !known.contains(**letter)) {
        bail!("--only {letter}: there is no such group; the groups are {known}");
    }
    // Before anything is measured: a wrong name must not show after twenty minutes.
    let earlier = options
        .compare
        .as_deref()
        .map(|path| match path.to_str() {
            Some("latest") => read(&options.results.join(LATEST)),
            _ => read(path),
        })
        .transpose()?;
    let plan = Plan {
        rounds: options.rounds,
        rows: options.rows,
    };
    let began_ms = now_ms();
    let mut report = Report {
        machine: Machine::here(),
        began: u64::try_from(began_ms / 1000).unwrap_or(0),
        rounds: plan.rounds,
        lines: Vec::new(),
    };
    let began = format_instant(began_ms - began_ms.rem_euclid(1000));
    let file = options
        .results
        .join(format!("{}.json", began.replace(':', "")));
    println!("{began}, {}", report.machine);
    for group in GROUPS {
        if !options.only.is_empty() && !options.only.contains(&group.letter) {
            continue;
        }
        eprintln!("measuring ({}) {} …", group.letter, group.title);
        let lines = (group.run)(&plan).with_context(|| format!("group {}", group.letter))?;
        let title = format!("({}) {}", group.letter, group.title);
        print!("{}", table(&title, &lines));
        report.lines.extend(lines);
        // After each group: a run that is cut off has written what it knows.
        write(&file, &report)?;
    }
    write(&options.results.join(LATEST), &report)?;
    let mut failed = report.lines.iter().filter(|line| !line.is_met()).count();
    println!("\n{failed} targets missed; figures in {}", file.display());
    if let Some(earlier) = &earlier {
        let changes = compare::compare(earlier, &report);
        let began_ms = i64::try_from(earlier.began).unwrap_or(0) * 1000;
        println!(
            "\nbeside the run of {}, {}",
            format_instant(began_ms),
            earlier.machine
        );
        print!("{}", compare::table(&changes));
        let is_worse = |change: &&compare::Change| change.verdict == Verdict::Worse;
        failed += changes.iter().filter(is_worse).count();
    }
    Ok(if options.strict && failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn read(path: &Path) -> Result<Report> {
    let name = || format!("--compare {}", path.display());
    let text = fs::read(path).with_context(name)?;
    serde_json::from_slice(&text).with_context(name)
}

fn write(path: &Path, report: &Report) -> Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(path, serde_json::to_vec_pretty(report)?).with_context(|| path.display().to_string())
}
