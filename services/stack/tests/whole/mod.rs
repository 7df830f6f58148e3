//! What the tests of the whole stack share: a world to simulate, the command line, the account.

#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use contrail::component::Component;
use contrail::stack::{Builder, Stack};
use flight_mock::{Parameters, Simulator};
use serde_json::Value;

/// The table of positions.
pub const TABLE: &str = "flight_data.flight_positions";

/// Longest time for a statement.
const STATEMENT: Duration = Duration::from_secs(120);

/// One stack at a time: two would take each other's processors.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Waits until something is so.
pub fn eventually(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A simulated world of which the producer takes everything, from its first event on.
#[derive(Debug, Clone, Copy)]
pub struct World {
    pub fleet: u32,
    pub period_ms: u32,
    pub epoch_ms: i64,
}

impl World {
    /// A world that began so long ago, so that the producer begins with a backlog.
    pub fn begun(ago: Duration, fleet: u32, period_ms: u32) -> Self {
        let ago = i64::try_from(ago.as_millis()).unwrap();
        Self {
            fleet,
            period_ms,
            epoch_ms: now_ms() - ago,
        }
    }

    pub fn parameters(self) -> Parameters {
        Parameters {
            seed: 42,
            fleet: self.fleet,
            period_ms: self.period_ms,
            epoch_ms: self.epoch_ms,
        }
    }

    pub fn simulator(self) -> Simulator {
        Simulator::new(self.parameters()).unwrap()
    }

    /// Has a stack simulate it.
    pub fn settle(self, builder: Builder) -> Builder {
        use Component::{Mock, Producer};
        builder
            .env(Mock, "FLIGHT_MOCK_SEED", "42")
            .env(Mock, "FLIGHT_MOCK_FLEET", self.fleet.to_string())
            .env(Mock, "FLIGHT_MOCK_PERIOD_MS", self.period_ms.to_string())
            .env(Mock, "FLIGHT_MOCK_EPOCH", self.epoch_ms.to_string())
            .env(Producer, "FLIGHT_PRODUCER_SOURCE__INITIAL_OFFSET", "0")
            // What it begins with comes first, however long ago the world began.
            .env(Producer, "FLIGHT_PRODUCER_CATCH_UP__AFTER_EVENTS", "0")
    }
}

/// The program under test.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_contrail"))
}

/// Runs a command of `contrail` on a stack that a test holds.
pub fn contrail(stack: &Stack, arguments: &[&str]) -> Output {
    let context = stack.context();
    let mut command = Command::new(program());
    // What is said to the tests by variables of this prefix is no setting.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONTRAIL_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .env("CONTRAIL_STATE", &context.layout.state)
        .env(
            "CONTRAIL_PORT_OFFSET",
            context.settings.port_offset.to_string(),
        )
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// `contrail verify`: its exit code and its report.
pub fn verify(stack: &Stack, arguments: &[&str]) -> (i32, Value) {
    let mut all = vec!["verify"];
    all.extend(arguments);
    read_report(&contrail(stack, &all))
}

/// What `contrail verify` said.
pub fn read_report(output: &Output) -> (i32, Value) {
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "verify printed no report ({error}): {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (output.status.code().unwrap_or(-1), report)
}

/// Every event of the source is there once and as it was sent. Returns the account of the source.
pub fn assert_clean(stack: &Stack) -> Value {
    let (code, report) = verify(stack, &["--sample", "all", "--wait", "240"]);
    clean(code, &report)
}

/// The same of a report that was made already.
pub fn clean(code: i32, report: &Value) -> Value {
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(code, 0);
    let source = report["sources"][0].clone();
    assert_eq!(report["sources"].as_array().map(Vec::len), Some(1));
    let accounted = number(&source["distinct"]) + number(&source["dead_letters"]);
    assert_eq!(number(&source["expected"]), accounted, "{report:#}");
    assert_eq!(source["seen"], source["distinct"], "{report:#}");
    println!(
        "verified in {} s: {} events of {}, each once, {} compared",
        report["seconds"], source["expected"], source["source"], source["contents"]["checked"]
    );
    source
}

pub fn number(value: &Value) -> i64 {
    value
        .as_i64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Runs a statement; the answer has tabs and lines.
pub fn sql(stack: &Stack, statement: &str) -> String {
    try_sql(stack, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
}

/// As [`sql`], where ClickHouse may be away.
pub fn try_sql(stack: &Stack, statement: &str) -> Result<String, String> {
    let answer = stack
        .warehouse()
        .query(statement, &[], "TabSeparated", STATEMENT)?;
    Ok(answer.trim_end().to_owned())
}

/// Rows in the table; none while it cannot be asked.
pub fn rows(stack: &Stack) -> u64 {
    stack.warehouse().positions().unwrap_or(0)
}

/// The most memory that a process ever had resident, in MB.
pub fn peak_rss_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or(0);
    kib * 1024 / 1_000_000
}
