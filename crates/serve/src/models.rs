//! `GET /v1/models`, and what a server says of its health.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::usage::seconds;
use crate::{ModelInfo, sse};

/// All models.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    let models: Vec<Value> = app.models().iter().map(|model| shown(model)).collect();
    sse::json(&json!({"object": "list", "data": models}))
}

/// A model.
pub(crate) async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> ApiResult<Response<Body>> {
    Ok(sse::json(&shown(&*app.model(&name)?)))
}

/// A model as OpenAI's interface shows it.
pub(crate) fn shown(model: &ModelInfo) -> Value {
    json!({"id": model.name, "object": "model", "created": seconds(model.created), "owned_by": "foehn"})
}

/// Whether requests are taken.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    if app.engine.is_gone() {
        let mut error = ApiError::engine_gone();
        error.status = StatusCode::SERVICE_UNAVAILABLE;
        return error.response();
    }
    let draining = app.is_draining();
    let mut response = sse::json(&json!({"status": if draining { "draining" } else { "ok" }}));
    if draining {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// The counters, for Prometheus.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    sse::with_type("application/openmetrics-text; version=1.0.0; charset=utf-8", Body::from(app.metrics.text()))
}
