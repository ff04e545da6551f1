//! Keys, hosts, and the headers that every answer has.

use super::*;

async fn status(running: &Running, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = get(path);
    request.headers_mut().remove(header::HOST);
    for (name, value) in headers {
        request.headers_mut().insert(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
    }
    running.send(request).await.0.as_u16()
}

#[tokio::test]
async fn without_a_key_only_own_names_are_served() {
    let running = start(Plan::says("x"));
    for host in
        ["localhost", "LOCALHOST:8000", "foehn.localhost", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7", "localhost."]
    {
        assert_eq!(status(&running, "/v1/models", &[("host", host)]).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        ":80",
        "[::1].x",
        "1",
    ] {
        assert_eq!(status(&running, "/v1/models", &[("host", host)]).await, 403, "{host}");
        assert_eq!(status(&running, "/", &[("host", host)]).await, 403, "{host}");
    }
    assert_eq!(status(&running, "/v1/models", &[]).await, 403);
}

#[tokio::test]
async fn with_a_key_it_is_needed() {
    let running = start_with(Plan::says("x"), Config { api_key: Some("secret".to_owned()), ..Config::default() });
    let host = ("host", "models.example");
    for given in ["", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secret2", "Bearer Secret", "Basic secret"]
    {
        for path in ["/v1/models", "/metrics", "/foehn/info", "/nothing"] {
            assert_eq!(status(&running, path, &[host, ("authorization", given)]).await, 401, "{given} {path}");
        }
    }
    assert_eq!(status(&running, "/v1/models", &[host]).await, 401);
    assert_eq!(status(&running, "/v1/models", &[host, ("authorization", "Bearer secret")]).await, 200);
    assert_eq!(status(&running, "/v1/models", &[host, ("authorization", "bearer secret")]).await, 200);
    for path in ["/", "/health", "/openapi.json"] {
        assert_eq!(status(&running, path, &[host]).await, 200, "{path}");
    }
    assert!(!format!("{:?}", running.server).contains("secret"));
}

#[tokio::test]
async fn every_answer_has_the_headers() {
    let running = start(Plan::says("x"));
    for path in ["/", "/health", "/v1/models", "/nothing"] {
        let (_, headers, _) = running.send(get(path)).await;
        assert_eq!(
            (&headers["x-content-type-options"], &headers["referrer-policy"]),
            (&"nosniff".parse().unwrap(), &"no-referrer".parse().unwrap())
        );
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path} {policy}");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn the_page_can_be_left_out() {
    let running = start_with(Plan::says("x"), Config { page: false, ..Config::default() });
    assert_eq!(status(&running, "/", &[("host", "localhost")]).await, 404);
}
