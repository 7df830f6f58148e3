//! Logs to the console, traces by OTLP.
//!
//! Logs are for people on a terminal and JSON everywhere else. Traces go out only where an endpoint
//! is set; one context follows a batch from its source through Kafka's headers into the insert.

mod context;
mod export;
mod format;

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use context::{Contexts, TRACEPARENT, current_traceparent, span_with_parent, traceparent_of};
pub(crate) use export::SPANS;

/// How a service tells what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// What to log: `info`, or directives such as `info,flight_producer=debug`.
    pub log: String,
    /// How to log: `auto` is `pretty` on a terminal and `json` elsewhere.
    pub log_format: LogFormat,
    /// OTLP endpoint for traces (HTTP, port 4318), for instance `http://127.0.0.1:4318`. No traces
    /// without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Share of batches that are traced from their beginning, 0 to 1. A batch that arrives with a
    /// trace context is traced if that says so.
    pub sample_ratio: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log: "info".into(),
            log_format: LogFormat::Auto,
            otlp_endpoint: None,
            sample_ratio: 0.01,
        }
    }
}

/// See [`TelemetrySettings::log_format`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl TelemetrySettings {
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        EnvFilter::try_new(&self.log).map_err(|error| format!("telemetry.log: {error}"))?;
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(format!(
                "telemetry.sample_ratio must be between 0 and 1, not {}",
                self.sample_ratio
            ));
        }
        Ok(())
    }
}

/// Telemetry cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The log directives are wrong.
    #[error("telemetry.log: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter cannot be built from the endpoint.
    #[error("telemetry.otlp_endpoint: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Telemetry runs already in this process.
    #[error("telemetry is initialised twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Flushes traces that are still held when it is dropped.
#[derive(Debug, Default)]
#[must_use = "traces are flushed when this is dropped"]
pub struct TelemetryGuard(Option<SdkTracerProvider>);

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown_with_timeout(std::time::Duration::from_secs(2))
        {
            eprintln!("the last traces could not be sent: {error}");
        }
    }
}

/// Starts logs, and traces where an endpoint is set. Call once, in `main`, inside the runtime.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(
    service: &'static str,
    settings: &TelemetrySettings,
) -> Result<TelemetryGuard, TelemetryError> {
    let pretty = match settings.log_format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let console = console(pretty, std::io::stderr).with_filter(EnvFilter::try_new(&settings.log)?);
    let subscriber = tracing_subscriber::registry().with(console);

    let Some(endpoint) = &settings.otlp_endpoint else {
        subscriber.try_init()?;
        return Ok(TelemetryGuard::default());
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(export::REQUEST)
        .build()?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(service).build())
        .with_sampler(sampler)
        .with_batch_exporter(export::Watched::new(exporter, endpoint))
        .build();
    // Only the services' own spans: those of HTTP clients would trace the exporter itself.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_filter(EnvFilter::try_new(
            "off,flight=info,flight_mock=info,flight_producer=info,flight_ingester=info,clickhouse_embedded=info",
        )?);
    subscriber.with(traces).try_init()?;
    Ok(TelemetryGuard(Some(provider)))
}

/// The layer that logs, for people or as JSON.
fn console<S, W>(pretty: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let console = tracing_subscriber::fmt::layer().with_writer(writer);
    if pretty {
        return console.with_target(false).boxed();
    }
    console
        .json()
        .flatten_event(true)
        .map_event_format(format::WithTrace)
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let wrong = TelemetrySettings {
            sample_ratio: 2.0,
            ..TelemetrySettings::default()
        };
        assert!(
            wrong
                .validate()
                .unwrap_err()
                .contains("telemetry.sample_ratio")
        );
        let wrong = TelemetrySettings {
            log: "flight=loud".into(),
            ..TelemetrySettings::default()
        };
        assert!(wrong.validate().unwrap_err().contains("telemetry.log"));
    }
}
