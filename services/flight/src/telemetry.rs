//! Logs to the console, traces by OTLP.
//!
//! Logs are for people on a terminal and JSON everywhere else. Traces go out only where an endpoint
//! is set; one context follows a batch from its source through Kafka's headers into the insert.

use std::collections::HashMap;
use std::io::IsTerminal;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Kafka header and JSON key that carry the trace context.
pub const TRACEPARENT: &str = "traceparent";

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
    let console = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let console = if pretty {
        console.with_target(false).boxed()
    } else {
        console.json().flatten_event(true).boxed()
    };
    let console = console.with_filter(EnvFilter::try_new(&settings.log)?);
    let subscriber = tracing_subscriber::registry().with(console);

    let Some(endpoint) = &settings.otlp_endpoint else {
        subscriber.try_init()?;
        return Ok(TelemetryGuard::default());
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(service).build())
        .with_sampler(sampler)
        .with_batch_exporter(exporter)
        .build();
    // Only the services' own spans: those of HTTP clients would trace the exporter itself.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_filter(EnvFilter::try_new(
            "off,flight=info,flight_mock=info,flight_producer=info,flight_ingester=info",
        )?);
    subscriber.with(traces).try_init()?;
    Ok(TelemetryGuard(Some(provider)))
}

/// The W3C trace context of a span, if it is sampled.
pub fn traceparent_of(span: &Span) -> Option<String> {
    let context = span.context();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// The W3C trace context of the current span, if it is sampled.
pub fn current_traceparent() -> Option<String> {
    traceparent_of(&Span::current())
}

/// Makes a span the child of a trace context that arrived with a batch. A malformed context is
/// ignored: the span then begins a trace of its own.
pub fn span_with_parent(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract(&carrier);
    if parent.span().span_context().is_valid() {
        // An error means that traces are off: then there is nothing to be a child in.
        let _ = span.set_parent(parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_handed_on_within_its_trace() {
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let child = tracing::info_span!("child");
            span_with_parent(&child, PARENT);
            let handed_on = traceparent_of(&child).unwrap();
            assert_eq!(handed_on[..36], PARENT[..36], "same trace");
            assert_ne!(handed_on, PARENT, "another span");

            let orphan = tracing::info_span!("orphan");
            span_with_parent(&orphan, "00-nonsense");
            assert_eq!(traceparent_of(&orphan), None, "not sampled");
        });
    }

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
