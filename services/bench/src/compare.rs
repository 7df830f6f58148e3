//! A run beside an earlier one: what became better, what became worse, and what is within the spread
//! of the rounds.

use std::fmt::Write as _;

use crate::report::{Line, Report};

/// How a figure stands to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Better than every earlier round.
    Better,
    /// The rounds of the two runs overlap.
    Same,
    /// Worse than every earlier round.
    Worse,
}

/// One line of both runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Letter of the group, and what was measured.
    pub name: String,
    /// The earlier median, in words.
    pub before: String,
    /// This run's median, in words.
    pub now: String,
    /// By how much the median rose, in percent.
    pub percent: f64,
    /// What that means.
    pub verdict: Verdict,
}

/// Compares the lines that both runs have: same group, subject, role and unit.
pub fn compare(before: &Report, now: &Report) -> Vec<Change> {
    let same = |a: &Line, b: &Line| {
        (a.group, a.role, a.unit) == (b.group, b.role, b.unit) && a.subject == b.subject
    };
    now.lines
        .iter()
        .filter_map(|line| {
            let earlier = before.lines.iter().find(|earlier| same(earlier, line))?;
            Some(change(earlier, line))
        })
        .collect()
}

fn change(before: &Line, now: &Line) -> Change {
    let (old, new) = (before.value(), now.value());
    let ((old_least, old_most), (new_least, new_most)) = (before.spread(), now.spread());
    let verdict = match now.unit.more_is_better() {
        _ if old_least.is_nan() || new_least.is_nan() => Verdict::Same,
        more if new_least > old_most => [Verdict::Worse, Verdict::Better][usize::from(more)],
        more if new_most < old_least => [Verdict::Better, Verdict::Worse][usize::from(more)],
        _ => Verdict::Same,
    };
    Change {
        name: format!("({}) {}", now.group, now.subject),
        before: before.unit.show(old),
        now: now.unit.show(new),
        percent: (new / old - 1.0) * 100.0,
        verdict,
    }
}

/// The changes as a table.
pub fn table(changes: &[Change]) -> String {
    let width = |column: fn(&Change) -> &str| {
        let lengths = changes.iter().map(|change| column(change).chars().count());
        lengths.max().unwrap_or(0)
    };
    let (names, befores, nows) = (
        width(|change| &change.name),
        width(|change| &change.before),
        width(|change| &change.now),
    );
    let mut text = String::new();
    for change in changes {
        let verdict = match change.verdict {
            Verdict::Better => "better",
            Verdict::Same => "same",
            Verdict::Worse => "WORSE",
        };
        let _ = writeln!(
            text,
            "  {verdict:6}  {:names$}  {:>befores$} -> {:>nows$}  {:+.1} %",
            change.name, change.before, change.now, change.percent
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::report::{Role, Unit};

    fn report(unit: Unit, samples: &[f64]) -> Report {
        Report {
            machine: Machine::here(),
            began: 0,
            rounds: samples.len(),
            lines: vec![Line::new('a', Role::Ours, "x", "y", unit, samples.to_vec())],
        }
    }

    fn verdict(unit: Unit, before: &[f64], now: &[f64]) -> Verdict {
        compare(&report(unit, before), &report(unit, now))[0].verdict
    }

    #[test]
    fn only_what_leaves_the_spread_is_a_change() {
        let before = [100.0, 110.0, 120.0];
        let verdict_of = |now| verdict(Unit::PerSecond, &before, now);
        assert_eq!(verdict_of(&[121.0, 130.0, 125.0]), Verdict::Better);
        assert_eq!(verdict_of(&[119.0, 130.0, 125.0]), Verdict::Same);
        assert_eq!(verdict_of(&[90.0, 99.0, 80.0]), Verdict::Worse);
        assert_eq!(verdict_of(&[]), Verdict::Same, "no figure");
    }

    #[test]
    fn less_time_and_less_memory_are_better() {
        assert_eq!(verdict(Unit::Milliseconds, &[5.0], &[4.0]), Verdict::Better);
        assert_eq!(verdict(Unit::Megabytes, &[5.0], &[6.0]), Verdict::Worse);
        assert_eq!(verdict(Unit::Times, &[2.0], &[3.0]), Verdict::Better);
    }

    #[test]
    fn lines_that_only_one_run_has_are_left_out() {
        let mut other = report(Unit::PerSecond, &[1.0]);
        other.lines[0].subject = "z".into();
        assert!(compare(&report(Unit::PerSecond, &[1.0]), &other).is_empty());
        let shown = table(&compare(
            &report(Unit::PerSecond, &[100.0]),
            &report(Unit::PerSecond, &[150.0]),
        ));
        assert_eq!(shown, "  better  (a) x  100/s -> 150/s  +50.0 %\n");
    }
}
