//! An OTLP receiver: what an OpenTelemetry collector is to the services, as far as they see it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;

/// A span as it arrived.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub kind: i32,
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    pub start_ns: u64,
    pub end_ns: u64,
    pub is_error: bool,
    pub attributes: BTreeMap<String, String>,
    /// Traces that it is linked to.
    pub links: Vec<String>,
}

impl Span {
    pub fn text(&self, attribute: &str) -> &str {
        self.attributes
            .get(attribute)
            .unwrap_or_else(|| panic!("{} has no {attribute}: {self:#?}", self.name))
    }

    pub fn number(&self, attribute: &str) -> i64 {
        let text = self.text(attribute);
        text.parse()
            .unwrap_or_else(|_| panic!("{attribute} of {} is {text}", self.name))
    }
}

/// What a receiver shares with its server.
#[derive(Default)]
struct Shared {
    spans: Mutex<Vec<Span>>,
    is_stuck: AtomicBool,
}

/// A receiver that listens until it is dropped.
pub struct Receiver {
    shared: Arc<Shared>,
    pub port: u16,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Receiver {
    /// Listens on a port, or on a free one for 0.
    pub fn start(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(("127.0.0.1", port)))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&shared));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            shared,
            port,
            runtime: Some(runtime),
        }
    }

    /// Takes requests from now on and never answers them.
    pub fn get_stuck(&self) {
        self.shared.is_stuck.store(true, Ordering::Relaxed);
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.shared.spans.lock().unwrap().clone()
    }

    /// The spans by their traces.
    pub fn traces(&self) -> BTreeMap<String, Vec<Span>> {
        let mut traces = BTreeMap::<_, Vec<Span>>::new();
        for span in self.spans() {
            traces.entry(span.trace.clone()).or_default().push(span);
        }
        traces
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Requests that are stuck are given up.
        self.runtime.take().unwrap().shutdown_background();
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if shared.is_stuck.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    if headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| kind != "application/x-protobuf")
    {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    shared.spans.lock().unwrap().extend(read(request));
    StatusCode::OK
}

fn read(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(&of_resource.resource.unwrap_or_default().attributes);
        let service = resource.get("service.name").cloned().unwrap_or_default();
        for span in of_resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            spans.push(Span {
                service: service.clone(),
                name: span.name,
                kind: span.kind,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                start_ns: span.start_time_unix_nano,
                end_ns: span.end_time_unix_nano,
                is_error: span
                    .status
                    .is_some_and(|status| status.code() == SpanStatus::Error),
                attributes: attributes(&span.attributes),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
            });
        }
    }
    spans
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|v| v.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    };
    list.iter()
        .map(|attribute| (attribute.key.clone(), text(&attribute.value)))
        .collect()
}

/// A trace as a tree, each span with when it began after the first, how long it took and what it says.
pub fn tree(spans: &[Span]) -> String {
    let mut text = String::new();
    let began = spans.iter().map(|span| span.start_ns).min().unwrap_or(0);
    branch(&mut text, spans, "", 0, began);
    text
}

fn branch(text: &mut String, spans: &[Span], parent: &str, depth: usize, began: u64) {
    const SHOWN: [&str; 8] = [
        "contrail.source.first_offset",
        "contrail.source.last_offset",
        "messaging.destination.partition.id",
        "contrail.kafka.first_offset",
        "contrail.kafka.last_offset",
        "contrail.rows",
        "contrail.bytes",
        "contrail.written_rows",
    ];
    let mut children: Vec<_> = spans.iter().filter(|span| span.parent == parent).collect();
    children.sort_by_key(|span| span.start_ns);
    for span in children {
        let name = format!(
            "{:indent$}{} {}",
            "",
            span.service,
            span.name,
            indent = depth * 2
        );
        let ms = |ns: u64| ns as f64 / 1e6;
        let _ = write!(
            text,
            "{name:<52} +{:>7.1} ms {:>6.1} ms ",
            ms(span.start_ns - began),
            ms(span.end_ns - span.start_ns)
        );
        for name in SHOWN {
            if let Some(value) = span.attributes.get(name) {
                let _ = write!(text, " {}={value}", name.trim_start_matches("contrail."));
            }
        }
        text.push('\n');
        branch(text, spans, &span.id, depth + 1, began);
    }
}
