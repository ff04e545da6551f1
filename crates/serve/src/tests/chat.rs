//! Shapes of chat completions, whole and streamed.

use super::*;
use crate::fake::Output;

const PATH: &str = "/v1/chat/completions";

#[tokio::test]
async fn an_answer_has_openais_shape() {
    let mut running = start(Plan::says("Auditory: you hear it."));
    let answer = running.chat(json!({})).await;
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("base")));
    let choice = &answer["choices"][0];
    let message = json!({"role": "assistant", "content": "Auditory: you hear it.", "refusal": null});
    assert_eq!(choice, &json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}));
    let (prompt, config) = running.added().await;
    let written = tokenizer().encode_text("Auditory: you hear it.").unwrap().len() + 1;
    let usage = json!({
        "prompt_tokens": prompt.len(), "completion_tokens": written, "total_tokens": prompt.len() + written,
        "prompt_tokens_details": {"cached_tokens": 0},
    });
    assert_eq!(answer["usage"], usage);
    assert_eq!(config.max_new_tokens, 2048 - prompt.len(), "what the context leaves");
    let again = running.chat(json!({})).await;
    assert_eq!(again["usage"]["prompt_tokens_details"]["cached_tokens"], json!(prompt.len() - 1));
}

#[tokio::test]
async fn settings_arrive_and_defaults_fill_the_gaps() {
    let tokenizer = tokenizer();
    let mut base = model("base", &tokenizer);
    base.defaults.sampling.temperature = 0.5;
    base.defaults.sampling.top_p = Some(0.9);
    base.defaults.exact = true;
    let mut running = start_models(Plan::says("x"), Config::default(), vec![base], None);
    running.chat(json!({"top_k": -1, "min_p": null})).await;
    let (_, config) = running.added().await;
    assert_eq!((config.sampling.temperature, config.sampling.top_p, config.exact), (0.5, Some(0.9), true));
    let unseeded = config.sampling.seed;
    running.chat(json!({})).await;
    assert_ne!(running.added().await.1.sampling.seed, unseeded, "without a seed, each request draws anew");
    let fields = json!({
        "temperature": 1.5, "top_p": 0.5, "min_p": 0.25, "top_k": 7, "repetition_penalty": 1.25, "seed": -1,
        "stop": "\n", "max_tokens": 9, "max_completion_tokens": 5, "user": "u", "store": false, "metadata": {"a": "b"},
        "frequency_penalty": 0, "logit_bias": {},
    });
    running.chat(fields).await;
    let (_, config) = running.added().await;
    let sampling = &config.sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.min_p, sampling.top_k),
        (1.5, Some(0.5), Some(0.25), Some(7))
    );
    assert_eq!((sampling.repetition_penalty, sampling.seed, sampling.stream), (1.25, u64::MAX, 0));
    assert_eq!((config.max_new_tokens, config.stop), (5, vec!["\n".to_owned()]));
}

#[tokio::test]
async fn the_end_has_a_reason() {
    let running = start(Plan::says("one two three four"));
    let end = async |fields| {
        let answer = running.chat(fields).await;
        let choice = answer["choices"][0].clone();
        (
            choice["message"]["content"].as_str().unwrap().to_owned(),
            choice["finish_reason"].as_str().unwrap().to_owned(),
        )
    };
    let pair = |text: &str, reason: &str| (text.to_owned(), reason.to_owned());
    assert_eq!(end(json!({"stop": ["four", " three"]})).await, pair("one two", "stop"));
    assert_eq!(end(json!({"max_tokens": 2})).await, pair("one two", "length"));
    assert_eq!(end(json!({"stop": []})).await, pair("one two three four", "stop"));
}

#[tokio::test]
async fn choices_draw_from_streams_of_their_own() {
    let mut running = start(Plan::new(Output::Random));
    let body = json!({"n": 3, "seed": 5, "temperature": 1, "max_tokens": 8});
    let answer = running.chat(body.clone()).await;
    let texts: Vec<&Value> = (0..3).map(|index| &answer["choices"][index]["message"]["content"]).collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    for stream in 0..3 {
        let config = running.added().await.1;
        assert_eq!((config.sampling.seed, config.sampling.stream), (5, stream));
    }
    let again = running.chat(body).await;
    assert_eq!(again["choices"], answer["choices"], "the same seed, the same texts");
    assert_eq!(answer["usage"]["completion_tokens"], json!(24));
}

#[tokio::test]
async fn a_stream_joins_to_the_whole_answer() {
    let running = start(Plan::says("naïve 日本語 \u{1F9FF} end"));
    let whole = running.chat(json!({"n": 2, "logprobs": true})).await;
    let body = question(json!({"n": 2, "logprobs": true, "stream_options": {"include_usage": true}}));
    let mut events = running.events(PATH, body).await;
    let last = events.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    let mut contents = [String::new(), String::new()];
    let mut logprobs = [Vec::new(), Vec::new()];
    let mut ends = Vec::new();
    for event in &events {
        assert_eq!((&event["object"], &event["usage"]), (&json!("chat.completion.chunk"), &Value::Null));
        let choice = &event["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        contents[index] += choice["delta"]["content"].as_str().unwrap_or_default();
        logprobs[index].extend(choice["logprobs"]["content"].as_array().cloned().unwrap_or_default());
        ends.extend(choice["finish_reason"].as_str());
    }
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(ends, ["stop", "stop"]);
    for index in 0..2 {
        let choice = &whole["choices"][index];
        assert_eq!(json!(contents[index]), choice["message"]["content"]);
        assert_eq!(json!(logprobs[index]), choice["logprobs"]["content"]);
    }
}

#[tokio::test]
async fn without_include_usage_no_event_has_one() {
    let running = start(Plan::says("x"));
    let events = running.events(PATH, question(json!({}))).await;
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}

#[tokio::test]
async fn log_probabilities_have_bytes() {
    let running = start(Plan::says("bell \u{1F9FF}"));
    let answer = running.chat(json!({"logprobs": true, "top_logprobs": 2})).await;
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["refusal"], Value::Null);
    let content = logprobs["content"].as_array().unwrap();
    let bytes: Vec<u8> = content
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), "bell \u{1F9FF}", "without the stop token");
    for token in content {
        assert!(token["logprob"].as_f64().unwrap() < 0.0);
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"]), (2, &token["token"]));
        assert!(top[1].get("bytes").is_some() && top[1].get("top_logprobs").is_none());
    }
    let none = running.chat(json!({"logprobs": false})).await;
    assert_eq!(none["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn parts_of_a_content_are_joined() {
    let mut running = start(Plan::says("x"));
    let parts = json!([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]);
    let messages = json!([
        {"role": "developer", "content": "Short."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "c", "refusal": null, "annotations": [], "tool_calls": null, "audio": null},
        {"role": "user", "content": "d"},
    ]);
    running.chat(json!({"messages": messages})).await;
    let expected = [
        foehn_record::Message::system("Short."),
        foehn_record::Message::user("a b"),
        foehn_record::Message::assistant("c"),
        foehn_record::Message::user("d"),
    ];
    let template = model("base", &tokenizer()).template;
    assert_eq!(running.added().await.0, template.prompt(&tokenizer(), &expected).unwrap());
}
