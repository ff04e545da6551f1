//! `POST /v1/chat/completions`.

mod answer;
mod choice;
mod messages;
mod request;

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};

use crate::api_error::ApiResult;
use crate::app::App;
use crate::usage::{Head, Usage, seconds};
use crate::{random, sse};

pub(crate) use messages::{conversation, render};
use request::ChatRequest;
pub(crate) use request::MAX_TOKENS;

/// Answers a conversation.
pub(crate) async fn chat(State(app): State<Arc<App>>, request: Request<Body>) -> ApiResult<Response<Body>> {
    let deadline = app.deadline();
    let fields = app.read(request, deadline).await?;
    let (asked, requests, prompt) = app.compute(|app| ChatRequest::take(app, fields)?.prepare(app)).await?;
    let generation = app.engine.generate(requests, deadline).await?;
    let head = Head {
        id: random::name("chatcmpl-"),
        object: if asked.settings.stream { "chat.completion.chunk" } else { "chat.completion" },
        created: seconds(SystemTime::now()),
        model: asked.settings.model.name.clone(),
    };
    let answer = answer::Answer::new(app, head, &asked, Usage { prompt, ..Usage::default() });
    if asked.settings.stream {
        return Ok(sse::stream(answer, generation));
    }
    Ok(sse::json(&answer.whole(generation).await?))
}
