//! `GET /foehn/info` and the report of a run: what the page shows.

use std::io::Read;
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, header};
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::{ModelInfo, sse};

/// The most that is read of a `metrics.jsonl`, the most of its points that are shown, and the largest report.
const MAX_METRICS: u64 = 4 << 20;
const MAX_POINTS: usize = 2000;
const MAX_REPORT: u64 = 64 << 20;

/// A report runs no script, loads nothing and has no origin.
const REPORT_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The models with their defaults and runs, and the lists of words.
pub(crate) async fn info(State(app): State<Arc<App>>) -> ApiResult<Response<Body>> {
    let info = app.compute(|app| {
        let models: Vec<Value> = app.models().iter().map(|model| shown(model)).collect();
        let lexicon = Some(&app.config.lexicon).filter(|lists| !lists.is_empty());
        Ok(json!({"models": models, "lexicon": lexicon, "context": app.context}))
    });
    Ok(sse::json(&info.await?))
}

fn shown(model: &ModelInfo) -> Value {
    let sampling = &model.defaults.sampling;
    json!({
        "id": model.name,
        "kind": if model.is_adapter { "adapter" } else { "base" },
        "defaults": {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "top_k": sampling.top_k,
            "repetition_penalty": sampling.repetition_penalty,
            "max_tokens": model.defaults.max_new_tokens,
        },
        "run": model.run_folder.as_deref().map(|folder| json!({"metrics": metrics(folder)})),
    })
}

/// The points of a run that may still be going on: lines that are no objects are left out.
fn metrics(folder: &FilePath) -> Vec<Value> {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(folder.join("metrics.jsonl")) {
        // What was read before an error is shown.
        let _ = file.take(MAX_METRICS).read_to_end(&mut bytes);
    }
    let lines = bytes.split(|byte| *byte == b'\n');
    let points: Vec<Value> =
        lines.filter_map(|line| serde_json::from_slice(line).ok()).filter(Value::is_object).collect();
    // Evenly spread, with the first and the last one.
    let last = points.len().saturating_sub(1);
    if points.len() <= MAX_POINTS {
        return points;
    }
    (0..MAX_POINTS).filter_map(|at| points.get(at * last / (MAX_POINTS - 1)).cloned()).collect()
}

/// The report that a run has written.
pub(crate) async fn report(State(app): State<Arc<App>>, Path(name): Path<String>) -> ApiResult<Response<Body>> {
    let model = app.model(&name)?;
    let bytes = app.compute(move |_| {
        let path = model.run_folder.as_deref().map(|folder| folder.join("report.html"));
        Ok(path.and_then(|path| foehn_files::read(path, MAX_REPORT).ok()))
    });
    let missing = || ApiError::refused(axum::http::StatusCode::NOT_FOUND, "not_found", "the model's run has no report");
    let bytes = bytes.await?.ok_or_else(missing)?;
    let mut response = sse::with_type("text/html; charset=utf-8", Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(REPORT_POLICY));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_as_far_as_they_go() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(metrics(folder.path()), Vec::<Value>::new());
        let file = folder.path().join("metrics.jsonl");
        std::fs::write(&file, "{\"step\":1}\n[]\n\nnot json\n{\"step\":2}\n{\"st").unwrap();
        assert_eq!(metrics(folder.path()), [json!({"step": 1}), json!({"step": 2})]);
        let many: String = (0..10_000).map(|step| format!("{{\"step\":{step}}}\n")).collect();
        std::fs::write(&file, many).unwrap();
        let points = metrics(folder.path());
        assert_eq!((points.len(), &points[0], &points[1999]), (2000, &json!({"step": 0}), &json!({"step": 9999})));
    }
}
