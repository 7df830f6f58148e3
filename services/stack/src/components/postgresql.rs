//! PostgreSQL, of the system: it is found, not fetched.
//!
//! It refuses to run as root. A stack of root's therefore runs it as the user `postgres`, which the package
//! made, with the one right of root's that it needs: to pass through directories that are root's own.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::{Context, write};
use crate::component::Component;
use crate::supervisor::process::{Launch, Program};
use crate::tools;

/// The user of the database, its password and its name: known to everybody, as all of the local stack.
const NAME: &str = "airflow";
/// Whose process it is where the stack is root's.
const SYSTEM_USER: &str = "postgres";
/// Where Debian keeps the programs, a folder a version.
const DEBIAN: &str = "/usr/lib/postgresql";

pub fn launch(context: &Context) -> Result<Launch, String> {
    let programs = programs(context)?;
    let home = context.layout.data(Component::Postgresql);
    let data = home.join("data");
    std::fs::create_dir_all(&home)
        .map_err(|error| format!("cannot create {}: {error}", home.display()))?;
    let password = home.join("password");
    write(&password, &format!("{NAME}\n"))?;
    if Uid::effective().is_root() {
        let user = User::from_name(SYSTEM_USER)
            .ok()
            .flatten()
            .ok_or_else(missing)?;
        for path in [&home, &password] {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .map_err(|error| format!("cannot give {} away: {error}", path.display()))?;
        }
    }
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700))
        .map_err(|error| format!("cannot protect {}: {error}", home.display()))?;
    // A cluster that was begun and not finished is begun anew.
    let before = as_user(Path::new("/bin/sh"))
        .arg("-c")
        .arg(
            "test -f \"$1.made\" || { rm -rf \"$1\" && \"$2/initdb\" --pgdata=\"$1\" --username=\"$3\" \
             --pwfile=\"$4\" --auth=scram-sha-256 --encoding=UTF8 --locale=C && touch \"$1.made\"; }",
        )
        .arg("sh")
        .arg(&data)
        .arg(&programs)
        .arg(NAME)
        .arg(&password);
    let program = as_user(&programs.join("postgres"))
        .arg("-D")
        .arg(&data)
        .arg("-h")
        .arg("127.0.0.1")
        .arg("-p")
        .arg(context.port(Component::Postgresql).to_string())
        .arg("-c")
        .arg("unix_socket_directories=")
        .arg("-c")
        .arg("shared_buffers=64MB")
        .arg("-c")
        .arg("max_connections=60");
    Ok(Launch {
        before: Some(before),
        program,
    })
}

/// How Airflow reaches it.
pub fn url(context: &Context) -> String {
    format!(
        "postgresql+psycopg2://{NAME}:{NAME}@127.0.0.1:{}/postgres",
        context.port(Component::Postgresql)
    )
}

/// Asks it whether it takes connections.
pub fn probe(context: &Context) -> Result<(), String> {
    let programs = programs(context)?;
    let done = std::process::Command::new(programs.join("pg_isready"))
        .args(["--quiet", "--host=127.0.0.1", "--timeout=2"])
        .arg(format!("--port={}", context.port(Component::Postgresql)))
        .status()
        .map_err(|error| format!("pg_isready: {error}"))?;
    match done.success() {
        true => Ok(()),
        false => Err("pg_isready: it takes no connections yet".into()),
    }
}

/// The directory of its programs: of the settings, by the PATH, or Debian's newest.
pub fn programs(context: &Context) -> Result<PathBuf, String> {
    if let Some(given) = &context.settings.airflow.postgresql {
        return match given.join("initdb").is_file() {
            true => Ok(given.clone()),
            false => Err(format!(
                "airflow.postgresql is {}, and there is no initdb in it",
                given.display()
            )),
        };
    }
    if let Ok(found) = tools::find("postgres")
        && let Some(directory) = found
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.parent()?.to_owned()))
        && directory.join("initdb").is_file()
    {
        return Ok(directory);
    }
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, directory)| directory.join("initdb").is_file())
        .collect();
    versions.sort();
    versions
        .pop()
        .map(|(_, directory)| directory)
        .ok_or_else(missing)
}

fn missing() -> String {
    format!(
        "PostgreSQL, which keeps Airflow's state, cannot be found on the PATH or in {DEBIAN}: install with \
         `{}` (Debian, Ubuntu), or name the directory of its programs as airflow.postgresql in contrail.toml",
        tools::install_command(&["postgresql"])
    )
}

/// A program as the user that may run it.
fn as_user(program: &Path) -> Program {
    if !Uid::effective().is_root() {
        return Program::new(program);
    }
    Program::new("setpriv")
        .arg(format!("--reuid={SYSTEM_USER}"))
        .arg(format!("--regid={SYSTEM_USER}"))
        .arg("--clear-groups")
        .arg("--inh-caps=+dac_read_search")
        .arg("--ambient-caps=+dac_read_search")
        // A process that becomes somebody else forgets that it is to go with the supervisor.
        .arg("--pdeathsig=KILL")
        .arg("--")
        .arg(program)
}
