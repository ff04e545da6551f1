use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::Settings;
use crate::cache::hex;
use crate::download::Incoming;
use crate::huggingface::Remote;

type Files = BTreeMap<String, String>;
type Log = Arc<Mutex<Vec<String>>>;

/// A hub that serves these files, large ones with their checksums, and logs its requests.
struct Shelf(Files, Log);

impl Remote for Shelf {
    fn list(&self, _: &str, revision: &str) -> Result<Listing> {
        self.1.lock().unwrap().push(format!("list {revision}"));
        let describe = |(file, text): (&String, &String)| Wanted {
            file: file.clone(),
            size: Some(text.len() as u64),
            sha256: file.ends_with("safetensors").then(|| hex(&Sha256::digest(text))),
        };
        Ok(Listing { commit: "c0ffee".to_owned(), files: self.0.iter().map(describe).collect() })
    }

    fn open(&self, _: &str, commit: &str, file: &str, _: u64) -> Result<Incoming<'static>> {
        assert_eq!(commit, "c0ffee");
        self.1.lock().unwrap().push(file.to_owned());
        let text = self.0.get(file).ok_or(Error::NotFound { url: file.to_owned() })?;
        Ok(Incoming { from: 0, reader: Box::new(std::io::Cursor::new(text.clone())) })
    }
}

fn scene(files: &[(&str, &str)]) -> (Hub, Log, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let files = files.iter().map(|(file, text)| (file.to_string(), text.to_string())).collect();
    let log = Log::default();
    let settings = Settings {
        home: Some(home.path().join("foehn")),
        hf_cache: Some(home.path().join("hf")),
        ..Settings::default()
    };
    let hub = Hub { settings, remote: Box::new(Shelf(files, log.clone())), pip: Box::new(|_, _| Err(Error::NoPython)) };
    (hub, log, home)
}

fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

const SHARDED: [(&str, &str); 8] = [
    ("config.json", "{}"),
    ("consolidated.safetensors", "a second copy"),
    ("model-1.safetensors", "one"),
    ("model-2.safetensors", "two"),
    ("model.safetensors.index.json", r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#),
    ("tokenizer.json", "{}"),
    ("tokenizer.model", "another form"),
    ("tokenizer_config.json", "{}"),
];

#[test]
fn a_sharded_model_is_fetched_once_and_no_more_than_it_needs() {
    let (mut hub, log, home) = scene(&SHARDED);
    let files = hub.resolve("org/name", &mut |_| {}).unwrap();
    let fetched = [
        "list main",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors.index.json",
        "model-1.safetensors",
        "model-2.safetensors",
    ];
    assert_eq!(take(&log), fetched);
    let folder = home.path().join("foehn/hub/org--name/c0ffee");
    assert_eq!(files.weights, folder);
    assert_eq!(files.config.as_deref(), Some(&*folder.join("config.json")));
    assert_eq!(files.tokenizer.as_deref(), Some(&*folder.join("tokenizer.json")));

    hub.settings.offline = true;
    assert_eq!(hub.resolve("org/name", &mut |_| {}).unwrap(), files);
    assert!(matches!(hub.resolve("org/name@v2", &mut |_| {}), Err(Error::Unavailable { .. })));
    assert_eq!(take(&log), [""; 0]);
}

#[test]
fn a_damaged_model_is_mended_from_its_own_commit() {
    let (hub, log, home) = scene(&SHARDED);
    hub.resolve("org/name", &mut |_| {}).unwrap();
    take(&log);
    let shard = home.path().join("foehn/hub/org--name/c0ffee/model-2.safetensors");
    fs::write(&shard, "tw").unwrap();
    hub.resolve("org/name", &mut |_| {}).unwrap();
    assert_eq!(fs::read(&shard).unwrap(), b"two");
    let asked = take(&log);
    assert_eq!(asked[0], "list c0ffee");
    assert!(asked.contains(&"model-2.safetensors".to_owned()) && !asked.contains(&"model-1.safetensors".to_owned()));
}

#[test]
fn an_interrupted_fetch_is_no_model() {
    let mut files = SHARDED.to_vec();
    files.retain(|(file, _)| *file != "model-2.safetensors");
    let (hub, _, home) = scene(&files);
    let Err(Error::Unavailable { tried, .. }) = hub.resolve("org/name", &mut |_| {}) else { panic!() };
    assert!(matches!(&tried.last().unwrap().reason, Error::NotFound { url } if url.contains("model-2.safetensors")));
    // All shards except one are there; the folder must not be used as a model.
    assert!(home.path().join("foehn/hub/org--name/c0ffee/model-1.safetensors").exists());
    assert!(from_cache("n", REPO, &home.path().join("foehn/hub/org--name"), Some("c0ffee")).is_err());
}

const REPO: Repo<'static> = Repo { id: "org/name", file: None, revision: "main" };

#[test]
fn a_gguf_file_is_fetched_alone_and_suggested_where_there_is_nothing_else() {
    let (hub, log, home) = scene(&[("config.json", "{}"), ("m.Q4_K_M.gguf", "GGUF"), ("m.Q8_0.gguf", "GGUF")]);
    let files = hub.resolve("org/name/m.Q8_0.gguf", &mut |_| {}).unwrap();
    assert_eq!(files.weights, home.path().join("foehn/hub/org--name/c0ffee/m.Q8_0.gguf"));
    assert_eq!(take(&log), ["list main", "m.Q8_0.gguf"]);

    let text = hub.resolve("org/name", &mut |_| {}).unwrap_err().to_string();
    assert!(text.contains("m.Q4_K_M.gguf, m.Q8_0.gguf"), "{text}");
}

#[test]
fn an_index_cannot_reach_out_of_its_folder() {
    let index = r#"{"weight_map": {"a": "../evil.safetensors"}}"#;
    let (hub, log, _home) = scene(&[("model.safetensors.index.json", index), ("../evil.safetensors", "x")]);
    let Err(Error::Unavailable { tried, .. }) = hub.resolve("org/name", &mut |_| {}) else { panic!() };
    assert!(matches!(&tried.last().unwrap().reason, Error::NotFound { .. }));
    assert!(!take(&log).contains(&"../evil.safetensors".to_owned()));
}

#[test]
fn the_cache_of_hugging_face_is_read() {
    let (mut hub, _, home) = scene(&[]);
    hub.settings.offline = true;
    let root = home.path().join("hf/models--org--name");
    let snapshot = root.join("snapshots/abcdef");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::write(root.join("refs/main"), "abcdef").unwrap();
    fs::write(snapshot.join("config.json"), "{}").unwrap();
    // A snapshot with only the configuration is not a model.
    let Err(Error::Unavailable { tried, .. }) = hub.resolve("org/name", &mut |_| {}) else { panic!() };
    assert!(matches!(tried[1].reason, Error::NoModel { .. }));
    assert!(matches!(tried[2].reason, Error::Offline));

    fs::write(snapshot.join("model.safetensors"), "").unwrap();
    for name in ["org/name", "org/name@abcdef"] {
        assert_eq!(hub.resolve(name, &mut |_| {}).unwrap().weights, snapshot);
    }
}
