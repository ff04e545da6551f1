//! Everything that is refused, by name.

use axum::http::Method;

use super::*;
use crate::fake::Output;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn fields_out_of_range_are_named() {
    let running = start(Plan::says("x"));
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let messages: Vec<Value> = (0..4097).map(|_| json!({"role": "user", "content": "x"})).collect();
    let part = |kind: &str| json!([{"role": "user", "content": [{"type": kind, "image_url": {"url": "x"}}]}]);
    for (fields, param) in [
        (json!({"n": 0}), "n"),
        (json!({"n": 17}), "n"),
        (json!({"temperature": -1}), "temperature"),
        (json!({"temperature": 1e300}), "temperature"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"min_p": -0.5}), "min_p"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"seed": 1.5}), "seed"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_completion_tokens": -1}), "max_completion_tokens"),
        (json!({"stop": many}), "stop"),
        (json!({"stop": [""]}), "stop"),
        (json!({"stop": "x".repeat(1025)}), "stop"),
        (json!({"stop": [1]}), "stop"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"top_logprobs": 1}), "top_logprobs"),
        (json!({"stream": 1}), "stream"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"stream": true, "stream_options": {"usage": true}}), "stream_options.usage"),
        (json!({"presence_penalty": 0.5}), "presence_penalty"),
        (json!({"logit_bias": {"5": 1}}), "logit_bias"),
        (json!({"tempratur": 1}), "tempratur"),
        (json!({"functions": []}), "functions"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
        (json!({"model": null}), "model"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": messages}), "messages"),
        (json!({"messages": [{"role": "user", "content": "x", "weight": 1}]}), "messages[0].weight"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role"),
        (json!({"messages": [3]}), "messages[0]"),
        (json!({"messages": part("image_url")}), "messages[0].content[0].type"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].tool_call_id"),
        (json!({"messages": [{"role": "assistant", "content": "x"}]}), "messages"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (json!({"tools": [{"type": "web"}]}), "tools[0].type"),
    ] {
        let (status, error) = running.refused(CHAT, &question(fields.clone())).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{fields} {error}");
        assert_eq!(error["type"], json!("invalid_request_error"));
    }
}

#[tokio::test]
async fn bodies_are_limited_json_of_the_right_type() {
    let config = Config { max_body: 200, ..Config::default() };
    let running = start_with(Plan::says("x"), config);
    let send = async |content_type: Option<&str>, body: String| {
        let request = Request::post(CHAT).header(header::HOST, "localhost");
        let request =
            content_type.into_iter().fold(request, |request, value| request.header(header::CONTENT_TYPE, value));
        running.send(request.body(Body::from(body)).unwrap()).await.0.as_u16()
    };
    let body = question(json!({})).to_string();
    assert_eq!(send(Some("application/json; charset=utf-8"), body.clone()).await, 200);
    assert_eq!(send(Some("text/plain"), body.clone()).await, 415);
    assert_eq!(send(None, body.clone()).await, 415);
    assert_eq!(send(Some("application/json"), body + &" ".repeat(200)).await, 413);
    assert_eq!(send(Some("application/json"), "{".to_owned()).await, 400);
    assert_eq!(send(Some("application/json"), "[]".to_owned()).await, 400);
    assert_eq!(send(Some("application/json"), "[".repeat(200)).await, 400);
    assert_eq!(send(Some("application/json"), String::new()).await, 400);
}

#[tokio::test]
async fn what_is_not_there_is_404_or_405() {
    let running = start(Plan::says("x"));
    let (status, error) = running.refused(CHAT, &question(json!({"model": "other\u{1b}[2J"}))).await;
    assert_eq!((status, &error["code"], &error["param"]), (404, &json!("model_not_found"), &json!("model")));
    assert!(!error["message"].as_str().unwrap().contains('\u{1b}'));
    assert_eq!(running.refused("/v1/embeddings", &json!({})).await.0, 404);
    let mut request = get(CHAT);
    *request.method_mut() = Method::GET;
    assert_eq!(running.send(request).await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_named_so() {
    let running = start(Plan { context: 10, ..Plan::says("x") });
    let (status, error) = running.refused(CHAT, &question(json!({}))).await;
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")));
}

#[tokio::test]
async fn a_full_queue_asks_to_try_again() {
    let mut running = start(Plan { places: 1, max_queue: 2, ..Plan::says("x") });
    // Four choices at once: the first one runs, two wait, and the fourth finds no place.
    let response = running.send(post(CHAT, &question(json!({"n": 4})))).await;
    assert_eq!((response.0.as_u16(), &response.1[header::RETRY_AFTER]), (429, &header::HeaderValue::from_static("1")));
    assert!(response.2.contains("queue_full"));
    running.cancelled().await;
    running.chat(json!({"n": 3})).await;
}

#[tokio::test]
async fn a_request_that_fails_later_is_an_error_too() {
    let running = start(Plan::new(Output::Fails));
    let (status, error) = running.refused(CHAT, &question(json!({}))).await;
    assert_eq!((status, &error["type"]), (400, &json!("invalid_request_error")));
    let events = running.events(CHAT, question(json!({}))).await;
    assert!(events.last().unwrap()["error"]["message"].is_string(), "{events:?}");
}

#[tokio::test]
async fn too_many_prompts_are_refused() {
    let running = start(Plan::says("x"));
    let prompts: Vec<&str> = vec!["a"; 17];
    let body = json!({"model": "base", "prompt": prompts, "n": 16});
    let (status, error) = running.refused("/v1/completions", &body).await;
    assert_eq!((status, &error["param"]), (400, &json!("prompt")));
}
