//! Trace contexts on their way from one process to the next, as W3C `traceparent`.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Kafka header, HTTP header and JSON key that carry the trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Most traces that one span is linked to besides its own.
const MAX_LINKS: usize = 32;

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
    if let Some(parent) = read(traceparent) {
        // An error means that traces are off: then there is nothing to be a child in.
        let _ = span.set_parent(parent);
    }
}

fn read(traceparent: &str) -> Option<Context> {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    context.span().span_context().is_valid().then_some(context)
}

/// The traces of which something went into one batch, one transaction, one insert.
///
/// A span has one parent. What is made of many batches is a child of the first one that is sampled, and
/// has links to at most 32 others.
#[derive(Debug, Clone, Default)]
pub struct Contexts(Vec<String>);

impl Contexts {
    /// Adds the context of a batch, once, however many of its records carry it.
    pub fn add(&mut self, traceparent: &str) {
        // The records of a batch come together: it is mostly the last one.
        let is_new = !self.0.iter().rev().any(|known| known == traceparent);
        if is_new && self.0.len() <= MAX_LINKS {
            self.0.push(traceparent.to_owned());
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Gives a span its parent and its links. Before the span is entered: then it is too late.
    pub fn adopt(&self, span: &Span) {
        let mut contexts = self.0.iter();
        if let Some(parent) = contexts.next() {
            span_with_parent(span, parent);
        }
        for context in contexts.filter_map(|traceparent| read(traceparent)) {
            span.add_link(context.span().span_context().clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// A span of each of these contexts, as it is exported.
    fn exported(make: impl FnOnce()) -> Vec<opentelemetry_sdk::trace::SpanData> {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), make);
        provider.force_flush().unwrap();
        exporter.get_finished_spans().unwrap()
    }

    #[test]
    fn a_context_is_handed_on_within_its_trace() {
        let spans = exported(|| {
            let child = tracing::info_span!("child");
            span_with_parent(&child, PARENT);
            let handed_on = traceparent_of(&child).unwrap();
            assert_eq!(handed_on[..36], PARENT[..36], "same trace");
            assert_ne!(handed_on, PARENT, "another span");

            let orphan = tracing::info_span!("orphan");
            span_with_parent(&orphan, "00-nonsense");
            assert_eq!(traceparent_of(&orphan), None, "not sampled");
        });
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["child"]);
    }

    #[test]
    fn many_batches_are_one_parent_and_links_that_are_bounded() {
        let context = |n: u32| format!("00-{n:032x}-b7ad6b7169203331-01");
        let spans = exported(|| {
            let mut contexts = Contexts::default();
            for n in 1..=100 {
                contexts.add(&context(n));
                contexts.add(&context(n));
            }
            let span = tracing::info_span!("insert");
            contexts.adopt(&span);
            let _entered = span.enter();
        });
        assert_eq!(spans.len(), 1);
        let links = spans[0].links.iter();
        let traces: Vec<String> = links
            .map(|link| link.span_context.trace_id().to_string())
            .collect();
        let own = spans[0].span_context.trace_id().to_string();
        assert_eq!(own, format!("{:032x}", 1));
        let expected: Vec<_> = (2..=33).map(|n| format!("{n:032x}")).collect();
        assert_eq!(traces, expected);
    }

    #[test]
    fn what_is_of_no_sampled_batch_is_not_sampled() {
        let spans = exported(|| {
            let mut contexts = Contexts::default();
            contexts.add("nonsense");
            let span = tracing::info_span!("insert");
            contexts.adopt(&span);
            let _entered = span.enter();
        });
        assert!(spans.is_empty());
    }
}
