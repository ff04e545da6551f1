//! Adapters that come and go, and paths that lead out of their folder.

use super::*;

const PATH: &str = "/v1/adapters";

fn loader() -> crate::Loader<()> {
    Box::new(|name, path| match path.join("adapter.safetensors").exists() {
        true => Ok(((), ModelInfo { run_folder: Some(path.to_owned()), ..model(name, &tokenizer()) })),
        false => Err("it is no adapter".to_owned()),
    })
}

fn start_in(folder: &std::path::Path) -> Running {
    let config = Config { adapters_folder: Some(folder.to_owned()), ..Config::default() };
    start_models(Plan::says("x"), config, vec![model("base", &tokenizer())], Some(loader()))
}

fn make(folder: &std::path::Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("adapter.safetensors"), "").unwrap();
}

fn delete(name: &str) -> Request<Body> {
    Request::delete(format!("{PATH}/{name}")).header(header::HOST, "localhost").body(Body::empty()).unwrap()
}

#[tokio::test]
async fn an_adapter_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    make(&folder.path().join("runs/first"));
    let running = start_in(folder.path());
    let added = running.ask(PATH, json!({"name": "a/first", "path": "runs/first"})).await;
    assert_eq!((&added["id"], &added["object"]), (&json!("a/first"), &json!("model")));
    running.chat(json!({"model": "a/first"})).await;
    let (_, _, info) = running.send(get("/foehn/info")).await;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["models"][1]["kind"], &info["models"][1]["run"]), (&json!("adapter"), &json!({"metrics": []})));
    let (status, error) = running.refused(PATH, &json!({"name": "a/first", "path": "runs/first"})).await;
    assert_eq!((status, &error["code"]), (409, &json!("model_exists")));
    assert_eq!(running.send(delete("a/first")).await.0, StatusCode::OK);
    assert_eq!(running.refused("/v1/chat/completions", &question(json!({"model": "a/first"}))).await.0, 404);
    assert_eq!(running.send(delete("a%2Ffirst")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(running.send(delete("base")).await.0, StatusCode::BAD_REQUEST);
    running.chat(json!({})).await;
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    make(outside.path());
    let inside = outside.path().join("adapters");
    make(&inside.join("good"));
    make(&outside.path().join("adapters-too"));
    let running = start_in(&inside);
    let absolute = outside.path().to_str().unwrap();
    let mut paths = vec!["..", "../adapters-too", "good/../..", absolute, "/", "/etc/passwd", "none", "\u{0}", ""];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outside.path(), inside.join("link")).unwrap();
        std::os::unix::fs::symlink(inside.join("good"), inside.join("well")).unwrap();
        running.ask(PATH, json!({"name": "linked", "path": "well"})).await;
        paths.push("link");
        paths.push("link/adapters-too");
    }
    for path in paths {
        let (status, error) = running.refused(PATH, &json!({"name": "x", "path": path})).await;
        assert_eq!((status, &error["param"]), (400, &json!("path")), "{path}");
    }
    running.ask(PATH, json!({"name": "x", "path": "../adapters/good"})).await;
}

#[tokio::test]
async fn what_is_wrong_with_an_adapter_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let running = start_in(folder.path());
    let (_, error) = running.refused(PATH, &json!({"name": "x", "path": "empty"})).await;
    assert_eq!(error["message"], json!("it is no adapter"));
    for (body, param) in [
        (json!({"name": "", "path": "empty"}), "name"),
        (json!({"name": "a\nb", "path": "empty"}), "name"),
        (json!({"name": "x".repeat(129), "path": "empty"}), "name"),
        (json!({"name": "x"}), "path"),
        (json!({"name": "x", "path": "empty", "scale": 2}), "scale"),
    ] {
        let (status, error) = running.refused(PATH, &body).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)));
    }
}

#[tokio::test]
async fn without_a_folder_nothing_changes() {
    let running = start(Plan::says("x"));
    assert_eq!(running.refused(PATH, &json!({"name": "x", "path": "x"})).await.0, 403);
    assert_eq!(running.send(delete("base")).await.0, StatusCode::FORBIDDEN);
}
