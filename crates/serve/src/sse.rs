//! Answers: JSON, and streams of server-sent events.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use foehn_generate::Event;
use futures_util::stream;
use serde_json::Value;

use crate::generation::Generation;

/// What ends a stream.
const DONE: &str = "data: [DONE]\n\n";

/// A JSON answer.
pub(crate) fn json(value: &Value) -> Response<Body> {
    with_type("application/json", Body::from(value.to_string()))
}

/// An answer of another type.
pub(crate) fn with_type(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Appends an event to a text. JSON has no line breaks but escaped ones.
pub(crate) fn push(text: &mut String, value: &Value) {
    text.push_str("data: ");
    text.push_str(&value.to_string());
    text.push_str("\n\n");
}

/// Makes server-sent events of what happens to a group of requests.
pub(crate) trait Writer: Send + 'static {
    /// Appends what is sent before anything happens.
    fn begin(&mut self, text: &mut String);
    /// Appends what an event of the request with this index adds, if anything.
    fn event(&mut self, index: usize, event: Event, text: &mut String);
    /// Appends what follows the end of all requests.
    fn end(&mut self, text: &mut String);
}

/// A stream of events, which ends with `[DONE]`. An error in it is an event too. Whoever drops the stream drops the
/// generation.
pub(crate) fn stream(mut writer: impl Writer, generation: Generation) -> Response<Body> {
    let mut first = String::new();
    writer.begin(&mut first);
    let body = stream::unfold((writer, Some(generation), first), |(mut writer, mut generation, mut text)| async move {
        while text.is_empty() {
            match generation.as_mut()?.next().await {
                Some(Ok((index, event))) => writer.event(index, event, &mut text),
                ended => {
                    match ended {
                        Some(Err(error)) => push(&mut text, &error.body()),
                        _ => writer.end(&mut text),
                    }
                    text.push_str(DONE);
                    generation = None;
                }
            }
        }
        Some((Ok::<_, Infallible>(Bytes::from(text)), (writer, generation, String::new())))
    });
    let mut response = with_type("text/event-stream; charset=utf-8", Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies such as nginx would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
