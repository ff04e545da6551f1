//! `POST /tokenize` and `POST /detokenize`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use foehn_tokens::Tokenizer;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult, chain};
use crate::app::App;
use crate::chat::{conversation, render};
use crate::fields::wrong;
use crate::sse;

/// The tokens of a text in front of which nothing stands: with a bos where the tokenizer asks for one. Control tokens in
/// the text are text.
pub(crate) fn plain_prompt(tokenizer: &Tokenizer, text: &str) -> ApiResult<Vec<u32>> {
    let bos = tokenizer.bos_id().filter(|_| tokenizer.add_bos());
    let ids = tokenizer.encode_text(text).map_err(|error| ApiError::invalid("prompt", chain(&error)))?;
    Ok(bos.into_iter().chain(ids).collect())
}

/// The tokens of a text (without bos), or of the prompt of a conversation.
pub(crate) async fn tokenize(State(app): State<Arc<App>>, request: Request<Body>) -> ApiResult<Response<Body>> {
    let mut fields = app.read(request, app.deadline()).await?;
    let tokens = app.compute(move |app| {
        let model = fields.text("model")?.map(|name| app.model(&name)).transpose()?;
        match fields.text("content")? {
            Some(content) => {
                fields.finish(&[])?;
                app.tokenizer.encode_text(&content).map_err(|error| ApiError::invalid("content", chain(&error)))
            }
            None => {
                let (messages, tools) = conversation(&mut fields)?;
                fields.finish(&[])?;
                let Some(model) = model.or_else(|| app.models().into_iter().next()) else {
                    return Err(ApiError::no_model(""));
                };
                render(app, &model, &messages, &tools)
            }
        }
    });
    let tokens = tokens.await?;
    Ok(sse::json(&json!({"tokens": tokens, "count": tokens.len()})))
}

/// The text of tokens. That of control tokens is their name.
pub(crate) async fn detokenize(State(app): State<Arc<App>>, request: Request<Body>) -> ApiResult<Response<Body>> {
    let mut fields = app.read(request, app.deadline()).await?;
    let content = app.compute(move |app| {
        if let Some(name) = fields.text("model")? {
            app.model(&name)?;
        }
        let tokens = fields.list("tokens")?.ok_or_else(|| fields.missing("tokens"))?;
        fields.finish(&[])?;
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = tokens.iter().map(|value| id(value).ok_or_else(|| wrong("tokens", value, "token ids")));
        Ok(app.tokenizer.decode(&ids.collect::<ApiResult<Vec<u32>>>()?, false))
    });
    Ok(sse::json(&json!({"content": content.await?})))
}
