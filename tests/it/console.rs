//! The console: who gets the page at `/`, and the headers of its files. What the page does is tested in
//! `tests/browser/`.

use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, Method};

use crate::support::gateway::{Gateway, yaml};
use crate::support::process::{Process, program};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

const FILES: [(&str, &str); 4] = [
    ("/", "text/html; charset=utf-8"),
    ("/console.css", "text/css; charset=utf-8"),
    ("/console.js", "text/javascript; charset=utf-8"),
    ("/console-session.js", "text/javascript; charset=utf-8"),
];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn gateway(more: &str) -> Gateway {
    Gateway::new(&yaml("http://127.0.0.1:1", "http://127.0.0.1:1", more)).await
}

async fn send(
    gateway: &Gateway,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
) -> (u16, HeaderMap, String) {
    let mut request = gateway.client.request(method, format!("{}{path}", gateway.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.text().await.unwrap())
}

#[tokio::test]
async fn each_file_has_its_type_its_policy_and_a_validator() {
    let gateway = gateway("").await;
    for (path, media_type) in FILES {
        let browser = [(ACCEPT.as_str(), BROWSER)];
        let (status, headers, text) = send(&gateway, (Method::GET, path), &browser).await;
        assert_eq!(status, 200, "{path}");
        for (name, value) in [
            ("content-type", media_type),
            ("content-security-policy", POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(headers[name], value, "{path}: {name}");
        }
        assert_eq!(headers["content-length"], text.len().to_string(), "{path}");
        assert!(headers.contains_key("x-request-id"), "{path}");
        // Only the page shares its path with another answer.
        assert_eq!(headers.contains_key("vary"), path == "/", "{path}");

        let (status, head, body) = send(&gateway, (Method::HEAD, path), &browser).await;
        assert_eq!((status, body.as_str()), (200, ""), "{path}");
        assert_eq!(
            (&head[ETAG], &head["content-length"]),
            (&headers[ETAG], &headers["content-length"])
        );

        let known = [browser[0], (IF_NONE_MATCH.as_str(), headers[ETAG].to_str().unwrap())];
        let (status, cached, body) = send(&gateway, (Method::GET, path), &known).await;
        assert_eq!((status, body.as_str()), (304, ""), "{path}");
        assert_eq!(cached[ETAG], headers[ETAG], "{path}");
        assert_eq!(cached["cache-control"], "no-cache", "{path}");
        assert!(!cached.contains_key("content-type"), "{path}");
    }
}

#[tokio::test]
async fn clients_of_ollama_get_its_answer_as_before() {
    for gateway in [gateway("").await, gateway("server: { console: false }\n").await] {
        for headers in [
            &[][..],
            &[("accept", "*/*")],
            &[("accept", "application/json")],
            &[("accept", BROWSER), ("sec-fetch-mode", "cors")],
        ] {
            let (status, answer, text) = send(&gateway, (Method::GET, "/"), headers).await;
            assert_eq!((status, text.as_str()), (200, "Ollama is running"), "{headers:?}");
            assert_eq!(answer["content-type"], "text/plain; charset=utf-8", "{headers:?}");
            assert!(!answer.contains_key(ETAG), "{headers:?}");
            let (status, ..) = send(&gateway, (Method::HEAD, "/"), headers).await;
            assert_eq!(status, 200, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let gateway = gateway("server: { console: false }\n").await;
    let browser = [("accept", BROWSER)];
    let (status, headers, text) = send(&gateway, (Method::GET, "/"), &browser).await;
    assert_eq!((status, text.as_str()), (200, "Ollama is running"));
    assert!(!headers.contains_key("content-security-policy"));
    let (_, _, unknown) = send(&gateway, (Method::GET, "/nowhere.js"), &browser).await;
    for (path, _) in FILES.into_iter().skip(1) {
        for method in [Method::GET, Method::POST] {
            let (status, _, text) = send(&gateway, (method, path), &browser).await;
            assert_eq!((status, &text), (404, &unknown), "{path}");
        }
    }
}

#[tokio::test]
async fn its_files_are_read_only() {
    let gateway = gateway("").await;
    for (path, _) in FILES {
        let (status, headers, _) =
            send(&gateway, (Method::POST, path), &[("accept", BROWSER)]).await;
        assert_eq!((status, &headers["allow"]), (405, &"GET, HEAD".parse().unwrap()), "{path}");
    }
}

/// The key is in the fragment, which a browser sends to nobody, and may be of any characters.
#[tokio::test]
async fn a_first_run_prints_a_link_to_the_page() {
    let mut command = program(&["--listen", "127.0.0.1:0"]);
    command.env("STREAMGATE_KEY", "sg-mine&a=+#1");
    let mut process = Process::start(command);
    let url = process.url().await;
    let url = url.trim_end_matches(',');
    let out = process.out("curl").await;
    let link = format!("{url}/#key=sg%2Dmine%26a%3D%2B%231 ");
    assert!(out.contains(&link), "{link} is not in {out}");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client.get(url).header("accept", BROWSER).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("/console.js"));
}
