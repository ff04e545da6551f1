//! Clients that hang up or do not read, servers that stop, and an engine that breaks.

use std::future::pending;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::fake::Output;
use crate::generation::BUFFER;

const CHAT: &str = "/v1/chat/completions";

/// A plan whose steps need permits, and the permits.
fn gated(plan: Plan) -> (std::sync::mpsc::Sender<()>, Plan) {
    let (permits, gate) = std::sync::mpsc::channel();
    (permits, Plan { permits: Some(gate), ..plan })
}

/// A token that comes for ever.
fn endless() -> Plan {
    Plan { context: usize::MAX, ..Plan::new(Output::Endless) }
}

/// Answers on a socket until told to stop.
async fn listen(running: &Running) -> (std::net::SocketAddr, oneshot::Sender<()>, JoinHandle<crate::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = running.server.clone();
    let shutdown = async {
        let _ = stopped.await;
    };
    (address, stop, tokio::spawn(async move { server.serve(listener, shutdown).await }))
}

async fn write(address: std::net::SocketAddr, body: &Value) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    socket
}

/// Reads until the text holds the needle.
async fn read_until(socket: &mut TcpStream, needle: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(needle) {
        let count = socket.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "{text}");
        text += &String::from_utf8_lossy(&buffer[..count]);
    }
    text
}

/// As long as the gate is shut, the engine's thread is within a step, and hears of the client's end after it.
#[tokio::test]
async fn a_client_that_hangs_up_frees_its_requests() {
    for stream in [true, false] {
        let (permits, plan) = gated(endless());
        let mut running = start(plan);
        let (address, _stop, _server) = listen(&running).await;
        let mut socket = write(address, &question(json!({"stream": stream, "n": 2}))).await;
        running.added().await;
        if stream {
            read_until(&mut socket, "assistant").await;
            permits.send(()).unwrap();
            read_until(&mut socket, "content\":\"").await;
        }
        drop(socket);
        // With the gate open, both would write for ever.
        let opener = tokio::spawn(async move {
            while permits.send(()).is_ok() {
                tokio::task::yield_now().await;
            }
        });
        running.cancelled().await;
        running.cancelled().await;
        opener.abort();
    }
}

#[tokio::test]
async fn a_handler_that_is_dropped_frees_its_requests() {
    let (permits, plan) = gated(endless());
    let mut running = start(plan);
    let router = running.router.clone();
    let waiting = tokio::spawn(router.oneshot(post(CHAT, &question(json!({})))));
    running.added().await;
    waiting.abort();
    assert!(waiting.await.is_err());
    drop(permits);
    running.cancelled().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let mut running = start(endless());
    let body = post(CHAT, &question(json!({"stream": true})));
    let response = running.router.clone().oneshot(body).await.unwrap();
    running.cancelled().await;
    // The next client is served as ever.
    running.chat(json!({"max_tokens": 3})).await;
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let events = events(&text);
    assert!(events.len() <= BUFFER + 2);
    assert!(events.last().unwrap()["error"]["message"].as_str().unwrap().contains("did not read"));
}

#[tokio::test]
async fn a_server_that_stops_lets_running_requests_end() {
    let (permits, plan) = gated(Plan::says("one two"));
    let mut running = start(plan);
    let (address, stop, server) = listen(&running).await;
    let mut socket = write(address, &question(json!({}))).await;
    running.added().await;
    stop.send(()).unwrap();
    // Draining begins when the task of the server runs next.
    while !running.server.app_is_draining() {
        tokio::task::yield_now().await;
    }
    let (status, _, text) = running.send(get("/health")).await;
    assert_eq!((status.as_u16(), text.contains("draining")), (503, true));
    let (status, error) = running.refused(CHAT, &question(json!({}))).await;
    assert_eq!((status, &error["code"]), (503, &json!("shutting_down")));
    assert_eq!(running.send(get("/metrics")).await.0, StatusCode::OK);
    drop(permits);
    let answer = read_until(&mut socket, "finish_reason").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("one two"), "{answer}");
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn after_the_time_of_grace_requests_are_cut_off() {
    let (permits, plan) = gated(endless());
    let mut running = start_with(plan, Config { grace: Duration::ZERO, ..Config::default() });
    let (address, stop, server) = listen(&running).await;
    let mut socket = write(address, &question(json!({"stream": true}))).await;
    running.added().await;
    stop.send(()).unwrap();
    while !running.server.app_is_draining() {
        tokio::task::yield_now().await;
    }
    drop(permits);
    running.cancelled().await;
    read_until(&mut socket, "cut off").await;
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let running = start(Plan::says("x"));
    let (address, stop, server) = listen(&running).await;
    let _idle = TcpStream::connect(address).await.unwrap();
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_of_the_engine_is_an_error_for_all() {
    let running = start(Plan::new(Output::Panics));
    assert_eq!(running.send(get("/health")).await.0, StatusCode::OK);
    for _ in 0..2 {
        let (status, error) = running.refused(CHAT, &question(json!({}))).await;
        assert_eq!((status, &error["code"]), (500, &json!("engine_failed")));
    }
    let (status, _, text) = running.send(get("/health")).await;
    assert_eq!((status.as_u16(), text.contains("engine_failed")), (503, true));
}

/// Time stands still but where everything waits.
#[tokio::test(start_paused = true)]
async fn a_request_has_a_limit_of_time() {
    let (permits, plan) = gated(endless());
    let config = Config { request_timeout: Some(Duration::from_secs(60)), ..Config::default() };
    let mut running = start_with(plan, config);
    let router = running.router.clone();
    let asked = tokio::spawn(router.oneshot(post(CHAT, &question(json!({})))));
    running.added().await;
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(asked.await.unwrap().unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    drop(permits);
    running.cancelled().await;
    // A body that never ends.
    let body = Body::from_stream(futures_util::stream::once(pending::<Result<axum::body::Bytes, std::io::Error>>()));
    let request =
        Request::post(CHAT).header(header::HOST, "localhost").header(header::CONTENT_TYPE, "application/json");
    let asked = tokio::spawn(running.router.clone().oneshot(request.body(body).unwrap()));
    assert_eq!(asked.await.unwrap().unwrap().status(), StatusCode::REQUEST_TIMEOUT);
}
