//! `GET /`: the page, and the policy under which a browser runs it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use sha2::{Digest, Sha256};

use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::sse;

const HTML: &str = include_str!("../page/index.html");
const OPENAPI: &str = include_str!("../openapi.json");

/// The page with the policy for its inline parts.
#[derive(Debug)]
pub(crate) struct Page {
    policy: Option<HeaderValue>,
}

impl Page {
    /// The policy is computed once. Without it (which no page of ours brings about), the page is not shown.
    pub fn new() -> Self {
        Self { policy: HeaderValue::from_str(&policy(HTML)).ok() }
    }
}

/// Nothing but the page's own inline parts, by their hashes, and requests to this server.
fn policy(html: &str) -> String {
    let sources = |element: &str| {
        let hashes: Vec<String> = inline(html, element).map(|text| format!("'sha256-{}'", hash(text))).collect();
        if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        sources("script"),
        sources("style"),
    )
}

fn hash(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text))
}

/// The texts of all elements of a name that has no element inside.
fn inline<'a>(html: &'a str, element: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let mut rest = html;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (_, content) = after.split_once('>')?;
        let (text, after) = content.split_once(&close)?;
        rest = after;
        Some(text)
    })
}

/// The page.
pub(crate) async fn page(State(app): State<Arc<App>>) -> ApiResult<Response<Body>> {
    let policy = app.page.policy.clone().filter(|_| app.config.page);
    let policy = policy.ok_or_else(|| ApiError::refused(StatusCode::NOT_FOUND, "not_found", "there is no page"))?;
    let mut response = sse::with_type("text/html; charset=utf-8", Body::from(HTML));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    // Another version of the program has another page at the same address.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The description of the interface.
pub(crate) async fn openapi() -> Response<Body> {
    sse::with_type("application/json", Body::from(OPENAPI))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_parts_are_allowed_by_hash_and_nothing_else() {
        let html = "<style>a{}</style><script type=\"module\">x()</script><script>y()</script>";
        let policy = policy(html);
        for text in ["a{}", "x()", "y()"] {
            assert!(policy.contains(&hash(text)), "{policy}");
        }
        assert!(!policy.contains("unsafe") && policy.starts_with("default-src 'none'"));
        assert!(super::policy("<p>").contains("script-src 'none'"));
    }

    /// Hashes allow neither attributes that are styles or scripts nor files.
    #[test]
    fn the_page_needs_no_more_than_its_policy_allows() {
        assert!(Page::new().policy.is_some());
        for forbidden in [" style=\"", " onclick=", " onload=", " src=\"http", "javascript:"] {
            assert!(!HTML.contains(forbidden), "{forbidden}");
        }
    }
}
