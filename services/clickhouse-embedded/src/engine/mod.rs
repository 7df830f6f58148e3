//! libchdb behind a safe surface.
//!
//! What it takes to use it well:
//! - signal handlers off before the first connection;
//! - always a configuration file of our own, or the engine reads a stray `./config.xml`;
//! - one connection a request (0.3 ms), or a session: a connection runs one statement at a time, and
//!   its settings and temporary tables are its own;
//! - every connection closed before the process ends in the ordinary way, or the exit handlers crash;
//! - the default database replaced: the engine's own reads any file by its name;
//! - rows only by the insert stream: behind SQL they would end at the first blank line, and what
//!   follows would run as SQL.

mod config;
mod connection;
mod ffi;
mod insert;
mod result;
mod stream;

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

pub use connection::{Analysis, Class, Connection};
pub use insert::InsertStream;
pub use result::{Answer, Stats};
pub use stream::ResultStream;

use crate::settings::Settings;
use ffi::Api;

const LIBRARY_NAME: &str = "libchdb.so";

/// Why the engine does not start.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The library is nowhere.
    #[error(
        "libchdb.so not found (looked for {}): run `make parts`, or give its path in the setting \
         `library` (CLICKHOUSE_EMBEDDED_LIBRARY)",
        .looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoLibrary {
        /// Where it could have been.
        looked: Vec<PathBuf>,
    },
    /// The library is there, but is not the one.
    #[error(
        "cannot use {path} as libchdb: {error}; `make parts` fetches the version that this server \
         is made for"
    )]
    BadLibrary {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        error: libloading::Error,
    },
    /// The data path cannot be written.
    #[error("data_path: cannot use {path}: {error}")]
    DataPath {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Another process has the data path.
    #[error(
        "data_path: {path} is in use by another clickhouse-embedded; stop it, or give this one a \
         data_path of its own"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The engine says no.
    #[error(
        "the engine does not open {path}; what it printed above says why (a damaged data folder, or \
         one of a newer version)"
    )]
    Refused {
        /// The folder.
        path: PathBuf,
    },
    /// The engine opens, but the first query fails.
    #[error("the engine's first query failed: {0}")]
    FirstQuery(String),
}

/// The engine of this process. There can be one.
#[derive(Debug)]
pub struct Engine {
    api: &'static Api,
    /// Arguments of every connection.
    arguments: Vec<CString>,
    about: OnceLock<About>,
    /// Keeps the engine open between requests; taken when it closes.
    base: Mutex<Option<Base>>,
    open: AtomicUsize,
    _lock: Flock<File>,
}

/// What the engine says of itself.
#[derive(Debug)]
struct About {
    version: String,
    timezone: String,
    /// Protocol version of its Native format.
    revision: u64,
    /// Names in lower case.
    table_functions: HashSet<String>,
}

#[derive(Debug)]
struct Base(ffi::RawConnection);

// SAFETY: only passed to `chdb_close_conn`, once, by whoever takes it out of its mutex.
unsafe impl Send for Base {}

impl Engine {
    /// Loads the library, locks the data path and opens it.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn start(settings: &Settings) -> Result<Arc<Self>, EngineError> {
        let library = find_library(settings.library.as_deref())?;
        let data_path = |error: std::io::Error| EngineError::DataPath {
            path: settings.data_path.clone(),
            error,
        };
        std::fs::create_dir_all(&settings.data_path).map_err(data_path)?;
        let root = settings.data_path.canonicalize().map_err(data_path)?;
        let lock = lock(&root)?;
        let config = config::write(&root, settings)?;
        let engine_path = root.join("engine");
        config::prepare_default_database(&engine_path)?;

        let api = Api::load(library.as_os_str()).map_err(|error| EngineError::BadLibrary {
            path: library.clone(),
            error,
        })?;
        // Results outlive requests on their way to slow clients; there is one engine a process.
        let api: &'static Api = Box::leak(Box::new(api));
        // SAFETY: before the first connection, as chdb.h asks.
        unsafe { (api.set_signal_handlers_enabled)(0) };

        let argument = |prefix: &str, path: &Path| {
            let mut bytes = prefix.as_bytes().to_vec();
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            CString::new(bytes).map_err(|error| data_path(std::io::Error::other(error)))
        };
        let arguments = vec![
            c"clickhouse".to_owned(),
            argument("--path=", &engine_path)?,
            argument("--config-file=", &config)?,
        ];
        let base = connection::connect(api, &arguments)
            .ok_or_else(|| EngineError::Refused { path: root.clone() })?;
        let engine = Arc::new(Self {
            api,
            arguments,
            about: OnceLock::new(),
            base: Mutex::new(Some(Base(base))),
            open: AtomicUsize::new(0),
            _lock: lock,
        });
        let about = engine.introduce().map_err(EngineError::FirstQuery)?;
        engine.about.get_or_init(|| about);
        Ok(engine)
    }

    /// Drops what no request may see, and asks the engine what it is and which table functions it knows.
    fn introduce(self: &Arc<Self>) -> Result<About, String> {
        let ask = |sql: &str| {
            let connection = self.connect("").map_err(|error| error.to_string())?;
            let answer = connection
                .query(sql.as_bytes(), "TSVRaw", &[])
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(
                String::from_utf8_lossy(answer.as_ref())
                    .trim_end()
                    .to_owned(),
            )
        };
        ask(&format!("DROP DATABASE {}", config::FILES_DATABASE))?;
        let about = About {
            version: ask("SELECT version()")?,
            timezone: ask("SELECT timezone()")?,
            revision: ask("SELECT revision()")?.parse().unwrap_or(0),
            table_functions: ask("SELECT lower(name) FROM system.table_functions")?
                .lines()
                .map(str::to_owned)
                .collect(),
        };
        crate::exception::set_version(&about.version);
        Ok(about)
    }

    /// The engine's version, such as 26.7.2.1.
    pub fn version(&self) -> &str {
        self.about.get().map_or("", |about| &about.version)
    }

    /// The engine's time zone.
    pub fn timezone(&self) -> &str {
        self.about.get().map_or("", |about| &about.timezone)
    }

    /// The highest protocol version of the Native format that the engine knows of.
    pub fn revision(&self) -> u64 {
        self.about.get().map_or(0, |about| about.revision)
    }

    /// Whether this names a table function, in lower case.
    pub fn is_table_function(&self, name: &str) -> bool {
        self.about
            .get()
            .is_some_and(|about| about.table_functions.contains(name))
    }

    /// Opens a connection for one request. `query_id` is how [`kill`](Self::kill) finds its query.
    ///
    /// # Errors
    /// The engine is closing.
    pub fn connect(
        self: &Arc<Self>,
        query_id: &str,
    ) -> Result<Connection, crate::exception::Exception> {
        Connection::open(self, query_id)
    }

    /// Cancels the query of a connection, if it runs.
    pub fn kill(self: &Arc<Self>, query_id: &str) {
        let filter = format!("Settings['log_comment'] = {}", crate::sql::quote(query_id));
        self.kill_where(&filter);
    }

    /// Cancels every query.
    pub fn kill_all(self: &Arc<Self>) {
        self.kill_where("Settings['log_comment'] != ''");
    }

    fn kill_where(self: &Arc<Self>, filter: &str) {
        let sql = format!("KILL QUERY WHERE {filter} ASYNC");
        let killed = self
            .connect("")
            .and_then(|connection| connection.query(sql.as_bytes(), "Null", &[]).map(drop));
        if let Err(error) = killed {
            tracing::warn!(%error, "cannot cancel a query");
        }
    }

    /// Closes the engine once no request has a connection any more; false if one still has after
    /// `limit`. The process may then not end by `exit`.
    pub fn close_when_idle(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let Some(base) = self.lock_base().take() else {
            return true;
        };
        // From here on nobody connects.
        while self.open.load(Ordering::Acquire) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // SAFETY: the handle came from `chdb_connect`, and is taken out of its place only here.
        unsafe { (self.api.close_conn)(base.0) };
        true
    }

    fn lock_base(&self) -> std::sync::MutexGuard<'_, Option<Base>> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find_library(setting: Option<&Path>) -> Result<PathBuf, EngineError> {
    let looked = match setting {
        Some(path) => vec![path.to_owned()],
        None => std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.to_owned()))
            .map(|folder| {
                vec![
                    folder.join(LIBRARY_NAME),
                    folder.join("../lib").join(LIBRARY_NAME),
                ]
            })
            .unwrap_or_default(),
    };
    match looked.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(EngineError::NoLibrary { looked }),
    }
}

/// Two engines in one folder destroy it; the lock ends with the process, however that ends.
fn lock(root: &Path) -> Result<Flock<File>, EngineError> {
    let path = root.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| EngineError::DataPath { path, error })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| EngineError::Locked {
        path: root.to_owned(),
    })
}
