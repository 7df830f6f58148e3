//! Rounds: each subject of a group once, then each again, so that whatever the machine does meanwhile
//! meets all of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cpu::Meter;
use crate::report::Line;

/// One measurement of one subject.
#[derive(Debug, Clone)]
pub struct Run {
    /// Events, records or rows that went through.
    pub events: u64,
    /// How long that took.
    pub elapsed: Duration,
    /// CPU seconds of each process that took part.
    pub cpu: Vec<(String, f64)>,
}

impl Run {
    /// Does the work, which says how many events it was, and counts the CPU seconds of `processes`:
    /// what to call each, and its process id.
    ///
    /// # Errors
    /// Those of the work, or a process is not there.
    pub fn measure<'a>(
        processes: impl IntoIterator<Item = (&'a str, u32)>,
        work: impl FnOnce() -> Result<u64>,
    ) -> Result<Self> {
        let meter = Meter::start(processes)?;
        let began = Instant::now();
        let events = work()?;
        let elapsed = began.elapsed();
        Ok(Self {
            events,
            elapsed,
            cpu: meter.stop()?,
        })
    }

    /// Events a second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }
}

/// Something that is measured in rounds, by the events that it does in a second.
pub struct Subject<'a> {
    line: Line,
    run: Box<dyn FnMut() -> Result<Run> + 'a>,
    runs: Vec<Run>,
}

impl<'a> Subject<'a> {
    /// What is known of the line beforehand, and what measures it once.
    pub fn new(line: Line, run: impl FnMut() -> Result<Run> + 'a) -> Self {
        Self {
            line,
            run: Box::new(run),
            runs: Vec::new(),
        }
    }

    fn measure(&mut self) -> Result<()> {
        let subject = self.line.subject.clone();
        let run = (self.run)().with_context(|| subject.clone())?;
        eprintln!("    {:>12.0}/s  {subject}", run.rate());
        self.runs.push(run);
        Ok(())
    }

    fn line(self) -> Line {
        let cpu: Vec<_> = self
            .runs
            .iter()
            .map(|run| (run.events, run.cpu.clone()))
            .collect();
        let mut line = self.line.with_cpu(&cpu);
        line.samples = self.runs.iter().map(Run::rate).collect();
        line
    }
}

/// Measures every subject once, then every one again, as often as there are rounds.
///
/// # Errors
/// The first error of a subject, with its name.
pub fn interleaved(rounds: usize, mut subjects: Vec<Subject<'_>>) -> Result<Vec<Line>> {
    for round in 1..=rounds {
        eprintln!("  round {round} of {rounds}");
        for subject in &mut subjects {
            subject.measure()?;
        }
    }
    Ok(subjects.into_iter().map(Subject::line).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::{Role, Unit};
    use std::cell::RefCell;

    fn line(subject: &str) -> Line {
        Line::new('a', Role::Ours, subject, "", Unit::PerSecond, vec![])
    }

    fn run(events: u64) -> Result<Run> {
        Ok(Run {
            events,
            elapsed: Duration::from_secs(2),
            cpu: vec![("self".into(), 1.0)],
        })
    }

    #[test]
    fn subjects_take_turns() {
        let order = RefCell::new(String::new());
        let subject = |name: &'static str, events| {
            let order = &order;
            Subject::new(line(name), move || {
                order.borrow_mut().push_str(name);
                run(events)
            })
        };
        let lines = interleaved(3, vec![subject("x", 10), subject("y", 1_000_000)]).unwrap();
        assert_eq!(*order.borrow(), "xyxyxy");
        assert_eq!(lines[0].samples, [5.0, 5.0, 5.0]);
        assert_eq!(lines[1].cpu_seconds_per_million, [("self".to_owned(), 1.0)]);
    }

    #[test]
    fn an_error_names_its_subject() {
        let failing = Subject::new(line("x"), || anyhow::bail!("no"));
        let error = interleaved(1, vec![failing]).unwrap_err();
        assert_eq!(format!("{error:#}"), "x: no");
    }

    #[test]
    fn the_work_is_counted() {
        let run = Run::measure([("self", std::process::id())], || Ok(7)).unwrap();
        assert_eq!(run.events, 7);
        assert_eq!(run.cpu.len(), 1);
    }
}
