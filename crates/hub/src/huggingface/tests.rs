//! Tests against a local server that responds like the hub.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use super::*;

/// Answers requests one after another with `answer(head)`, and returns the server's address.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
            let head = lines.collect::<Vec<_>>().join("\n").to_lowercase();
            // The client may have closed the connection.
            let _ = stream.write_all(answer(&head).as_bytes());
        }
    });
    address
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn client(endpoint: String, token: Option<&str>) -> HuggingFace {
    HuggingFace { settings: Settings { endpoint, token: token.map(str::to_owned), ..Settings::default() } }
}

#[test]
fn a_listing_names_commit_sizes_and_checksums() {
    let endpoint = serve(|head| {
        assert!(head.starts_with("get /api/models/org/name/revision/refs%2fpr%2f1?blobs=true "), "{head}");
        assert!(head.contains("authorization: bearer hf_t"), "{head}");
        let body = r#"{"_id": "1", "sha": "c0ffee", "siblings": [
            {"rfilename": "config.json", "size": 2, "blobId": "b"},
            {"rfilename": "model.safetensors", "size": 9, "blobId": "c",
             "lfs": {"sha256": "5a", "size": 9, "pointerSize": 134}}]}"#;
        reply("200 OK", "", body)
    });
    let listing = client(endpoint, Some("hf_t")).list("org/name", "refs/pr/1").unwrap();
    let wanted = |file: &str, size, sha256: Option<&str>| Wanted {
        file: file.to_owned(),
        size: Some(size),
        sha256: sha256.map(str::to_owned),
    };
    assert_eq!(listing.commit, "c0ffee");
    assert_eq!(listing.files, [wanted("config.json", 2, None), wanted("model.safetensors", 9, Some("5a"))]);
}

#[test]
fn a_file_is_resumed_behind_a_redirect_that_never_sees_the_token() {
    let store = serve(|head| {
        assert!(head.starts_with("get /blob "), "{head}");
        assert!(!head.contains("authorization"), "{head}");
        match head.contains("range: bytes=4-") {
            true => reply("206 Partial Content", "Content-Range: bytes 4-8/9\r\n", "fghij"),
            false => reply("200 OK", "", "abcdefghij"),
        }
    });
    let endpoint = serve(move |head| {
        assert!(head.starts_with("get /org/name/resolve/c0ffee/f.gguf "), "{head}");
        assert!(head.contains("authorization: bearer hf_t"), "{head}");
        reply("302 Found", &format!("Location: {store}/blob\r\n"), "")
    });
    let client = client(endpoint, Some("hf_t"));
    let check = |from, expected_from, expected| {
        let mut incoming = client.open("org/name", "c0ffee", "f.gguf", from).unwrap();
        let mut text = String::new();
        incoming.reader.read_to_string(&mut text).unwrap();
        assert_eq!((incoming.from, &*text), (expected_from, expected));
    };
    check(0, 0, "abcdefghij");
    check(4, 4, "fghij");
    // A server without range requests sends the whole file.
    check(5, 0, "abcdefghij");
}

#[test]
fn refusals_say_what_to_do() {
    type Is = fn(&Error) -> bool;
    let cases: [(&'static str, Is); 5] = [
        ("401 Unauthorized", |error| matches!(error, Error::AccessDenied { status: 401, .. })),
        ("403 Forbidden", |error| error.to_string().contains("HF_TOKEN")),
        ("404 Not Found", |error| matches!(error, Error::NotFound { .. })),
        ("503 Service Unavailable", |error| error.to_string().contains("503")),
        ("200 OK", |error| matches!(error, Error::Json { .. })),
    ];
    for (status, is) in cases {
        let error = client(serve(move |_| reply(status, "", "no")), None).list("org/name", "main").unwrap_err();
        assert!(is(&error), "{error}");
        assert!(error.to_string().contains("/api/models/org/name/revision/main"), "{error}");
    }
}

#[test]
fn a_host_that_is_not_there_is_an_error() {
    // A port that was just free: no server listens on it.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client(format!("http://{address}"), None).list("org/name", "main").unwrap_err();
    assert!(matches!(error, Error::Http { .. }), "{error}");
}

#[test]
fn certificates_come_from_the_file_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    assert!(matches!(certificates(&path), Err(Error::Io { .. })));
    std::fs::write(&path, "no certificate").unwrap();
    assert!(matches!(certificates(&path), Err(Error::Certificates { .. })));
}
