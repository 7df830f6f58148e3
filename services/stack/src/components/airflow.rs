//! Airflow: its pages and API, its scheduler with the tasks, and what reads the DAG files.

use std::time::Duration;

use serde_json::Value;
use toml::Table;

use super::{Context, mail, postgresql, write};
use crate::component::Component;
use crate::http;
use crate::supervisor::process::{Launch, Program};
use crate::tools;

/// User and password of the pages: known to everybody, as all of the local stack.
const ADMIN: &str = "admin";

/// Checks what Airflow needs that only the system or a download can give.
///
/// # Errors
/// What is missing, and the command that installs it.
pub fn check(context: &Context) -> Result<(), String> {
    postgresql::programs(context)?;
    tools::find("node")?;
    for path in [
        context.layout.airflow_program(),
        context.layout.mail_catcher(),
    ] {
        if !path.is_file() {
            return Err(format!(
                "{} is missing: `make start-airflow` fetches it",
                path.display()
            ));
        }
    }
    Ok(())
}

/// The pages and the API. Each start brings the database up to date first.
pub fn api(context: &Context) -> Result<Launch, String> {
    let files = Files::write(context)?;
    let port = context.port(Component::AirflowApi).to_string();
    let program = program(context, &files)
        .arg("api-server")
        .arg("--host")
        .arg("127.0.0.1")
        .arg("--port")
        .arg(port)
        .arg("--workers")
        .arg("1");
    Ok(Launch {
        before: Some(self::program(context, &files).arg("db").arg("migrate")),
        program,
    })
}

/// The scheduler, which runs tasks as processes of its own.
pub fn scheduler(context: &Context) -> Result<Launch, String> {
    only(context, "scheduler")
}

/// What reads the DAG files.
pub fn dag_processor(context: &Context) -> Result<Launch, String> {
    only(context, "dag-processor")
}

fn only(context: &Context, command: &str) -> Result<Launch, String> {
    let files = Files::write(context)?;
    Ok(Launch {
        before: None,
        program: program(context, &files).arg(command),
    })
}

/// Asks the API for the health of one of them.
pub fn probe(component: Component, port: u16, timeout: Duration) -> Result<(), String> {
    let text = http::get(port, "/api/v2/monitor/health", timeout)
        .map_err(|error| error.to_string())?
        .success()?;
    let health: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let part = match component {
        Component::AirflowScheduler => "scheduler",
        Component::AirflowDags => "dag_processor",
        _ => "metadatabase",
    };
    match health[part]["status"].as_str() {
        Some("healthy") => Ok(()),
        status => Err(format!("{part} is {}", status.unwrap_or("not known yet"))),
    }
}

/// Files that are written before each start.
struct Files {
    dags: std::path::PathBuf,
    passwords: std::path::PathBuf,
    secret: std::path::PathBuf,
}

impl Files {
    fn write(context: &Context) -> Result<Self, String> {
        let home = context.layout.airflow();
        let files = Self {
            dags: home.join("dags.toml"),
            passwords: home.join("passwords.json"),
            secret: home.join("secret"),
        };
        let header = "# Written by contrail at each start: change contrail.toml instead.\n";
        let text = toml::to_string(&dag_settings(context)).map_err(|error| error.to_string())?;
        write(&files.dags, &format!("{header}{text}"))?;
        write(&files.passwords, &format!("{{\"{ADMIN}\": \"{ADMIN}\"}}\n"))?;
        // Its processes know each other by it; tokens of one start are good for the next.
        if !files.secret.is_file() {
            let random = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()]
                .map(|half| half.simple().to_string())
                .concat();
            write(&files.secret, &random)?;
        }
        Ok(files)
    }
}

/// Settings of the DAGs: where things are, and on top what the stack's own settings say.
fn dag_settings(context: &Context) -> Table {
    let clickhouse = context.clickhouse();
    let own = context.binary("contrail").display().to_string();
    let mut settings = toml::toml! {
        [clickhouse]
        [producer]
        [gaps]
        [quality]
    };
    let mut set = |section: &str, name: &str, value: toml::Value| {
        if let Some(toml::Value::Table(table)) = settings.get_mut(section) {
            table.insert(name.to_owned(), value);
        }
    };
    let command = |words: &[&str]| {
        let words = std::iter::once(own.as_str()).chain(words.iter().copied());
        toml::Value::Array(words.map(|word| toml::Value::String(word.into())).collect())
    };
    set("clickhouse", "url", clickhouse.url.into());
    set("clickhouse", "user", clickhouse.user.into());
    set(
        "clickhouse",
        "password",
        clickhouse.password.expose().into(),
    );
    set("producer", "url", context.url(Component::Producer).into());
    // Where the settings say who may ask for replays, they have to say it to the DAGs too.
    let token = context.layout.replay_token();
    if token.is_file() {
        set("producer", "token_file", token.display().to_string().into());
    }
    set(
        "producer",
        "restart",
        command(&["restart", "producer", "--no-wait"]),
    );
    set(
        "producer",
        "log",
        command(&["logs", "producer", "-n", "20"]),
    );
    set("gaps", "command", command(&["gaps", "--json"]));
    set(
        "quality",
        "ingester_url",
        context.url(Component::Ingester).into(),
    );
    for (section, names) in &context.settings.airflow.dags {
        let entry = settings
            .entry(section.clone())
            .or_insert_with(|| toml::Value::Table(Table::new()));
        if let toml::Value::Table(table) = entry {
            table.extend(names.clone());
        }
    }
    settings
}

fn program(context: &Context, files: &Files) -> Program {
    let layout = &context.layout;
    let home = layout.airflow();
    let port = context.port(Component::AirflowApi);
    let share = layout.share.join("airflow");
    let secret = format!("cat '{}'", files.secret.display());
    let mail = serde_json::json!({
        "conn_type": "smtp", "host": "127.0.0.1", "port": mail::smtp_port(context),
        "extra": {"disable_ssl": true, "disable_tls": true, "from_email": "contrail@localhost"},
    });
    let settings = [
        (
            "CORE__DAGS_FOLDER",
            share.join("dags").display().to_string(),
        ),
        ("CORE__EXECUTOR", "LocalExecutor".into()),
        ("CORE__PARALLELISM", "6".into()),
        ("CORE__LOAD_EXAMPLES", "False".into()),
        ("CORE__DAGS_ARE_PAUSED_AT_CREATION", "False".into()),
        (
            "CORE__SIMPLE_AUTH_MANAGER_USERS",
            format!("{ADMIN}:{ADMIN}"),
        ),
        (
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
            files.passwords.display().to_string(),
        ),
        (
            "CORE__EXECUTION_API_SERVER_URL",
            format!("http://127.0.0.1:{port}/execution/"),
        ),
        ("API__BASE_URL", format!("http://127.0.0.1:{port}")),
        ("API__PORT", port.to_string()),
        ("API__SECRET_KEY_CMD", secret.clone()),
        ("API_AUTH__JWT_SECRET_CMD", secret),
        ("DATABASE__SQL_ALCHEMY_CONN", postgresql::url(context)),
        ("DAG_PROCESSOR__REFRESH_INTERVAL", "30".into()),
        (
            "LOGGING__WORKER_LOG_SERVER_PORT",
            context.port(Component::AirflowScheduler).to_string(),
        ),
        (
            "LOGGING__BASE_LOG_FOLDER",
            home.join("logs").display().to_string(),
        ),
        ("USAGE_DATA_COLLECTION__ENABLED", "False".into()),
    ];
    let mut program = Program::new(layout.airflow_program())
        .env("AIRFLOW_HOME", home.display().to_string())
        .env("AIRFLOW_CONN_CONTRAIL_MAIL", mail.to_string())
        .env("FLIGHT_DAGS_CONFIG", files.dags.display().to_string())
        .env("PYTHONPATH", share.display().to_string())
        .env(
            "PYTHONPYCACHEPREFIX",
            home.join("pycache").display().to_string(),
        );
    // Tasks call it.
    program = context.with_stack(program);
    for (name, value) in settings {
        program = program.env(format!("AIRFLOW__{name}"), value);
    }
    program
}
