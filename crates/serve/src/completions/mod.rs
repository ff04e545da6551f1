//! `POST /v1/completions`: plain texts and token ids, continued.

mod answer;
mod choice;
mod request;

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};

use crate::api_error::ApiResult;
use crate::app::App;
use crate::usage::{Head, seconds};
use crate::{random, sse};

use request::CompletionRequest;

/// Continues prompts.
pub(crate) async fn completions(State(app): State<Arc<App>>, request: Request<Body>) -> ApiResult<Response<Body>> {
    let deadline = app.deadline();
    let fields = app.read(request, deadline).await?;
    let (asked, requests) = app.compute(|app| CompletionRequest::take(app, fields)?.prepare(app)).await?;
    let generation = app.engine.generate(requests, deadline).await?;
    let head = Head {
        id: random::name("cmpl-"),
        object: "text_completion",
        created: seconds(SystemTime::now()),
        model: asked.settings.model.name.clone(),
    };
    let stream = asked.settings.stream;
    let answer = answer::Answer::new(app, head, asked);
    if stream {
        return Ok(sse::stream(answer, generation));
    }
    Ok(sse::json(&answer.whole(generation).await?))
}
