//! Tools in a request, and calls in an answer.

use super::*;
use crate::fake::Output;

const CHAT: &str = "/v1/chat/completions";

fn asked() -> Value {
    let function =
        json!({"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}});
    question(json!({"model": "tools", "tools": [{"type": "function", "function": function}]}))
}

const ANSWER: &str = "I look.<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>";

#[tokio::test]
async fn a_call_in_the_answer_is_taken_out() {
    let mut running = start(Plan::says(ANSWER));
    let answer = running.ask(CHAT, asked()).await;
    let choice = &answer["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &json!("I look.")));
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["type"], json!("function"));
    assert_eq!(call["id"].as_str().unwrap().len(), 9);
    assert_eq!(call["function"], json!({"name": "weather", "arguments": "{\"city\":\"Bern\"}"}));
    let prompt = running.added().await.0;
    assert!(tokenizer().decode(&prompt, false).contains("weather"), "the template shows the tools");

    // The answer is sent back with the result.
    let mut messages = asked()["messages"].as_array().unwrap().clone();
    messages.push(choice["message"].clone());
    messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "sunny"}));
    running.ask(CHAT, with(asked(), json!({"messages": messages}))).await;
    assert!(tokenizer().decode(&running.added().await.0, false).contains("sunny"));
}

#[tokio::test]
async fn a_call_is_one_piece_of_a_stream() {
    let running = start(Plan::says(ANSWER));
    let events = running.events(CHAT, asked()).await;
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "I look.");
    let calls: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"])
        .filter(|calls| !calls.is_null())
        .collect();
    assert_eq!(calls.len(), 1);
    assert_eq!((&calls[0][0]["index"], &calls[0][0]["function"]["name"]), (&json!(0), &json!("weather")));
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], json!("tool_calls"));
}

#[tokio::test]
async fn without_tools_the_same_answer_is_text() {
    let mut running = start(Plan::says(ANSWER));
    let answer = running.ask(CHAT, with(asked(), json!({"tool_choice": "none"}))).await;
    let choice = &answer["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("stop"), &json!(ANSWER)));
    assert!(choice["message"].get("tool_calls").is_none());
    assert!(!tokenizer().decode(&running.added().await.0, false).contains("weather"));
}

#[tokio::test]
async fn a_template_without_tools_says_so() {
    let running = start(Plan::says("x"));
    let (status, error) = running.refused(CHAT, &with(asked(), json!({"model": "base"}))).await;
    assert_eq!(status, 400);
    assert!(error["message"].as_str().unwrap().contains("template"), "{error}");
}

/// Mistral's marker is a control token, for which an event has no text.
#[tokio::test]
async fn a_marker_that_is_a_control_token_is_seen() {
    let tokenizer = fixture("tokenizer.model.v3").unwrap();
    let marker = tokenizer.control("[TOOL_CALLS]").unwrap();
    let call =
        tokenizer.encode_text(r#"[{"name": "weather", "arguments": {"city": "Bern"}, "id": "abcdefghi"}]"#).unwrap();
    let template = Arc::new(ChatTemplate::mistral(foehn_tokens::MistralVersion::V3, &tokenizer).unwrap());
    let info = ModelInfo { template, ..model("tools", &super::tokenizer()) };
    let output = Output::Ids(std::iter::once(marker).chain(call).collect());
    let engine = Fake::new(Arc::clone(&tokenizer), &["tools"], Plan::new(output));
    let server = Server::new(engine, tokenizer, vec![info], None, Config::default()).unwrap();
    let running = Running { router: server.router(), server, seen: unbounded_channel().1 };
    let asked = with(asked(), json!({"logprobs": true}));
    let answer = running.ask(CHAT, asked).await;
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null),
        "{choice}"
    );
    assert_eq!(choice["message"]["tool_calls"][0]["id"], json!("abcdefghi"));
}
