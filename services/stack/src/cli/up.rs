//! `contrail up`: the stack in the foreground.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::console::{self, Console};
use super::{Failure, component, signals};
use crate::component::Component;
use crate::control;
use crate::layout::Layout;
use crate::settings::Settings;
use crate::stack::{STOP_LIMIT, Stack};
use crate::supervisor::machine::State;
use crate::warehouse::{Flow, Warehouse};

/// Time between two looks at signals and states.
const TICK: Duration = Duration::from_millis(50);
/// Time between two drawings of the block.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Time between two counts of rows.
const COUNT_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct OnlyArgs {
    /// These and nothing else, with commas between: mock,producer,ingester.
    #[arg(long, value_delimiter = ',', value_parser = component, value_name = "NAMES")]
    pub only: Option<Vec<Component>>,
}

#[derive(Debug, clap::Args)]
pub struct UpArgs {
    #[command(flatten)]
    start: OnlyArgs,
    /// Number of aircraft that are simulated.
    #[arg(long, value_name = "AIRCRAFT", value_parser = clap::value_parser!(u32).range(1..))]
    fleet: Option<u32>,
    /// Time between two positions of one aircraft, in ms.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    period_ms: Option<u32>,
}

pub fn up(args: UpArgs, mut settings: Settings) -> Result<(), Failure> {
    settings.mock.fleet = args.fleet.or(settings.mock.fleet);
    settings.mock.period_ms = args.period_ms.or(settings.mock.period_ms);
    let layout = Layout::new(&settings)?;
    // Before anything runs, so that no signal finds it half started.
    signals::catch()?;
    let begun = Instant::now();
    let console = Arc::new(Console::new(&layout.logs().join("contrail.log")));
    let theirs = Arc::clone(&console);
    let mut builder = Stack::builder()
        .settings(settings)
        .observer(move |notice| theirs.line(&format!("{:<11} {}", notice.name, notice.text)));
    if let Some(only) = args.start.only {
        builder = builder.only(only);
    }
    let stack = builder.launch()?;
    let down = Arc::new(AtomicBool::new(false));
    let supervisor = Arc::clone(stack.supervisor());
    control::serve(&layout, supervisor, stack.externals(), Arc::clone(&down))
        .map_err(|error| format!("cannot listen on {}: {error}", layout.socket().display()))?;
    let flow = watch_rows(&stack);
    let mut watch = Watch {
        stack: &stack,
        console: &console,
        flow,
        begun,
        announced: false,
        drawn: None,
        written: Instant::now(),
    };
    while signals::caught() == 0 && !down.load(Ordering::SeqCst) {
        watch.look();
        std::thread::sleep(TICK);
    }
    watch.stop();
    let _ = std::fs::remove_file(layout.socket());
    Ok(())
}

/// Rows of the table, counted by a thread of its own while the stack holds ClickHouse.
fn watch_rows(stack: &Stack) -> Option<Arc<Mutex<Flow>>> {
    let is_external = stack.context().settings.is_external(Component::Clickhouse);
    let counted_here = match is_external {
        true => Component::Ingester,
        false => Component::Clickhouse,
    };
    if !stack.components().contains(&counted_here) {
        return None;
    }
    let flow = Arc::new(Mutex::new(Flow::default()));
    let (theirs, warehouse) = (Arc::clone(&flow), stack.warehouse());
    std::thread::spawn(move || count_rows(&warehouse, &theirs));
    Some(flow)
}

fn count_rows(warehouse: &Warehouse, flow: &Mutex<Flow>) {
    loop {
        // Away, or no table yet: the state of the component says so.
        if let Ok(rows) = warehouse.positions() {
            flow.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Instant::now(), rows);
        }
        std::thread::sleep(COUNT_EVERY);
    }
}

struct Watch<'a> {
    stack: &'a Stack,
    console: &'a Console,
    flow: Option<Arc<Mutex<Flow>>>,
    begun: Instant,
    announced: bool,
    drawn: Option<Instant>,
    written: Instant,
}

impl Watch<'_> {
    fn look(&mut self) {
        if !self.announced && self.is_ready() {
            self.announced = true;
            self.announce();
        }
        if self.drawn.is_none_or(|at| at.elapsed() >= DRAW_EVERY) {
            self.drawn = Some(Instant::now());
            let mut block = console::table(&self.stack.statuses(), true);
            block.push_str(&format!("{}; Ctrl-C stops everything\n", self.rows()));
            self.console.block(&block);
        }
        if !self.console.is_terminal() && self.written.elapsed() >= LINE_EVERY {
            self.written = Instant::now();
            self.console.line(&self.summary());
        }
    }

    /// Everything is ready, and if this is the whole stack, rows flow.
    fn is_ready(&self) -> bool {
        let all = self
            .stack
            .statuses()
            .iter()
            .all(|status| matches!(status.state, State::Ready | State::External));
        all && (!self.is_whole() || self.with_flow(Flow::is_moving).unwrap_or(false))
    }

    fn is_whole(&self) -> bool {
        self.stack.components().len() == self.stack.context().settings.own().len()
    }

    fn with_flow<T>(&self, question: impl FnOnce(&Flow) -> T) -> Option<T> {
        let flow = self.flow.as_ref()?;
        Some(question(
            &flow.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    fn announce(&self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let what = match self.is_whole() {
            true => format!(": {}", self.rows()),
            false => String::new(),
        };
        self.console.line(&format!("ready in {seconds:.1} s{what}"));
        let stack = self.stack;
        for component in Component::ALL {
            let settings = &stack.context().settings;
            if !stack.components().contains(&component) && !settings.is_external(component) {
                continue;
            }
            let address = match component {
                Component::Kafka => format!("{} (Kafka protocol)", stack.brokers()),
                Component::Registry => stack.registry_url(),
                Component::Clickhouse => {
                    let user = stack.context().clickhouse().user;
                    format!("{} (user {user})", stack.url(component))
                }
                Component::Mock => format!("{}/v1/flights/stream", stack.url(component)),
                _ => format!("{}/metrics", stack.url(component)),
            };
            self.console.line(&format!("  {component:<10} {address}"));
        }
    }

    fn rows(&self) -> String {
        match self.with_flow(|flow| (flow.rows(), flow.rate())) {
            Some((Some(rows), rate)) => format!(
                "{} positions in ClickHouse, {} events/s",
                console::grouped(rows),
                console::grouped(rate.unwrap_or_default().round() as u64)
            ),
            _ => "no positions in ClickHouse yet".into(),
        }
    }

    fn summary(&self) -> String {
        let states: Vec<String> = self
            .stack
            .statuses()
            .iter()
            .map(|status| match status.detail.lines().next() {
                Some(detail) => format!("{} {} ({detail})", status.name, status.state.name()),
                None => format!("{} {}", status.name, status.state.name()),
            })
            .collect();
        match self.flow {
            Some(_) => format!("{}; {}", self.rows(), states.join(", ")),
            None => states.join(", "),
        }
    }

    fn stop(&mut self) {
        let asked = Instant::now();
        let insisted = signals::caught().max(1) + 1;
        self.console
            .line("stopping everything; Ctrl-C again kills what still runs");
        let supervisor = self.stack.supervisor();
        supervisor.shut_down(STOP_LIMIT);
        let mut killed = false;
        while !supervisor.is_stopped() {
            if signals::caught() >= insisted && !killed {
                killed = true;
                supervisor.kill_all();
            }
            std::thread::sleep(TICK);
        }
        self.console.line(&format!(
            "everything is stopped, after {:.1} s",
            asked.elapsed().as_secs_f64()
        ));
    }
}
