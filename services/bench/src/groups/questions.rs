//! (e) Each question of sql/queries, as it stands and as its fast variant, beside a naive table.

use std::time::Duration;

use anyhow::Result;
use contrail::questions::Question;

use super::Group;
use crate::Plan;
use crate::asking::{self, Asker, SEED};
use crate::data::week;
use crate::report::{Line, Role, Target, Unit, median};
use crate::world::now_ms;

/// The group.
pub const GROUP: Group = Group {
    letter: 'e',
    title: "questions",
    run,
};

/// The table of positions.
pub(super) const OURS: &str = "flight_data.flight_positions";
/// What one would make without thinking about it.
pub(super) const NAIVE: &str = "flight_data.naive";

/// What is inserted, beside the deadline.
const COLUMNS: &str = "flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp, icao24, track, \
                       vertical_rate, squawk, on_ground, source, source_offset";

/// Most that a fast variant may take, in milliseconds.
const FAST_MS: f64 = 15.0;
/// The same where H3 cells are counted.
const FAST_H3_MS: f64 = 50.0;
/// How many times fewer rows than those of the naive table a fast variant reads that counts rows.
const FEWER_ROWS: f64 = 20.0;
/// Questions that are answered by counting rows.
const COUNTING: [&str; 5] = [
    "busiest_airspaces",
    "flights_by_hour",
    "altitude_by_hour",
    "popular_routes",
    "seasonal_pattern",
];
/// A question that takes less than this is asked several times a round.
const QUICK: Duration = Duration::from_millis(300);
const REPEATS: usize = 7;

/// Makes the naive table: no codecs, no partitions, in the order of time.
pub(super) fn create_naive(asker: &Asker) -> Result<()> {
    asker.value(&format!(
        "CREATE TABLE {NAIVE} \
         (flight_id String, callsign String, longitude Float64, latitude Float64, altitude Int32, gspeed Float32, \
          timestamp DateTime64(3, 'UTC'), icao24 Nullable(String), track Nullable(Float32), \
          vertical_rate Nullable(Int32), squawk Nullable(String), on_ground Nullable(Bool), source String, \
          source_offset UInt64, \
          insert_deadline DateTime('UTC') EPHEMERAL toDateTime(4294967295, 'UTC'), date Date MATERIALIZED toDate(timestamp), hour UInt8 MATERIALIZED toHour(timestamp), \
          lon_grid_materialized Int16 MATERIALIZED toInt16(floor(longitude)), \
          lat_grid_materialized Int16 MATERIALIZED toInt16(floor(latitude))) \
         ENGINE = MergeTree ORDER BY timestamp"
    ))?;
    Ok(())
}

/// One way to ask one question.
struct Way {
    line: Line,
    sql: String,
    rows_read: u64,
}

impl Way {
    fn new(question: &Question, role: Role, how: &str, sql: &str) -> Self {
        let what = match role {
            Role::Peer => "the naive table (ORDER BY timestamp, no codecs)",
            _ if how == "fast" => "sql/queries/fast",
            _ => "sql/queries",
        };
        let subject = format!("{}, {how}", question.name);
        let path = format!("one connection, HTTP, tab-separated: {what}");
        let mut line = Line::new('e', role, subject, path, Unit::Milliseconds, Vec::new());
        if how == "fast" {
            let most = match &*question.name {
                "popular_routes" => FAST_H3_MS,
                _ => FAST_MS,
            };
            line = line.with_target(Target::AtMost(most));
        }
        Self {
            line,
            sql: sql.to_owned(),
            rows_read: 0,
        }
    }

    fn measure(&mut self, asker: &Asker) -> Result<()> {
        let mut times = Vec::new();
        while times.len() < REPEATS {
            let answer = asker.ask(&self.sql, &[])?;
            self.rows_read = answer.rows_read;
            times.push(answer.elapsed.as_secs_f64() * 1000.0);
            if answer.elapsed > QUICK {
                break;
            }
        }
        self.line.samples.push(median(&times));
        Ok(())
    }
}

/// The last 23:00 UTC. Rows end then, and questions are asked as if it were then: the day that most of them ask of
/// is nearly full, at whatever time of the day they are measured.
fn last_evening(now_ms: i64) -> i64 {
    const DAY_MS: i64 = 86_400_000;
    const EVENING_MS: i64 = 23 * 3_600_000;
    (now_ms - EVENING_MS).div_euclid(DAY_MS) * DAY_MS + EVENING_MS
}

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let stack = asking::engine()?;
    let asker = Asker::new(&stack);
    let end_ms = last_evening(now_ms());
    eprintln!("  loading {} rows", plan.rows);
    for set in week(plan.rows, end_ms) {
        asking::runtime()?.block_on(set.load(&asker.client(), OURS, |_| ()))?;
    }
    create_naive(&asker)?;
    asker.value(&format!(
        "INSERT INTO {NAIVE} ({COLUMNS}) SELECT {COLUMNS} FROM {OURS}"
    ))?;
    for table in [OURS, NAIVE] {
        asker.value(&format!("OPTIMIZE TABLE {table} FINAL"))?;
    }
    asker.refresh()?;

    let folder = stack.context().layout.queries();
    let questions = asking::at(end_ms as u64 / 1000, &folder)?;
    let (seed, others): (Vec<&Question>, Vec<&Question>) = questions
        .iter()
        .partition(|question| SEED.contains(&&*question.name));
    let mut ways = Vec::new();
    for question in seed.into_iter().chain(others) {
        if let Some(fast) = &question.fast {
            ways.push(Way::new(question, Role::Ours, "fast", fast));
        }
        ways.push(Way::new(question, Role::Ours, "plain", &question.plain));
        let naive = question.plain.replace(OURS, NAIVE);
        ways.push(Way::new(question, Role::Peer, "naive", &naive));
    }
    for round in 1..=plan.rounds {
        eprintln!("  round {round} of {}", plan.rounds);
        for way in &mut ways {
            way.measure(&asker)?;
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    for (index, way) in ways.iter().enumerate() {
        lines.push(way.line.clone());
        let mut read = Line::new(
            'e',
            way.line.role,
            format!("{}, rows read", way.line.subject),
            way.line.path.clone(),
            Unit::RowsRead,
            vec![way.rows_read as f64],
        );
        let counts = COUNTING
            .iter()
            .any(|name| way.line.subject == format!("{name}, fast"));
        if let (true, Some(naive)) = (counts, ways.get(index + 2)) {
            read = read.with_target(Target::AtMost(naive.rows_read as f64 / FEWER_ROWS));
        }
        lines.push(read);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_at_the_last_evening() {
        // 2026-11-26 23:00 UTC.
        let evening = 1_795_734_000_000;
        assert_eq!(last_evening(evening), evening);
        assert_eq!(last_evening(evening - 1), evening - 86_400_000);
        assert_eq!(last_evening(evening + 3_600_000), evening);
    }
}
