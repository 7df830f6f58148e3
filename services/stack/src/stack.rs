//! A stack that runs: for `contrail up`, and for tests that need Kafka, the registry or
//! ClickHouse, or all of it.
//!
//! ```no_run
//! use contrail::{Component, Stack};
//!
//! # fn main() -> Result<(), contrail::StackError> {
//! let stack = Stack::builder()
//!     .only([Component::Kafka, Component::Registry])
//!     .free_ports()
//!     .temporary_state()
//!     .start()?;
//! println!("{} {}", stack.brokers(), stack.registry_url());
//! stack.kill(Component::Kafka)?;
//! # Ok(())
//! # }
//! ```
//! Dropping it kills every process; so does the death of the process that started it.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::component::{Component, UnknownComponent};
use crate::components::{self, Context};
use crate::external::Externals;
use crate::layout::Layout;
use crate::parts::{Part, PartError, Parts};
use crate::ports::{self, FreeOffset, PortInUse};
use crate::settings::Settings;
use crate::supervisor::machine::State;
use crate::supervisor::{NotSupervised, Notice, Observer, Status, Supervisor, Verb, log};
use crate::tools::{self, ToolError};
use crate::warehouse::Warehouse;

/// How long [`Builder::start`] waits for everything to be ready.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long everything may take to end.
pub const STOP_LIMIT: Duration = Duration::from_secs(13);
/// How long a port may be in use by what is just going away.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

/// Why a stack cannot be started, or not be controlled.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Another `contrail` works on this state.
    #[error(
        "contrail is already running on {}{}: `contrail status` shows it, `contrail down` stops \
         it; a second one beside it needs a CONTRAIL_STATE and a CONTRAIL_PORT_OFFSET of its own",
        state.display(), pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Running {
        /// The directory.
        state: PathBuf,
        /// The other one.
        pid: Option<String>,
    },
    /// See [`PortInUse`].
    #[error(transparent)]
    Port(#[from] PortInUse),
    /// See [`ToolError`].
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// See [`PartError`].
    #[error(transparent)]
    Part(#[from] PartError),
    /// A service was not built.
    #[error(
        "{} is missing: build it with `make build`, or set CONTRAIL_BINARIES to the directory of \
         the programs", .0.display()
    )]
    Binary(PathBuf),
    /// It is to be started and is external.
    #[error(
        "{component} is external ({location}) and is not started here: leave it out of --only, or \
         take {component}.external out of contrail.toml"
    )]
    External {
        /// Which one.
        component: Component,
        /// Where it is.
        location: String,
    },
    /// A file or directory cannot be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No free ports, no working directory.
    #[error("{0}")]
    System(io::Error),
    /// Something did not come to the state that was waited for.
    #[error("{component} is {} after {waited_s} s, not {wanted}{}\n{log_tail}", status.state.name(),
        if status.detail.is_empty() { String::new() } else { format!(" ({})", status.detail) })]
    Late {
        /// Which one.
        component: Component,
        /// What it is at.
        status: Box<Status>,
        /// What was waited for.
        wanted: &'static str,
        /// How long.
        waited_s: u64,
        /// The end of its log.
        log_tail: String,
    },
    /// A component that is not part of this stack.
    #[error(transparent)]
    NotSupervised(#[from] NotSupervised),
    /// No component at all has this name.
    #[error(transparent)]
    Unknown(#[from] UnknownComponent),
}

/// What a stack is made of. See [`Stack::builder`].
#[derive(Default)]
pub struct Builder {
    settings: Settings,
    only: Option<Vec<Component>>,
    free_ports: bool,
    temporary_state: bool,
    observer: Option<Observer>,
}

impl Builder {
    /// The settings to begin with. Later calls change them.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Changes the settings.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Starts these and nothing else.
    #[must_use]
    pub fn only(mut self, components: impl IntoIterator<Item = Component>) -> Self {
        let mut components: Vec<_> = components.into_iter().collect();
        components.sort();
        components.dedup();
        self.only = Some(components);
        self
    }

    /// Keeps its state in a directory.
    #[must_use]
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.state = Some(directory.into());
        self
    }

    /// Keeps its state in a directory of its own, removed when the stack is dropped.
    #[must_use]
    pub fn temporary_state(mut self) -> Self {
        self.temporary_state = true;
        self
    }

    /// Adds to every port.
    #[must_use]
    pub fn port_offset(mut self, offset: u16) -> Self {
        self.settings.port_offset = offset;
        self
    }

    /// Picks a port offset at which everything is free.
    #[must_use]
    pub fn free_ports(mut self) -> Self {
        self.free_ports = true;
        self
    }

    /// Where the services' programs lie.
    #[must_use]
    pub fn binaries(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.binaries = Some(directory.into());
        self
    }

    /// Sets an environment variable for one component.
    #[must_use]
    pub fn env(mut self, component: Component, name: &str, value: impl Into<String>) -> Self {
        self.settings
            .env_mut(component)
            .insert(name.to_owned(), value.into());
        self
    }

    /// Is told of changes, from the supervisor's thread.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Notice) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Starts it and waits until everything is ready.
    ///
    /// # Errors
    /// See [`StackError`].
    pub fn start(self) -> Result<Stack, StackError> {
        let stack = self.launch()?;
        for &component in &stack.components {
            stack.wait_ready(component, START_LIMIT)?;
        }
        Ok(stack)
    }

    /// Checks that everything needed is there, and begins to start it.
    ///
    /// # Errors
    /// See [`StackError`].
    pub fn launch(mut self) -> Result<Stack, StackError> {
        let offset = match self.free_ports {
            true => Some(FreeOffset::pick().map_err(StackError::System)?),
            false => None,
        };
        if let Some(offset) = &offset {
            self.settings.port_offset = offset.get();
        }
        let mut temporary = None;
        if self.temporary_state {
            let directory = TemporaryDirectory::new()?;
            self.settings.state = Some(directory.0.clone());
            temporary = Some(directory);
        }
        let layout = Layout::new(&self.settings).map_err(StackError::System)?;
        let whole = self.only.is_none();
        let components = self.only.unwrap_or_else(|| self.settings.own());
        // Before the ports: of a stack that runs already, ports in use are no news.
        let lock = lock_state(&layout)?;
        let context = check(self.settings, layout, &components)?;
        let externals = Externals::watch(&context, &components);
        ports::check(&components, context.settings.port_offset, PORT_PATIENCE)?;
        // What a whole stack may be joined by later.
        let later: Vec<Component> = match whole {
            true => Component::later().collect(),
            false => Vec::new(),
        };
        let services = components
            .iter()
            .chain(&later)
            .map(|&component| components::service(component, &context, &components))
            .collect();
        let observer = self.observer.unwrap_or_else(|| Box::new(|_| {}));
        Ok(Stack {
            supervisor: Arc::new(Supervisor::start(services, observer)),
            context,
            components,
            externals,
            _offset: offset,
            _lock: lock,
            _temporary: temporary,
        })
    }
}

/// Checks what the components need that only the system, a build or a download can give.
fn check(
    settings: Settings,
    layout: Layout,
    components: &[Component],
) -> Result<Context, StackError> {
    let java = match components.iter().any(|component| component.needs_java()) {
        true => tools::java(settings.java.as_deref())?,
        false => PathBuf::new(),
    };
    let parts = Parts::new(&layout.parts);
    let context = Context {
        settings,
        layout,
        parts,
        java,
    };
    for &component in components {
        if context.settings.is_external(component) {
            return Err(StackError::External {
                component,
                location: context.location(component),
            });
        }
        if let Some(name) = component.binary() {
            let path = context.binary(name);
            if !path.is_file() {
                return Err(StackError::Binary(path));
            }
        }
        if let Some(part) = Part::of(component) {
            let own = part == Part::Engine && context.settings.clickhouse.library.is_some();
            if !own {
                context.parts.check(part)?;
            }
        }
    }
    Ok(context)
}

/// Locks a state directory, or says who has it.
pub fn lock_state(layout: &Layout) -> Result<Flock<File>, StackError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| StackError::Io {
            doing,
            path,
            source,
        }
    };
    std::fs::create_dir_all(&layout.state).map_err(failed("create", &layout.state))?;
    let path = layout.lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed("create", &path))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let pid = std::fs::read_to_string(&path).ok();
        StackError::Running {
            state: layout.state.clone(),
            pid: pid
                .map(|pid| pid.trim().to_owned())
                .filter(|pid| !pid.is_empty()),
        }
    })?;
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(failed("write", &path))?;
    Ok(lock)
}

/// Whether a `contrail` works on this state.
pub fn is_locked(layout: &Layout) -> bool {
    File::open(layout.lock())
        .is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

/// A stack that runs.
pub struct Stack {
    // First: its processes end before their lock, their ports and their files are given up.
    supervisor: Arc<Supervisor>,
    context: Context,
    components: Vec<Component>,
    externals: Externals,
    _offset: Option<FreeOffset>,
    _lock: Flock<File>,
    _temporary: Option<TemporaryDirectory>,
}

impl Stack {
    /// A stack of everything, on the default ports and in the default place, until told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What it is made of.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// Settings, directories and addresses.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The supervisor, for whoever passes commands on to it.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// The address that Kafka's clients begin with.
    pub fn brokers(&self) -> String {
        self.context.brokers()
    }

    /// Base URL of the registry's Confluent API.
    pub fn registry_url(&self) -> String {
        self.context.registry_url()
    }

    /// Base URL of a component that speaks HTTP.
    pub fn url(&self, component: Component) -> String {
        self.context.url(component)
    }

    /// A component's port.
    pub fn port(&self, component: Component) -> u16 {
        self.context.port(component)
    }

    /// A component's log.
    pub fn log(&self, component: Component) -> PathBuf {
        self.context.layout.log(component)
    }

    /// ClickHouse.
    pub fn warehouse(&self) -> Warehouse {
        Warehouse::new(&self.context)
    }

    /// The external servers that it uses.
    pub fn externals(&self) -> &Externals {
        &self.externals
    }

    /// What each component is at, and each external server that they use.
    pub fn statuses(&self) -> Vec<Status> {
        let mut statuses = self.externals.statuses();
        statuses.extend(self.supervisor.statuses());
        statuses
    }

    /// What one component is at.
    ///
    /// # Errors
    /// It is not part of this stack.
    pub fn status(&self, component: Component) -> Result<Status, StackError> {
        Ok(self.supervisor.status(component.name())?)
    }

    /// The process id of a component that runs.
    pub fn pid(&self, component: Component) -> Option<u32> {
        self.status(component).ok()?.pid
    }

    /// Asks for something to be done with a component, and does not wait.
    ///
    /// # Errors
    /// It is not part of this stack.
    pub fn ask(&self, component: Component, verb: Verb) -> Result<(), StackError> {
        Ok(self.supervisor.ask(component.name(), verb)?)
    }

    /// SIGKILL, and waits until the process is gone. The supervisor starts it again by itself.
    ///
    /// # Errors
    /// It is not part of this stack, or does not go.
    pub fn kill(&self, component: Component) -> Result<(), StackError> {
        let before = self.status(component)?;
        self.ask(component, Verb::Kill)?;
        self.wait(component, Duration::from_secs(10), "gone", |status| {
            before.pid.is_none() || status.pid != before.pid
        })
    }

    /// Stops it, waits until it is stopped, and leaves it so.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn stop(&self, component: Component) -> Result<(), StackError> {
        self.ask(component, Verb::Stop)?;
        self.wait(component, STOP_LIMIT, "stopped", |status| {
            status.state == State::Stopped
        })
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It is not part of this stack, or does not become ready.
    pub fn start(&self, component: Component) -> Result<(), StackError> {
        self.ask(component, Verb::Start)?;
        self.wait_ready(component, START_LIMIT)
    }

    /// Stops it, starts it and waits until it is ready.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&self, component: Component) -> Result<(), StackError> {
        let before = self.status(component)?;
        self.ask(component, Verb::Restart)?;
        self.wait(component, START_LIMIT, "ready", |status| {
            status.state == State::Ready && status.pid != before.pid
        })
    }

    /// SIGSTOP: it hangs, with its connections open.
    ///
    /// # Errors
    /// It is not part of this stack.
    pub fn pause(&self, component: Component) -> Result<(), StackError> {
        self.ask(component, Verb::Pause)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It is not part of this stack.
    pub fn resume(&self, component: Component) -> Result<(), StackError> {
        self.ask(component, Verb::Resume)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It is not within `limit`; the message has the end of its log.
    pub fn wait_ready(&self, component: Component, limit: Duration) -> Result<(), StackError> {
        self.wait(component, limit, "ready", |status| {
            status.state == State::Ready
        })
    }

    /// Waits until its status is as wanted.
    ///
    /// # Errors
    /// It is not within `limit`; the message has the end of its log.
    pub fn wait(
        &self,
        component: Component,
        limit: Duration,
        wanted: &'static str,
        is_wanted: impl Fn(&Status) -> bool,
    ) -> Result<(), StackError> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status(component)?;
            if is_wanted(&status) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(StackError::Late {
                    component,
                    status: Box::new(status),
                    wanted,
                    waited_s: limit.as_secs(),
                    log_tail: log::tail(&self.log(component), 20).unwrap_or_default(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops everything, dependants first, and waits until it is done: 15 s at most.
    pub fn shut_down(self) {
        self.supervisor.shut_down(STOP_LIMIT);
        while !self.supervisor.is_stopped() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A directory that goes with its owner.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new() -> Result<Self, StackError> {
        let path = std::env::temp_dir().join(format!("contrail-{}", uuid::Uuid::new_v4()));
        match std::fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(StackError::Io {
                doing: "create",
                path,
                source,
            }),
        }
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
