//! (f) Bytes on disk and CPU seconds a row, and how both grow with the number of rows.

use std::time::Duration;

use anyhow::Result;
use contrail::Component;

use super::Group;
use super::questions::{NAIVE, OURS, create_naive};
use crate::Plan;
use crate::asking::{self, Asker};
use crate::cpu::Meter;
use crate::data::week;
use crate::report::{Line, Role, Target, Unit};
use crate::world::{now_ms, pid};

/// The group.
pub const GROUP: Group = Group {
    letter: 'f',
    title: "bytes on disk",
    run,
};

/// Most bytes a row.
const BYTES: f64 = 12.0;
/// What the table of positions is measured at, beside the number of rows asked for.
const SIZES: [u64; 2] = [1_000_000, 10_000_000];

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let sizes = SIZES.into_iter().filter(|size| *size < plan.rows);
    let mut lines = Vec::new();
    for rows in sizes.chain([plan.rows]) {
        lines.extend(at(rows, rows == plan.rows)?);
    }
    Ok(lines)
}

/// `is_whole`: of the size that the target is of; in a small table the projections weigh more.
fn at(rows: u64, is_whole: bool) -> Result<Vec<Line>> {
    let stack = asking::engine()?;
    let asker = Asker::new(&stack);
    let engine = pid(&stack, Component::Clickhouse)?;
    create_naive(&asker)?;
    let mut lines = Vec::new();
    for (role, table, what) in [
        (Role::Ours, OURS, "flight_positions"),
        (Role::Peer, NAIVE, "naive"),
    ] {
        eprintln!("  {rows} rows into {what}");
        let meter = Meter::start([("clickhouse", engine)])?;
        for set in week(rows, now_ms()) {
            asking::runtime()?.block_on(set.load(&asker.client(), table, |_| ()))?;
        }
        settle(&asker)?;
        let cpu = meter.stop()?;
        asker.value(&format!("OPTIMIZE TABLE {table} FINAL"))?;
        let name = table.rsplit('.').next().unwrap_or(table);
        let bytes = |columns: &str, from: &str| -> Result<f64> {
            let sql = format!(
                "SELECT sum({columns}) FROM system.{from} WHERE active AND database = 'flight_data' AND table = '{name}'"
            );
            Ok(asker.value(&sql)?.parse::<f64>().unwrap_or(f64::NAN) / rows as f64)
        };
        let line = |subject: String, path: &str, value| {
            Line::new('f', role, subject, path, Unit::BytesPerRow, vec![value])
        };
        let mut whole = line(
            format!("{what}, {rows} rows"),
            "files of the active parts after OPTIMIZE FINAL: columns, keys, indexes, projections",
            bytes("bytes_on_disk", "parts")?,
        );
        if role == Role::Ours && is_whole {
            whole = whole.with_target(Target::AtMost(BYTES));
        }
        lines.push(whole);
        if role == Role::Ours {
            lines.push(line(
                format!("of these projections, {rows} rows"),
                "files of the projections alone",
                bytes("bytes_on_disk", "projection_parts")?,
            ));
        }
        let seconds: f64 = cpu.iter().map(|(_, seconds)| seconds).sum();
        lines.push(Line::new(
            'f',
            role,
            format!("{what}, insert and merge, {rows} rows"),
            "the engine's CPU time from the first insert until it has merged what it merges by itself",
            Unit::CpuSecondsPerMillion,
            vec![seconds * 1e6 / rows as f64],
        ));
    }
    asker.refresh()?;
    let cells = asker.value(
        "SELECT sum(bytes_on_disk) FROM system.parts \
         WHERE active AND database = 'flight_data' AND table = 'h3_cells_by_hour'",
    )?;
    lines.push(Line::new(
        'f',
        Role::Ours,
        format!("beside it H3 cells, {rows} rows"),
        "files of h3_cells_by_hour, which the fast popular_routes is refreshed from",
        Unit::BytesPerRow,
        vec![cells.parse::<f64>().unwrap_or(f64::NAN) / rows as f64],
    ));
    Ok(lines)
}

/// Waits until no merge has run for two seconds.
fn settle(asker: &Asker) -> Result<()> {
    let mut quiet = 0;
    while quiet < 4 {
        std::thread::sleep(Duration::from_millis(500));
        let merges = asker.value("SELECT count() FROM system.merges")?;
        quiet = if merges == "0" { quiet + 1 } else { 0 };
    }
    Ok(())
}
