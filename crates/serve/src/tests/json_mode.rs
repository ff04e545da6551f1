//! Random logits under a grammar are JSON.

use super::*;
use crate::fake::Output;

fn schema(schema: &Value) -> Value {
    json!({"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}}})
}

async fn answers(running: &Running, fields: Value) -> Vec<Value> {
    let fields = with(json!({"n": 3, "seed": 3, "max_tokens": 1500}), fields);
    let answer = running.chat(fields).await;
    let choices = answer["choices"].as_array().unwrap().iter();
    let read = |choice: &Value| {
        let content = choice["message"]["content"].as_str().unwrap();
        assert_eq!(choice["finish_reason"], json!("stop"), "{content}");
        serde_json::from_str(content).unwrap_or_else(|error| panic!("{error}: {content}"))
    };
    choices.map(read).collect()
}

#[tokio::test]
async fn any_json_object_parses() {
    let running = start(Plan::new(Output::Random));
    for value in answers(&running, json!({"response_format": {"type": "json_object"}})).await {
        assert!(value.is_object(), "{value}");
    }
}

/// The schema that Pydantic makes of a class with a nested one.
#[tokio::test]
async fn json_follows_its_schema() {
    let running = start(Plan::new(Output::Random));
    let wanted = json!({
        "$defs": {"Sense": {"enum": ["Auditory", "Visual"], "type": "string"}},
        "type": "object",
        "properties": {
            "sense": {"$ref": "#/$defs/Sense"},
            "sure": {"type": "boolean"},
            "spans": {"type": "array", "maxItems": 3, "items": {"type": "integer", "minimum": 0, "maximum": 99}},
        },
        "required": ["sense", "sure", "spans"],
        "additionalProperties": false,
    });
    for value in answers(&running, schema(&wanted)).await {
        let object = value.as_object().unwrap();
        assert_eq!(object.len(), 3, "{value}");
        assert!(["Auditory", "Visual"].contains(&value["sense"].as_str().unwrap()));
        assert!(value["sure"].is_boolean());
        let spans = value["spans"].as_array().unwrap();
        assert!(spans.len() <= 3 && spans.iter().all(|span| span.as_u64().is_some_and(|span| span <= 99)), "{value}");
    }
}

#[tokio::test]
async fn a_stream_is_the_same_json() {
    let running = start(Plan::new(Output::Random));
    let fields = with(
        json!({"seed": 9}),
        schema(
            &json!({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"], "additionalProperties": false}),
        ),
    );
    let events = running.events("/v1/chat/completions", question(fields)).await;
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"a": null}));
}

#[tokio::test]
async fn a_schema_that_cannot_be_used_is_refused() {
    let running = start(Plan::new(Output::Random));
    let mut deep = json!({"type": "object"});
    for _ in 0..40 {
        deep = json!({"type": "object", "properties": {"a": deep}, "required": ["a"]});
    }
    running.ask("/tokenize", json!({"content": "still there"})).await;
    for wanted in [
        json!({"type": "thing"}),
        json!([]),
        json!(false),
        json!({"type": "string", "pattern": "("}),
        json!({"$ref": "https://example.org/schema.json"}),
        json!({"$ref": "#/$defs/none"}),
        json!({"type": "object", "x-guidance": {"whitespace_pattern": "x"}}),
        json!({"type": "integer", "minimum": 3, "maximum": 2}),
    ] {
        let (status, error) = running.refused("/v1/chat/completions", &question(schema(&wanted))).await;
        assert_eq!((status, &error["param"]), (400, &json!("response_format")), "{wanted} {error}");
    }
    running.chat(with(schema(&deep), json!({"max_tokens": 3}))).await;
}

#[tokio::test]
async fn a_form_and_tools_exclude_each_other() {
    let running = start(Plan::new(Output::Random));
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let fields = json!({"model": "tools", "tools": tools, "response_format": {"type": "json_object"}, "max_tokens": 4});
    let (status, error) = running.refused("/v1/chat/completions", &question(fields.clone())).await;
    assert_eq!((status, &error["param"]), (400, &json!("response_format")));
    running.chat(with(fields, json!({"tool_choice": "none"}))).await;
}
