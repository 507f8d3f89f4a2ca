//! Credentials of Mercure's clients: header, parameter and cookies, and the pages that may send a cookie.

use super::{PATH, READER, hub_with};

const PAGE: &str = "https://app.example.com";
const OTHER: &str = "https://evil.example.com";

fn hub() -> super::Hub {
    super::Hub::with(&super::yaml(&format!(
        "{}server: {{ cors: {{ origins: [\"{PAGE}\"] }} }}\n",
        super::ON
    )))
}

#[tokio::test]
async fn a_header_comes_before_the_parameter_and_that_before_a_cookie() {
    let hub = hub();
    let cookie = |name: &str, token: &str| format!("a=b; {name}={token}; c=d");
    let [reader, wrong] = [READER, "sg-wrong"];
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    for (query, headers, status) in [
        ("", vec![bearer(reader)], 200),
        ("&authorization=sg-reader", vec![], 200),
        ("&authorization=sg-wrong", vec![bearer(reader)], 200),
        ("&authorization=sg-reader", vec![bearer(wrong)], 401),
        ("&authorization=sg-wrong", vec![("x-api-key", reader.to_owned())], 200),
        ("&authorization=sg-reader", vec![("cookie", cookie("mercureAuthorization", wrong))], 200),
        ("&authorization=sg-wrong", vec![("cookie", cookie("mercureAuthorization", reader))], 401),
        ("&authorization=a%0Ab", vec![], 401),
        ("", vec![("cookie", cookie("mercureAuthorization", reader))], 200),
        ("", vec![("cookie", cookie("mercure_access_token", reader))], 200),
        ("", vec![("cookie", cookie("__Secure-mercure_access_token", reader))], 200),
        ("", vec![("cookie", cookie("__Secure-mercure_access_token", wrong))], 401),
        ("", vec![("cookie", cookie("other", reader))], 401),
        ("", vec![("cookie", cookie("mercureAuthorization", reader)), bearer(wrong)], 401),
        ("", vec![], 401),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("{PATH}?match=a{query}");
        let response = hub.send("GET", &path, &headers, "").await;
        assert_eq!(response.status().as_u16(), status, "{query} {headers:?}");
    }
}

/// A page of another site makes a browser send the cookie along, and a form without asking first.
#[tokio::test]
async fn a_cookie_publishes_from_pages_of_allowed_origins_only() {
    let hub = hub();
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let cookie = ("cookie", "mercureAuthorization=sg-backend");
    for (headers, status) in [
        (vec![kind, cookie], 403),
        (vec![kind, cookie, ("origin", OTHER)], 403),
        (vec![kind, cookie, ("origin", "null")], 403),
        (vec![kind, cookie, ("origin", PAGE)], 200),
        (vec![kind, cookie, ("authorization", "Bearer sg-backend")], 200),
        (vec![kind, cookie, ("authorization", "Bearer sg-backend"), ("origin", OTHER)], 200),
    ] {
        let response = hub.send("POST", PATH, &headers, "topic=a&data=x").await;
        assert_eq!(response.status().as_u16(), status, "{headers:?}");
    }
    let path = format!("{PATH}?authorization=sg-backend");
    assert_eq!(hub.send("POST", &path, &[kind], "topic=a").await.status().as_u16(), 200);
}

/// `EventSource` with `withCredentials`, of another origin.
#[tokio::test]
async fn pages_of_allowed_origins_may_send_credentials() {
    let hub = hub();
    let cookie = ("cookie", "mercureAuthorization=sg-reader");
    for (origin, allowed) in [(PAGE, Some("true")), (OTHER, None)] {
        let path = format!("{PATH}?match=a");
        let response = hub.send("GET", &path, &[("origin", origin), cookie], "").await;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("access-control-allow-credentials"), allowed, "{origin}");
        assert_eq!(header("access-control-allow-origin"), allowed.map(|_| PAGE), "{origin}");
        if allowed.is_some() {
            let exposed = header("access-control-expose-headers").unwrap();
            assert!(exposed.contains("mercure-last-event-id"), "{exposed}");
        }
    }
    let plain = hub_with(super::ON);
    let response = plain.send("GET", &format!("{PATH}?match=a"), &[("origin", PAGE)], "").await;
    assert!(!response.headers().contains_key("access-control-allow-credentials"));
}
