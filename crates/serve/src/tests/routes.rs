//! Models, metrics, the page's information; and `openapi.json`, which has to describe every route.

use std::collections::BTreeSet;

use super::*;

async fn json_of(running: &Running, path: &str) -> Value {
    let (status, _, text) = running.send(get(path)).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn models_are_listed() {
    let running = start(Plan::says("x"));
    let base = json!({"id": "base", "object": "model", "created": 1_700_000_000, "owned_by": "foehn"});
    let list = json_of(&running, "/v1/models").await;
    assert_eq!((&list["object"], &list["data"][0], list["data"].as_array().unwrap().len()), (&json!("list"), &base, 2));
    assert_eq!(json_of(&running, "/v1/models/base").await, base);
    assert_eq!(running.send(get("/v1/models/none")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_learns_of_models_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("metrics.jsonl"), "{\"step\": 1, \"loss\": 2.5}\n").unwrap();
    std::fs::write(folder.path().join("report.html"), "<p>report").unwrap();
    let tokenizer = tokenizer();
    let tuned = ModelInfo { run_folder: Some(folder.path().to_owned()), ..model("tuned", &tokenizer) };
    let lexicon = vec![crate::Lexicon { name: "sounds".to_owned(), words: vec!["bell".to_owned()] }];
    let config = Config { lexicon, ..Config::default() };
    let running = start_models(Plan::says("x"), config, vec![model("base", &tokenizer), tuned], None);
    let info = json_of(&running, "/foehn/info").await;
    let defaults = json!({
        "temperature": 0.0, "top_p": null, "min_p": null, "top_k": null, "repetition_penalty": 1.0, "max_tokens": 256,
    });
    assert_eq!(info["models"][0], json!({"id": "base", "kind": "base", "defaults": defaults, "run": null}));
    assert_eq!(info["models"][1]["run"], json!({"metrics": [{"step": 1, "loss": 2.5}]}));
    assert_eq!((&info["lexicon"], &info["context"]), (&json!([{"name": "sounds", "words": ["bell"]}]), &json!(2048)));
    let (status, headers, text) = running.send(get("/foehn/runs/tuned/report.html")).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "<p>report"));
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("sandbox;"));
    for path in ["/foehn/runs/base/report.html", "/foehn/runs/none/report.html", "/foehn/runs/..%2F..%2Fx/report.html"]
    {
        assert_eq!(running.send(get(path)).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(json_of(&start(Plan::says("x")), "/foehn/info").await["lexicon"], Value::Null);
}

#[tokio::test]
async fn requests_and_tokens_are_counted() {
    let running = start(Plan::says("one two"));
    running.chat(json!({})).await;
    running.chat(json!({})).await;
    running.refused("/v1/chat/completions", &json!({})).await;
    let (_, headers, text) = running.send(get("/metrics")).await;
    assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "foehn_requests_total{endpoint=\"/v1/chat/completions\",status=\"200\"} 2",
        "foehn_requests_total{endpoint=\"/v1/chat/completions\",status=\"400\"} 1",
        "foehn_generated_tokens_total 6",
        "foehn_time_to_first_token_seconds_count 2",
        "foehn_time_per_token_seconds_count 4",
        "# TYPE foehn_running gauge",
        "# TYPE foehn_waiting gauge",
        "# TYPE foehn_cached_tokens gauge",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let count = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    assert_eq!(count("foehn_prompt_tokens_total"), 2 * (count("foehn_reused_tokens_total") + 1));
}

#[tokio::test]
async fn openapi_describes_every_route() {
    let running = start(Plan::says("x"));
    let document = json_of(&running, "/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            assert!(operation["summary"].is_string() && operation["responses"].is_object(), "{method} {path}");
            described.insert((method.clone(), path.clone()));
        }
    }
    let routes = crate::routes::routes().into_iter();
    let routes: BTreeSet<_> = routes.map(|(method, path, _)| (method.to_owned(), path.replace("{*", "{"))).collect();
    assert_eq!(described, routes);
    for name in references(&document) {
        assert!(document.pointer(name.strip_prefix('#').unwrap()).is_some(), "{name}");
    }
}

/// The fields of the described requests are those that are read.
#[tokio::test]
async fn described_fields_are_accepted() {
    let running = start(Plan::says("x"));
    let document = json_of(&running, "/openapi.json").await;
    for (schema, path, body) in [
        ("ChatRequest", "/v1/chat/completions", question(json!({}))),
        ("CompletionRequest", "/v1/completions", json!({"model": "base", "prompt": "x"})),
    ] {
        let fields =
            document.pointer(&format!("/components/schemas/{schema}/properties")).unwrap().as_object().unwrap();
        for name in fields.keys().filter(|name| body.get(name.as_str()).is_none()) {
            // A value of no field's type: an error about the type, or none, but not that there is no such field.
            let (_, _, text) = running.send(post(path, &with(body.clone(), json!({name.as_str(): {"odd": 1}})))).await;
            let is_unknown = text.contains("unsupported_parameter") && text.contains(&format!("`{name}`"));
            let only_neutral =
                ["frequency_penalty", "presence_penalty", "logit_bias", "suffix", "best_of"].contains(&name.as_str());
            assert!(!is_unknown || only_neutral, "{name}: {text}");
        }
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
