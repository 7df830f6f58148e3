//! Where things lie: state, parts, programs, SQL.

use std::io;
use std::path::{Path, PathBuf};

use crate::component::Component;
use crate::settings::Settings;

/// The directories of one stack, all absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Data, logs and the control socket.
    pub state: PathBuf,
    /// What was downloaded.
    pub parts: PathBuf,
    /// The services' programs.
    pub binaries: PathBuf,
    /// Holds `sql/`.
    pub share: PathBuf,
}

impl Layout {
    /// Resolves the settings' directories.
    ///
    /// # Errors
    /// The working directory or the program's own path cannot be read.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let here = std::env::current_dir()?;
        let program = std::env::current_exe()?;
        let root = root(&program).unwrap_or_else(|| here.clone());
        let given = |path: &Option<PathBuf>, default: PathBuf| match path {
            // An empty environment variable means "not set", as everywhere else.
            Some(path) if !path.as_os_str().is_empty() => here.join(path),
            _ => default,
        };
        Ok(Self {
            state: given(&settings.state, root.join("var")),
            parts: given(&settings.parts, root.join("var/parts")),
            binaries: given(&settings.binaries, beside(&program)),
            share: given(&settings.share, root),
        })
    }

    /// Data of one component.
    pub fn data(&self, component: Component) -> PathBuf {
        self.state.join(component.name())
    }

    /// What Airflow's processes share: settings, secrets, logs of tasks.
    pub fn airflow(&self) -> PathBuf {
        self.state.join("airflow")
    }

    /// Directory of the logs.
    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// The log of one component.
    pub fn log(&self, component: Component) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }

    /// The file that a running `contrail` holds locked.
    pub fn lock(&self) -> PathBuf {
        self.state.join("contrail.lock")
    }

    /// The socket on which a running `contrail` takes commands.
    pub fn socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }

    /// The token with which the local producer is asked for replays.
    pub fn replay_token(&self) -> PathBuf {
        self.data(Component::Producer).join("replay-token")
    }

    /// The `airflow` program of the environment that `make start-airflow` fetches.
    pub fn airflow_program(&self) -> PathBuf {
        self.parts.join("airflow/bin/airflow")
    }

    /// The script of the mail catcher that `make start-airflow` fetches.
    pub fn mail_catcher(&self) -> PathBuf {
        self.parts.join("mail/node_modules/maildev/bin/maildev")
    }

    /// Rules and templates of alerts.
    pub fn alerts(&self) -> PathBuf {
        self.share.join("grafana/alerts")
    }

    /// The queries that `contrail query` runs.
    pub fn queries(&self) -> PathBuf {
        self.share.join("sql/queries")
    }
}

/// The checkout that a program was built in.
fn root(program: &Path) -> Option<PathBuf> {
    program
        .ancestors()
        .skip(1)
        .find(|directory| directory.join("services/stack/Cargo.toml").is_file())
        .map(Path::to_owned)
}

/// Where a program's neighbours lie. A test's own program lies one level below them, in `deps`.
fn beside(program: &Path) -> PathBuf {
    let directory = program.parent().unwrap_or(Path::new("."));
    match directory.file_name() {
        Some(name) if name == "deps" => directory.parent().unwrap_or(directory).to_owned(),
        _ => directory.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_wins_and_parts_do_not_follow_the_state() {
        let settings = Settings {
            state: Some("/somewhere/state".into()),
            binaries: Some(PathBuf::new()),
            ..Settings::default()
        };
        let layout = Layout::new(&settings).unwrap();
        assert_eq!(layout.state, Path::new("/somewhere/state"));
        assert!(layout.parts.ends_with("var/parts"), "{layout:?}");
        // An empty path is as good as none: the programs lie above this test's own directory.
        assert!(!layout.binaries.ends_with("deps"), "{layout:?}");
        assert!(layout.share.join("services/stack").is_dir(), "{layout:?}");
    }
}
