//! `contrail-bench`, run by `make bench`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Parser;
use contrail_bench::Plan;
use contrail_bench::groups::GROUPS;
use contrail_bench::machine::Machine;
use contrail_bench::report::{Report, table};

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
    /// Where the figures go as JSON.
    #[arg(long, default_value = "var/bench.json")]
    json: PathBuf,
    /// Exit with 1 if a target is missed.
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
    let plan = Plan {
        rounds: options.rounds,
        rows: options.rows,
    };
    let mut report = Report {
        machine: Machine::here(),
        began: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs()),
        rounds: plan.rounds,
        lines: Vec::new(),
    };
    println!("{}", report.machine);
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
        write(&options.json, &report)?;
    }
    let missed = report.lines.iter().filter(|line| !line.is_met()).count();
    println!(
        "\n{missed} targets missed; figures in {}",
        options.json.display()
    );
    Ok(if options.strict && missed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn write(path: &PathBuf, report: &Report) -> Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(path, serde_json::to_vec_pretty(report)?).with_context(|| path.display().to_string())
}
