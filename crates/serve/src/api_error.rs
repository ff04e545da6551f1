//! Errors as clients of OpenAI's interface expect them: `{"error": {"message", "type", "param", "code"}}`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use foehn_files::printable_text;
use serde_json::{Value, json};

/// What handlers return.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// The answer to a request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub status: StatusCode,
    pub message: String,
    pub kind: &'static str,
    pub param: Option<String>,
    pub code: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        // A message quotes names of strangers, and clients print it.
        let message = printable_text(message.into()).to_string();
        Self { status, message, kind, param: None, code }
    }

    /// 400: something in the request is wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message).about(param)
    }

    /// Another status for which the client is responsible.
    pub fn refused(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", Some(code), message)
    }

    /// 404 for a model.
    pub fn no_model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist");
        Self::refused(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
    }

    /// 500: the server is at fault.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message)
    }

    /// 500 after the engine's thread has gone.
    pub fn engine_gone() -> Self {
        let mut error = Self::server("the engine has failed: the server has to be started again");
        error.code = Some("engine_failed");
        error
    }

    /// 503: the server is about to stop.
    pub fn draining() -> Self {
        let message = "the server is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("shutting_down"), message)
    }

    /// 408: the request took longer than the server allows.
    pub fn timeout() -> Self {
        Self::refused(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took longer than this server allows")
    }

    /// Names the field at fault.
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(printable_text(param.into()).to_string());
        self
    }

    /// The body.
    pub fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }

    /// The whole answer. Who is told to try again is told when.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl axum::response::IntoResponse for ApiError {
    fn into_response(self) -> axum::response::Response {
        self.response()
    }
}

impl From<foehn_generate::Error> for ApiError {
    fn from(error: foehn_generate::Error) -> Self {
        use foehn_generate::Error;
        let message = chain(&error);
        match error {
            Error::UnknownModel { name } => Self::no_model(&name),
            Error::QueueFull { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"), message)
            }
            Error::PromptTooLong { tokens, context, .. } => {
                let message =
                    format!("This model's maximum context length is {context} tokens, the prompt has {tokens} tokens");
                Self::refused(StatusCode::BAD_REQUEST, "context_length_exceeded", message)
            }
            Error::Setting { field: "max_new_tokens", .. } => Self::invalid("max_tokens", message),
            Error::Setting { field, .. } => Self::invalid(field, message),
            Error::EmptyPrompt { .. } | Error::UnknownToken { .. } => Self::invalid("prompt", message),
            Error::Constraint { .. } => Self::invalid("response_format", message),
            Error::Template { .. } => Self::invalid("messages", message),
            _ => Self::server(message),
        }
    }
}

/// An error with its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
