//! Answers: headers, summary, and the way an error shows in an answer that has begun.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;

use super::format::content_type;
use crate::engine::Stats;
use crate::exception::{Exception, code};

/// What every answer to a query says of itself.
#[derive(Debug, Clone)]
pub struct Head {
    /// Names the query.
    pub query_id: String,
    /// The engine's time zone.
    pub timezone: String,
    /// Marks an error in the answer's body.
    pub exception_tag: String,
}

impl Head {
    fn response(&self, status: StatusCode) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put("x-clickhouse-query-id", &self.query_id);
        put("x-clickhouse-timezone", &self.timezone);
        put("x-clickhouse-server-display-name", "clickhouse-embedded");
        response
    }

    /// An answer in a format.
    pub fn answer(
        &self,
        format: &str,
        encoding: Option<&'static str>,
        stats: &Stats,
        elapsed_ns: u128,
        body: Body,
    ) -> Response {
        let mut response = self.response(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(content_type(format)),
        );
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put("x-clickhouse-format", format);
        put("x-clickhouse-exception-tag", &self.exception_tag);
        put("x-clickhouse-summary", &summary(stats, elapsed_ns));
        if let Some(encoding) = encoding {
            put("content-encoding", encoding);
        }
        *response.body_mut() = body;
        response
    }

    /// An error instead of an answer.
    pub fn error(&self, exception: &Exception) -> Response {
        // The engine's limit and the limit for bodies have one code; a body that is too large has a
        // status of its own.
        let too_large = exception.code() == code::MEMORY_LIMIT_EXCEEDED
            && exception.to_string().contains("request bodies");
        let status = if too_large {
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            StatusCode::from_u16(exception.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        };
        let mut response = self.response(status);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=UTF-8"),
        );
        headers.insert(
            "x-clickhouse-exception-code",
            HeaderValue::from(exception.code()),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"ClickHouse server HTTP API\""),
            );
        }
        *response.body_mut() = Body::from(format!("{exception}\n"));
        response
    }

    /// An error behind the part of an answer that is already on its way: ClickHouse's frame, which
    /// clients know by the tag in the answer's headers. The transfer breaks off behind it.
    pub fn late_error(&self, exception: &Exception) -> Bytes {
        let message = format!("{exception}\n");
        let tag = &self.exception_tag;
        format!(
            "\r\n__exception__\r\n{tag}\r\n{message}{} {tag}\r\n__exception__\r\n",
            message.len()
        )
        .into()
    }
}

fn summary(stats: &Stats, elapsed_ns: u128) -> String {
    let Stats {
        read_rows,
        read_bytes,
        written_rows,
        written_bytes,
        result_rows,
        result_bytes,
    } = stats;
    format!(
        "{{\"read_rows\":\"{read_rows}\",\"read_bytes\":\"{read_bytes}\",\
         \"written_rows\":\"{written_rows}\",\"written_bytes\":\"{written_bytes}\",\
         \"total_rows_to_read\":\"0\",\"result_rows\":\"{result_rows}\",\
         \"result_bytes\":\"{result_bytes}\",\"elapsed_ns\":\"{elapsed_ns}\"}}"
    )
}
