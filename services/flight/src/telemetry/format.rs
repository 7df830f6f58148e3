//! Log lines that say which trace they belong to.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Adds `trace_id` and `span_id` to the JSON lines of another format, within a span that is sampled. The
/// names are OpenTelemetry's for logs that are no OTLP.
pub(super) struct WithTrace<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let current = Context::current();
        let span = current.span();
        let span = span.span_context();
        if !span.is_sampled() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        let Some(fields) = line.trim_end().strip_suffix('}') else {
            return writer.write_str(&line);
        };
        writeln!(
            writer,
            r#"{fields},"trace_id":"{}","span_id":"{}"}}"#,
            span.trace_id(),
            span.span_id()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use serde_json::Value;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{EnvFilter, Layer};

    use crate::telemetry::{Contexts, console};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The JSON lines that are logged, at the given level.
    fn logged(level: &str, log: impl FnOnce()) -> Vec<Value> {
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .build();
        let traces = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("test"))
            .with_filter(LevelFilter::INFO);
        let lines = Lines::default();
        let theirs = lines.clone();
        let console = console(false, move || theirs.clone()).with_filter(EnvFilter::new(level));
        let subscriber = tracing_subscriber::registry().with(console).with(traces);
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn log_within_and_without() {
        let mut contexts = Contexts::default();
        contexts.add(&format!("00-{TRACE}-b7ad6b7169203331-01"));
        let outer = tracing::info_span!("outer");
        contexts.adopt(&outer);
        {
            let _outer = outer.enter();
            tracing::warn!(rows = 3, "in the \"outer\" {{one}}");
            let _inner = tracing::info_span!("inner").entered();
            tracing::warn!("in the inner");
        }
        let _unsampled = tracing::info_span!("unsampled").entered();
        tracing::warn!("in no sampled span");
    }

    #[test]
    fn lines_within_a_sampled_span_name_it() {
        // Whether the spans themselves are logged at this level or not.
        for level in ["info", "warn"] {
            let lines = logged(level, log_within_and_without);
            assert_eq!(lines.len(), 3, "{lines:?}");
            assert_eq!(lines[0]["message"], "in the \"outer\" {one}");
            assert_eq!(lines[0]["rows"], 3);
            for line in &lines[..2] {
                assert_eq!(line["trace_id"], TRACE);
                assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
            }
            assert_ne!(lines[0]["span_id"], lines[1]["span_id"]);
            assert_ne!(
                lines[0]["span_id"], "b7ad6b7169203331",
                "its own, not its parent's"
            );
            assert_eq!(lines[2].get("trace_id"), None);
        }
    }
}
