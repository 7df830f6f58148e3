//! Why a client is not served, as it is told: over HTTP as a status with a JSON body, over the
//! WebSocket as an error frame.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use flight::source::ServerFrame;
use thiserror::Error;

/// Why a client is not served, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A request or frame that is not of the protocol.
    #[error("{0}")]
    BadRequest(String),
    /// An offset below the first.
    #[error("offset {0} is before the source's first event, which is 0: ask for 0 or later")]
    BeforeOrigin(i64),
    /// An offset after the live edge.
    #[error(
        "offset {from} is beyond the live edge, which is {next}: ask for {next} at most, or for none to begin there"
    )]
    BeyondEnd {
        /// What was asked for.
        from: i64,
        /// The live edge.
        next: i64,
    },
    /// As many clients as are allowed.
    #[error("{0} clients are connected already: try again later, or raise max_clients")]
    Overloaded(usize),
    /// The service stops.
    #[error("the source is shutting down: connect again")]
    ShuttingDown,
    /// The client took nothing and said nothing for too long.
    #[error("nothing was heard of the client for {0} s")]
    Stalled(u64),
    /// No such path.
    #[error(
        "there is nothing here: see /v1/source, /v1/flights, /v1/flights/stream and /v1/flights/ws"
    )]
    NotFound,
}

impl Refusal {
    /// Every [`code`](Self::code).
    pub const CODES: [&'static str; 7] = [
        "bad_request",
        "before_origin",
        "beyond_end",
        "overloaded",
        "shutting_down",
        "stalled",
        "not_found",
    ];

    /// A short name without spaces, for clients and for metrics. The set is fixed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::BeforeOrigin(_) => "before_origin",
            Self::BeyondEnd { .. } => "beyond_end",
            Self::Overloaded(_) => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::Stalled(_) => "stalled",
            Self::NotFound => "not_found",
        }
    }

    /// What the WebSocket's client is told before the connection closes.
    pub fn frame(&self) -> ServerFrame {
        ServerFrame::Error {
            code: self.code().to_owned(),
            message: self.to_string(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::BadRequest(_) | Self::BeforeOrigin(_) | Self::BeyondEnd { .. } => {
                StatusCode::BAD_REQUEST
            }
            Self::Overloaded(_) | Self::ShuttingDown | Self::Stalled(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NotFound => StatusCode::NOT_FOUND,
        };
        let body = serde_json::json!({"error": {"code": self.code(), "message": self.to_string()}});
        (status, Json(body)).into_response()
    }
}
