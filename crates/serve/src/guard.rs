//! What every request has to pass, and what every answer carries.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use subtle::ConstantTimeEq;

use crate::api_error::{ApiError, ApiResult};
use crate::app::App;

/// What is open to requests without key: what a browser asks for before anyone can give it a key, and what watches the
/// server.
const OPEN: [&str; 3] = ["/", "/health", "/openapi.json"];
/// What is answered while the server drains.
const WHILE_DRAINING: [&str; 2] = ["/health", "/metrics"];

/// Checks a request, counts its answer, and gives that the headers that all have.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response<Body> {
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = match check(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    app.metrics.answered(matched.unwrap_or_else(|| "other".to_owned()), response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = header::CONTENT_SECURITY_POLICY;
    headers.entry(policy).or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

fn check(app: &App, request: &Request<Body>) -> ApiResult<()> {
    let path = request.uri().path();
    match &app.config.api_key {
        Some(key) if !OPEN.contains(&path) => authorized(key, request.headers())?,
        Some(_) => {}
        None => check_host(request)?,
    }
    if app.is_draining() && !WHILE_DRAINING.contains(&path) {
        return Err(ApiError::draining());
    }
    Ok(())
}

fn authorized(key: &str, headers: &HeaderMap) -> ApiResult<()> {
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let (scheme, token) = given.split_at_checked(b"Bearer ".len()).unwrap_or_default();
    // In constant time, but for the length.
    if scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(token.ct_eq(key.as_bytes())) {
        return Ok(());
    }
    Err(ApiError::refused(StatusCode::UNAUTHORIZED, "invalid_api_key", "Incorrect API key provided"))
}

/// A web page can give a name of its own this server's address, and its scripts would then be of the same origin. Such
/// requests carry that name.
fn check_host(request: &Request<Body>) -> ApiResult<()> {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().host().or_else(|| header.map(without_port));
    let is_own = host.is_some_and(|host| {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        literal.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
    });
    if is_own {
        return Ok(());
    }
    let message = "the Host header names neither localhost nor an IP address: without an API key, no others are served";
    Err(ApiError::refused(StatusCode::FORBIDDEN, "host_not_allowed", message))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}
