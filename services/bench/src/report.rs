//! Lines of figures: as a table for people, as JSON for programs.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// Whose figure a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// contrail's.
    Ours,
    /// That of something else that does the same work.
    Peer,
    /// That of a part of the work alone: it cannot be done faster.
    Limit,
    /// That of a part of the platform that others make.
    Part,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Events, records or rows a second.
    PerSecond,
    /// Milliseconds.
    Milliseconds,
    /// Rows that were read to answer.
    RowsRead,
    /// Bytes on disk a row.
    BytesPerRow,
    /// Megabytes of resident memory.
    Megabytes,
    /// Times as much as the peer.
    Times,
    /// CPU seconds a million events, all processes named together.
    CpuSecondsPerMillion,
}

impl Unit {
    /// True if a larger figure is the better one.
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::Times)
    }

    /// A figure in words.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", grouped(value)),
            Self::Milliseconds if value < 10.0 => format!("{value:.2} ms"),
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::RowsRead => format!("{} rows", grouped(value)),
            Self::BytesPerRow => format!("{value:.2} B/row"),
            Self::Megabytes => format!("{value:.0} MB"),
            Self::Times => format!("{value:.2} times"),
            Self::CpuSecondsPerMillion => format!("{value:.2} CPU s/M"),
        }
    }
}

/// What a figure of ours must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Target {
    /// True if `value` reaches it.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Letter of its group.
    pub group: char,
    /// What was measured.
    pub subject: String,
    /// Whose figure it is.
    pub role: Role,
    /// What runs in the measured path.
    pub path: String,
    /// What is counted.
    pub unit: Unit,
    /// One value a round.
    pub samples: Vec<f64>,
    /// CPU seconds a million events of each process that took part, by its name; the median of the
    /// rounds. Empty where the work is not counted in events.
    pub cpu_seconds_per_million: Vec<(String, f64)>,
    /// What it must reach.
    pub target: Option<Target>,
}

impl Line {
    /// A line without CPU times and without a target.
    pub fn new(
        group: char,
        role: Role,
        subject: impl Into<String>,
        path: impl Into<String>,
        unit: Unit,
        samples: Vec<f64>,
    ) -> Self {
        Self {
            group,
            subject: subject.into(),
            role,
            path: path.into(),
            unit,
            samples,
            cpu_seconds_per_million: Vec::new(),
            target: None,
        }
    }

    /// With the CPU times of each round: what a process used for how many events.
    #[must_use]
    pub fn with_cpu(mut self, rounds: &[(u64, Vec<(String, f64)>)]) -> Self {
        let names: Vec<&String> = rounds
            .first()
            .map(|(_, cpu)| cpu.iter().map(|(name, _)| name).collect())
            .unwrap_or_default();
        self.cpu_seconds_per_million = names
            .into_iter()
            .enumerate()
            .map(|(index, name)| {
                let seconds: Vec<f64> = rounds
                    .iter()
                    .filter_map(|(events, cpu)| {
                        let (_, seconds) = cpu.get(index)?;
                        Some(seconds * 1e6 / (*events).max(1) as f64)
                    })
                    .collect();
                (name.clone(), median(&seconds))
            })
            .collect();
        self
    }

    /// With what it must reach.
    #[must_use]
    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// The median of the rounds.
    pub fn value(&self) -> f64 {
        median(&self.samples)
    }

    /// The least and the most of the rounds; not numbers, if there were none.
    pub fn spread(&self) -> (f64, f64) {
        self.samples
            .iter()
            .fold((f64::NAN, f64::NAN), |(least, most), sample| {
                (least.min(*sample), most.max(*sample))
            })
    }

    /// False if there is a target and the median misses it.
    pub fn is_met(&self) -> bool {
        self.target.is_none_or(|target| target.is_met(self.value()))
    }
}

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// When it began, seconds since the epoch, UTC.
    pub began: u64,
    /// How often each subject was measured.
    pub rounds: usize,
    /// All figures.
    pub lines: Vec<Line>,
}

/// The median; of an even number the mean of the two in the middle; of none not a number.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The lines of one group as a table.
pub fn table(title: &str, lines: &[Line]) -> String {
    let mut text = format!("\n{title}\n");
    let width = |column: fn(&Line) -> usize| lines.iter().map(column).max().unwrap_or(0);
    let subjects = width(|line| line.subject.chars().count());
    for line in lines {
        let role = match line.role {
            Role::Ours => "ours",
            Role::Peer => "peer",
            Role::Limit => "limit",
            Role::Part => "part",
        };
        let (least, most) = line.spread();
        let _ = write!(
            text,
            "  {role:5} {:subjects$}  {:>16}",
            line.subject,
            line.unit.show(line.value()),
        );
        if line.samples.len() > 1 {
            let _ = write!(
                text,
                "  ({} to {})",
                line.unit.show(least),
                line.unit.show(most)
            );
        }
        if let Some(target) = line.target {
            let (bound, value) = match target {
                Target::AtLeast(value) => ("at least", value),
                Target::AtMost(value) => ("at most", value),
            };
            let verdict = if line.is_met() { "reached" } else { "MISSED" };
            let _ = write!(text, "  {verdict}: {bound} {}", line.unit.show(value));
        }
        text.push('\n');
        let _ = writeln!(text, "        {:subjects$}  {}", "", line.path);
        if !line.cpu_seconds_per_million.is_empty() {
            let each: Vec<String> = line
                .cpu_seconds_per_million
                .iter()
                .map(|(name, seconds)| format!("{name} {seconds:.2}"))
                .collect();
            let _ = writeln!(
                text,
                "        {:subjects$}  CPU seconds a million: {}",
                "",
                each.join(", ")
            );
        }
    }
    text
}

/// A number with blanks between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits.as_str()),
    };
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_line_says_whether_it_reaches_its_target() {
        let line = |target| {
            Line::new(
                'a',
                Role::Ours,
                "x",
                "y",
                Unit::PerSecond,
                vec![10.0, 30.0, 20.0],
            )
            .with_target(target)
        };
        assert!(line(Target::AtLeast(20.0)).is_met() && !line(Target::AtLeast(21.0)).is_met());
        assert!(line(Target::AtMost(20.0)).is_met() && !line(Target::AtMost(19.0)).is_met());
        let shown = table("t", &[line(Target::AtLeast(1_500_000.0))]);
        assert!(shown.contains("MISSED: at least 1 500 000/s"), "{shown}");
        assert!(shown.contains("20/s  (10/s to 30/s)"), "{shown}");
    }

    #[test]
    fn no_figure_never_reaches_a_target() {
        let empty = Line::new('a', Role::Ours, "x", "y", Unit::PerSecond, vec![]);
        assert!(!empty.clone().with_target(Target::AtLeast(1.0)).is_met());
        assert!(!empty.with_target(Target::AtMost(1.0)).is_met());
    }

    #[test]
    fn cpu_time_is_given_by_the_million() {
        let round = |events, seconds| (events, vec![("engine".to_owned(), seconds)]);
        let line = Line::new('c', Role::Ours, "x", "y", Unit::PerSecond, vec![]).with_cpu(&[
            round(2_000_000, 2.0),
            round(1_000_000, 3.0),
            round(500_000, 1.0),
        ]);
        assert_eq!(line.cpu_seconds_per_million, [("engine".to_owned(), 2.0)]);
    }
}
