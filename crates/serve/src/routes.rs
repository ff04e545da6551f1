//! Every route.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, delete, get, post};

use crate::api_error::ApiError;
use crate::app::App;
use crate::{adapters, chat, completions, guard, info, models, page, text};

/// The routes, with the methods that `openapi.json` describes.
pub(crate) fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("get", "/", get(page::page)),
        ("get", "/health", get(models::health)),
        ("get", "/metrics", get(models::metrics)),
        ("get", "/openapi.json", get(page::openapi)),
        ("get", "/foehn/info", get(info::info)),
        ("get", "/foehn/runs/{id}/report.html", get(info::report)),
        ("post", "/detokenize", post(text::detokenize)),
        ("post", "/tokenize", post(text::tokenize)),
        ("post", "/v1/adapters", post(adapters::add)),
        ("delete", "/v1/adapters/{*id}", delete(adapters::remove)),
        ("post", "/v1/chat/completions", post(chat::chat)),
        ("post", "/v1/completions", post(completions::completions)),
        ("get", "/v1/models", get(models::list)),
        ("get", "/v1/models/{*id}", get(models::one)),
    ]
}

/// The router of a server.
pub(crate) fn router(app: Arc<App>) -> Router {
    let routes = routes().into_iter().fold(Router::new(), |router, (_, path, method)| router.route(path, method));
    routes
        .fallback(async || ApiError::refused(StatusCode::NOT_FOUND, "not_found", "there is nothing here"))
        .method_not_allowed_fallback(async || {
            ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "not with this method")
        })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}
