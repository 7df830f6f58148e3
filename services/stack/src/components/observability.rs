//! Prometheus and Alertmanager, and what they ask: every service, the whole (`contrail exporter`) and the
//! machine. The rules of alerts are those of `grafana/alerts`, the same as on NixOS.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Context, mail, write};
use crate::component::Component;
use crate::supervisor::process::{Launch, Program};
use crate::tools;

/// Each program by the name that its makers gave it, and by Debian's, which is also the package's.
const PROMETHEUS: [&str; 2] = ["prometheus", "prometheus"];
const ALERTMANAGER: [&str; 2] = ["alertmanager", "prometheus-alertmanager"];
const NODE_EXPORTER: [&str; 2] = ["node_exporter", "prometheus-node-exporter"];

/// Checks what it needs that only the system or a download can give.
///
/// # Errors
/// What is missing, and the command that installs it.
pub fn check(context: &Context) -> Result<(), String> {
    let missing: Vec<&str> = [PROMETHEUS, ALERTMANAGER, NODE_EXPORTER]
        .into_iter()
        .filter(|names| find(*names).is_err())
        .map(|[_, debian]| debian)
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "{} cannot be found on the PATH: install with `{}` (Debian, Ubuntu)",
            missing.join(", "),
            tools::install_command(&missing)
        ));
    }
    tools::find("node")?;
    let catcher = context.layout.mail_catcher();
    if !catcher.is_file() {
        return Err(format!(
            "{} is missing: `make start-observability` fetches it",
            catcher.display()
        ));
    }
    Ok(())
}

fn find([theirs, debian]: [&str; 2]) -> Result<PathBuf, String> {
    tools::find(theirs).or_else(|_| tools::find(debian))
}

/// What tells of the whole.
pub fn exporter(context: &Context) -> Launch {
    let mut program = context
        .with_stack(Program::new(context.binary("contrail")))
        .arg("exporter")
        .arg("--listen")
        .arg(context.address(Component::Exporter))
        .arg("--account-every")
        .arg(context.settings.observability.account_every_s.to_string());
    // The rest of the settings it finds where this program found them.
    program.directory = std::env::current_dir().ok();
    Launch {
        before: None,
        program,
    }
}

/// What tells of the machine: processors, memory, disks.
pub fn node_exporter(context: &Context) -> Result<Launch, String> {
    let program = Program::new(find(NODE_EXPORTER)?).arg(format!(
        "--web.listen-address={}",
        context.address(Component::NodeExporter)
    ));
    Ok(Launch {
        before: None,
        program,
    })
}

/// What mails alerts, to the mail catcher.
pub fn alertmanager(context: &Context) -> Result<Launch, String> {
    let folder = context.layout.data(Component::Alertmanager);
    let file = folder.join("alertmanager.json");
    write(&file, &alertmanager_settings(context).to_string())?;
    let address = context.address(Component::Alertmanager);
    let program = Program::new(find(ALERTMANAGER)?)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg(format!("--web.external-url=http://{address}"))
        // It is alone.
        .arg("--cluster.listen-address=");
    Ok(Launch {
        before: None,
        program,
    })
}

fn alertmanager_settings(context: &Context) -> Value {
    let settings = &context.settings.observability;
    let templates = context.layout.alerts().join("mail.tmpl");
    json!({
        "global": {
            "smtp_smarthost": format!("127.0.0.1:{}", mail::smtp_port(context)),
            "smtp_from": "contrail@localhost",
            "smtp_require_tls": false,
        },
        "templates": [templates],
        "route": {
            "receiver": "mail",
            "group_by": ["alertname"],
            "group_wait": format!("{}s", settings.group_wait_s),
            "group_interval": format!("{}s", 6 * settings.group_wait_s),
            "repeat_interval": "4h",
        },
        "receivers": [{
            "name": "mail",
            "email_configs": [{
                "to": settings.mail_to,
                "send_resolved": true,
                "headers": {"Subject": "{{ template \"contrail.subject\" . }}"},
                "html": "{{ template \"contrail.html\" . }}",
            }],
        }],
    })
}

/// What asks everything for its metrics.
pub fn prometheus(context: &Context) -> Result<Launch, String> {
    let folder = context.layout.data(Component::Prometheus);
    // JSON is YAML.
    let file = folder.join("prometheus.json");
    write(&file, &prometheus_settings(context).to_string())?;
    let address = context.address(Component::Prometheus);
    let program = Program::new(find(PROMETHEUS)?)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg(format!(
            "--storage.tsdb.retention.time={}",
            context.settings.observability.retention
        ))
        .arg(format!("--web.listen-address={address}"))
        .arg(format!("--web.external-url=http://{address}"));
    Ok(Launch {
        before: None,
        program,
    })
}

fn prometheus_settings(context: &Context) -> Value {
    let settings = &context.settings.observability;
    let rules = settings
        .rules
        .as_ref()
        .and_then(|path| std::path::absolute(path).ok())
        .unwrap_or_else(|| context.layout.alerts().join("rules.yaml"));
    // The names of the jobs are those of nixos/modules/prometheus.nix.
    let jobs = [
        ("prometheus", Component::Prometheus),
        ("alertmanager", Component::Alertmanager),
        ("contrail", Component::Exporter),
        ("node", Component::NodeExporter),
        ("flight-mock", Component::Mock),
        ("flight-producer", Component::Producer),
        ("flight-ingester", Component::Ingester),
        ("clickhouse", Component::Clickhouse),
    ];
    let scrape: Vec<Value> = jobs
        .into_iter()
        .filter(|(_, component)| !context.settings.is_external(*component))
        .map(|(job, component)| {
            json!({
                "job_name": job,
                "static_configs": [{"targets": [context.address(component)]}],
            })
        })
        .collect();
    let interval = format!("{}s", settings.scrape_interval_s);
    json!({
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [rules],
        "alerting": {
            "alertmanagers": [
                {"static_configs": [{"targets": [context.address(Component::Alertmanager)]}]},
            ],
        },
        "scrape_configs": scrape,
    })
}
