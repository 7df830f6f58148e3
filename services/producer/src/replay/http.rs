//! Replays by HTTP, for whoever knows the token: `POST /v1/replays`, `GET /v1/replays`,
//! `GET /v1/replays/ID`.

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::{Refusal, ReplayError, Replays, Request, Wanted};
use crate::error::SessionError;

/// A request is a few numbers, or as many ranges as a replay may have.
const MAX_BODY_BYTES: usize = 1 << 20;

pub(super) fn router(replays: Replays) -> Router {
    Router::new()
        .route("/v1/replays", get(list).post(ask))
        .route("/v1/replays/{id}", get(one))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(replays.clone(), authenticate))
        .with_state(replays)
}

/// Lets through who shows the token.
async fn authenticate(
    State(replays): State<Replays>,
    request: HttpRequest,
    next: Next,
) -> Response {
    let wanted = replays.token();
    if wanted.is_empty() {
        return refuse(
            StatusCode::FORBIDDEN,
            "replays by HTTP are off: set replay.token_file to a file that holds a token",
        );
    }
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    if !shown.is_some_and(|shown| is_same(shown.as_bytes(), wanted.as_bytes())) {
        let mut answer = refuse(
            StatusCode::UNAUTHORIZED,
            "show the token of replay.token_file: `Authorization: Bearer TOKEN`",
        );
        let challenge = header::HeaderValue::from_static("Bearer");
        answer
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        return answer;
    }
    next.run(request).await
}

/// Compares in a time that tells nothing of where two secrets differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differing == 0
}

async fn list(State(replays): State<Replays>) -> Response {
    Json(json!({ "replays": replays.all() })).into_response()
}

async fn one(State(replays): State<Replays>, Path(id): Path<String>) -> Response {
    match replays.get(&id) {
        Some(replay) => Json(replay).into_response(),
        None => refuse(
            StatusCode::NOT_FOUND,
            "no replay has this id: the producer forgets its replays when it is started again",
        ),
    }
}

async fn ask(
    State(replays): State<Replays>,
    request: Result<Json<Request>, JsonRejection>,
) -> Response {
    let wanted = match request {
        Ok(Json(request)) => Wanted::try_from(request),
        Err(rejection) => return refuse(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(refusal) => return refuse(StatusCode::BAD_REQUEST, &refusal.to_string()),
    };
    // Source and Kafka are asked, which takes its time.
    let asked = tokio::task::spawn_blocking(move || replays.ask(&wanted)).await;
    match asked {
        Ok(Ok(replay)) => (StatusCode::ACCEPTED, Json(replay)).into_response(),
        Ok(Err(error)) => refuse_for(&error),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn status_of(error: &ReplayError) -> StatusCode {
    match error {
        ReplayError::Refused(_) => StatusCode::BAD_REQUEST,
        ReplayError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        ReplayError::Session(SessionError::Fatal(_)) | ReplayError::Start(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Where the source begins later than what was asked for, who asks is told where.
fn refuse_for(error: &ReplayError) -> Response {
    let (status, why) = (status_of(error), error.to_string());
    match error {
        ReplayError::Refused(Refusal::BeforeBeginning { begins_at, .. }) => (
            status,
            Json(json!({ "error": why, "begins_at": begins_at })),
        )
            .into_response(),
        _ => refuse(status, &why),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(is_same(b"secret", b"secret"));
        for other in [&b"secre"[..], b"secret1", b"Secret", b""] {
            assert!(!is_same(other, b"secret"));
        }
    }
}
