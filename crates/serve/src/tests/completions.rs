//! Shapes of plain completions, and what lm-evaluation-harness reads of them.

use super::*;

const PATH: &str = "/v1/completions";

fn body(fields: Value) -> Value {
    with(json!({"model": "base", "prompt": "A bell rang"}), fields)
}

#[tokio::test]
async fn a_completion_has_openais_shape() {
    let mut running = start(Plan::says(" loudly."));
    let answer = running.ask(PATH, body(json!({}))).await;
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(answer["object"], json!("text_completion"));
    let choice = json!({"index": 0, "text": " loudly.", "logprobs": null, "finish_reason": "stop"});
    assert_eq!(answer["choices"], json!([choice]));
    let (prompt, config) = running.added().await;
    assert_eq!((prompt, config.max_new_tokens), (tokenizer().encode_text("A bell rang").unwrap(), 16));
}

#[tokio::test]
async fn prompts_come_in_four_forms() {
    let mut running = start(Plan::says("x"));
    let ids = |text: &str| tokenizer().encode_text(text).unwrap();
    for (prompt, expected) in [
        (json!("a b"), vec![ids("a b")]),
        (json!(["a", "b c"]), vec![ids("a"), ids("b c")]),
        (json!([5, 6]), vec![vec![5, 6]]),
        (json!([[5, 6], [7]]), vec![vec![5, 6], vec![7]]),
    ] {
        let answer = running.ask(PATH, body(json!({"prompt": prompt, "n": 2}))).await;
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 2 * expected.len());
        for (at, choice) in choices.iter().enumerate() {
            assert_eq!(choice["index"], json!(at));
            let (prompt, config) = running.added().await;
            assert_eq!((prompt, config.sampling.stream), (expected[at / 2].clone(), at as u64 % 2));
        }
        let tokens: usize = expected.iter().map(Vec::len).sum();
        assert_eq!(answer["usage"]["prompt_tokens"], json!(tokens));
    }
    for prompt in [json!([]), json!([1, "a"]), json!([-1]), json!([1.5]), json!({}), json!(3), json!([[]]), json!(null)]
    {
        let (status, error) = running.refused(PATH, &body(json!({"prompt": prompt}))).await;
        assert_eq!((status, &error["param"]), (400, &json!("prompt")), "{prompt}");
    }
    let (status, error) = running.refused(PATH, &body(json!({"prompt": [4_000_000]}))).await;
    assert_eq!((status, &error["param"]), (400, &json!("prompt")));
}

/// `LocalCompletionsAPI._create_payload` and `parse_logprobs` of lm-evaluation-harness.
#[tokio::test]
async fn the_harness_finds_the_log_probabilities_of_a_continuation() {
    let running = start(Plan::says(" x"));
    for (context, continuation) in [(vec![5_u32, 6, 7], vec![8_u32, 9]), (vec![5], vec![6, 7, 8, 9])] {
        let prompt = [context.clone(), continuation.clone()].concat();
        let payload = json!({
            "model": "base", "prompt": [prompt, prompt], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234,
            "echo": true,
        });
        let answer = running.ask(PATH, payload).await;
        for choice in answer["choices"].as_array().unwrap() {
            let list = |key: &str| choice["logprobs"][key].as_array().unwrap().clone();
            let (values, top) = (list("token_logprobs"), list("top_logprobs"));
            assert_eq!(
                (values.len(), top.len(), list("tokens").len()),
                (prompt.len() + 1, prompt.len() + 1, prompt.len() + 1)
            );
            assert_eq!((&values[0], &top[0]), (&Value::Null, &Value::Null));
            for at in context.len()..prompt.len() {
                let best =
                    top[at].as_object().unwrap().values().map(|value| value.as_f64().unwrap()).fold(f64::MIN, f64::max);
                assert_eq!(values[at].as_f64().unwrap(), best, "the harness compares for equality");
                assert_eq!(best, -0.125 - f64::from(prompt[at] % 8) / 64.0);
            }
        }
    }
}

/// An answer that ends at once still has an entry for its stop token.
#[tokio::test]
async fn a_stop_token_has_an_entry() {
    let running = start(Plan::says(""));
    let payload = json!({"prompt": [5, 6], "max_tokens": 1, "logprobs": 1, "echo": true});
    let answer = running.ask(PATH, body(payload)).await;
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["tokens"][2], json!("<|im_end|>"));
}

#[tokio::test]
async fn a_prompt_is_echoed_alone_or_with_its_continuation() {
    let running = start(Plan::says(" loudly"));
    let answer = running.ask(PATH, body(json!({"echo": true, "logprobs": 0}))).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], json!("A bell rang loudly"));
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["A", " bell", " rang", " loudly", "<|im_end|>"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 6, 11, 18]));
    let alone = running.ask(PATH, body(json!({"echo": true, "max_tokens": 0, "logprobs": 1}))).await;
    let choice = &alone["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("A bell rang"), &json!("length")));
    assert_eq!(choice["logprobs"]["token_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(alone["usage"]["completion_tokens"], json!(0));
    let (status, error) = running.refused(PATH, &body(json!({"max_tokens": 0}))).await;
    assert_eq!((status, &error["param"]), (400, &json!("max_tokens")));
}

#[tokio::test]
async fn parts_of_characters_have_names_of_their_own() {
    let running = start(Plan::says("\u{1F9FF}"));
    let answer = running.ask(PATH, body(json!({"logprobs": 1}))).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], json!("\u{1F9FF}"));
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
    assert!(tokens[0].as_str().unwrap().starts_with("bytes:\\xf0"), "{tokens:?}");
}

#[tokio::test]
async fn a_stream_joins_to_the_whole_completion() {
    let running = start(Plan::says(" and rang, naïve"));
    let fields =
        json!({"prompt": ["A bell", "B"], "echo": true, "logprobs": 2, "stream_options": {"include_usage": true}});
    let mut plain = body(fields);
    let mut events = running.events(PATH, plain.clone()).await;
    plain.as_object_mut().unwrap().remove("stream_options");
    let whole = running.ask(PATH, plain).await;
    let usage = events.pop().unwrap()["usage"].clone();
    assert_eq!(usage["total_tokens"], whole["usage"]["total_tokens"]);
    for index in 0..2 {
        let mut text = String::new();
        let (mut tokens, mut offsets) = (Vec::new(), Vec::new());
        for event in events.iter().filter(|event| event["choices"][0]["index"] == json!(index)) {
            let choice = &event["choices"][0];
            text += choice["text"].as_str().unwrap();
            tokens.extend(choice["logprobs"]["tokens"].as_array().unwrap().clone());
            offsets.extend(choice["logprobs"]["text_offset"].as_array().unwrap().clone());
        }
        let choice = &whole["choices"][index];
        assert_eq!(json!(text), choice["text"]);
        assert_eq!(json!(tokens), choice["logprobs"]["tokens"]);
        assert_eq!(json!(offsets), choice["logprobs"]["text_offset"]);
    }
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let running = start(Plan::says("x"));
    for (field, value) in [
        ("suffix", json!("end")),
        ("best_of", json!(3)),
        ("messages", json!([])),
        ("logprobs", json!(21)),
        ("echo", json!(1)),
    ] {
        let (status, error) = running.refused(PATH, &body(json!({field: value}))).await;
        assert_eq!((status, &error["param"]), (400, &json!(field)));
    }
    running.ask(PATH, body(json!({"suffix": null, "best_of": 1}))).await;
}
