//! `streamgate doctor` with scripted providers: each finding has its remedy, and no finding shows a credential.

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::{Folder, alone, run};
use crate::support::answers::streamed;
use crate::support::egress::{Authority, Manner, Proxy};
use crate::support::gateway::yaml;
use crate::support::upstream::{Step, Upstream};

const LIST: &str = r#"{"data":[{"id":"big"},{"id":"small-20250101"}]}"#;
const JSON: &str = "content-type: application/json\r\n";

fn answer(status: u16, body: &str) -> Vec<Step> {
    vec![Step::Whole(status, JSON, body.as_bytes().to_vec())]
}

/// Runs it with a configuration of the upstreams `oai` and `ant`, and of more.
async fn doctor(
    oai: &str,
    ant: &str,
    more: &str,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let file = folder.write("config.yaml", &yaml(oai, ant, more));
    let result = run(alone(&[&["doctor", "--config", &file], arguments].concat(), &[])).await;
    assert!(!result.1.contains("canary") && !result.2.contains("canary"), "{result:?}");
    result
}

fn models(target: &str) -> String {
    format!("models: {{ fast: {{ targets: [{{ provider: oai, model: {target} }}] }} }}\n")
}

/// An address at which nothing listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Variables of other providers may be missing; those of the chosen ones may not.
#[tokio::test]
async fn a_chosen_provider_needs_only_its_own_variables() {
    let upstream = Upstream::new(answer(200, LIST)).await;
    let folder = Folder::new();
    let more = "  other: { preset: openai, api_key: \"${UNSET_OTHER_KEY}\" }\n";
    let text = yaml(&upstream.url, &upstream.url, "");
    let text = text.replacen("providers:\n", &format!("providers:\n{more}"), 1);
    let file = folder.write("config.yaml", &text);
    let of = |arguments: &[&str]| alone(&[&["doctor", &file], arguments].concat(), &[]);
    let (status, out, err) = run(of(&["--provider", "oai"])).await;
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    for arguments in [&["--provider", "oai,other"][..], &[]] {
        let (status, _, err) = run(of(arguments)).await;
        assert!(status == Some(2) && err.contains("`UNSET_OTHER_KEY`, which is not set"), "{err}");
    }
}

#[tokio::test]
async fn providers_that_work_are_ok() {
    let upstream = Upstream::new(answer(200, LIST)).await;
    for model in ["big", "small"] {
        let (status, out, err) = doctor(&upstream.url, &upstream.url, &models(model), &[]).await;
        assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
        assert!(
            out.contains("oai (openai-chat, 127.0.0.1)") && out.contains("ant (anthropic"),
            "{out}"
        );
        assert!(out.contains("accepted") && out.contains("the configured one exists"), "{out}");
        assert!(!out.contains("broken") && !out.contains("warning"), "{out}");
    }
    // `check --online` says the same, after its own line.
    let folder = Folder::new();
    let file = folder.write("config.yaml", &yaml(&upstream.url, &upstream.url, ""));
    let (status, out, err) = run(alone(&["check", "--online", "--config", &file], &[])).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("ok (2 providers") && out.contains("credential"), "{out}");
    assert!(upstream.requests().await.iter().all(|seen| seen.head.starts_with("GET ")));
}

#[tokio::test]
async fn what_is_broken_has_its_remedy() {
    for (reply, words) in [
        (
            answer(401, "{\"error\":{\"message\":\"no canary\"}}"),
            &["credential", "401", "providers.oai.api_key (line "][..],
        ),
        (answer(403, "{}"), &["credential", "403", "providers.oai.api_key"]),
        (answer(200, "<html>"), &["models", "providers.oai.base_url", "list_models"]),
        (
            vec![Step::Whole(302, "location: http://127.0.0.1:1/\r\n", Vec::new())],
            &["302", "providers.oai.base_url"],
        ),
        (answer(500, "{}"), &["status 500"]),
        (vec![Step::Close], &["closed the connection"]),
        (answer(200, LIST), &["models", "`bgi`", "models.fast", "did you mean `big`?"]),
    ] {
        let upstream = Upstream::new(reply).await;
        let (status, out, err) =
            doctor(&upstream.url, "http://127.0.0.1:1", &models("bgi"), &["--provider", "oai"])
                .await;
        assert_eq!(status, Some(1), "{out}");
        assert!(err.contains("1 finding"), "{err}");
        let line = out.lines().find(|line| line.contains("broken")).unwrap();
        for word in words {
            assert!(line.contains(word), "{word} is not in {line}");
        }
    }
}

/// A server that answers whatever comes as a web server does.
async fn speaks_no_tls() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    crate::support::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _closed = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    address
}

#[tokio::test]
async fn addresses_that_cannot_be_reached() {
    let plain = speaks_no_tls().await;
    let tls_on_plain = format!("https://{plain}");
    for (address, words) in [
        (nowhere().as_str(), &["connect ", "refused", "providers.oai.base_url"][..]),
        (
            "http://no-such-host.invalid",
            &["dns ", "no-such-host.invalid", "providers.oai.base_url"],
        ),
        (&tls_on_plain, &["tls ", "does not speak TLS", "http://"]),
    ] {
        let (status, out, _) = doctor(address, address, "", &["--provider", "oai"]).await;
        assert_eq!(status, Some(1), "{out}");
        let line = out.lines().find(|line| line.contains("broken")).unwrap();
        for word in words {
            assert!(line.contains(word), "{word} is not in {line}");
        }
    }
}

#[tokio::test]
async fn certificates_and_proxies() {
    let upstream = Upstream::new(answer(200, LIST)).await;
    let authority = Authority::new();
    let port = authority.front(&upstream.url, false).await;
    let folder = Folder::new();
    let digest = crate::support::gateway::hex(&streamgate::config::digest("sg-test"));
    let run_with = async |fields: &str| {
        let file = folder.write(
            "config.yaml",
            &format!(
                "auth: {{ keys: [{{ name: test, sha256: {digest} }}] }}\nproviders:\n  p: {{ dialect: openai-chat, {fields} }}\n"
            ),
        );
        run(alone(&["doctor", "--config", &file], &[])).await
    };
    let ca = format!("tls: {{ ca: {} }}", authority.file("ca.pem"));
    let (status, out, _) =
        run_with(&format!("base_url: \"https://127.0.0.1:{port}/v1\", {ca}")).await;
    assert_eq!(status, Some(0), "{out}");
    assert!(out.contains("TLSv1_3") && out.contains("none is needed"), "{out}");
    let (status, out, _) = run_with(&format!("base_url: \"https://127.0.0.1:{port}/v1\"")).await;
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains("authority") && out.contains("providers.p.tls.ca"), "{out}");

    let proxy = Proxy::new(Manner::Http).await;
    let plain = upstream.url.rsplit(':').next().unwrap();
    let through = format!(
        "base_url: \"http://upstream.test:{plain}/v1\", proxy: \"http://user:secret-canary@{}\"",
        proxy.address
    );
    let (status, out, _) = run_with(&through).await;
    assert_eq!(status, Some(0), "{out}");
    assert!(out.contains("the proxy http://") && !out.contains("canary"), "{out}");
    let refusing = Proxy::new(Manner::Refuses).await;
    let through =
        format!("base_url: \"https://upstream.test/v1\", proxy: \"http://{}\"", refusing.address);
    let (status, out, _) = run_with(&through).await;
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains("the egress proxy refused to connect"), "{out}");
}

#[tokio::test]
async fn a_wrong_clock_is_found() {
    let dated = "content-type: application/json\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let upstream = Upstream::new(vec![Step::Whole(200, dated, LIST.as_bytes().to_vec())]).await;
    let (status, out, _) = doctor(&upstream.url, &upstream.url, "", &["--provider", "oai"]).await;
    assert_eq!(status, Some(0), "a warning: {out}");
    let line = out.lines().find(|line| line.contains("clock")).unwrap();
    assert!(
        line.contains("warning") && line.contains("ahead of") && line.contains("NTP"),
        "{line}"
    );
}

/// AWS refuses signatures of a wrong clock, so that nothing would work; and it has no list of models.
#[tokio::test]
async fn a_wrong_clock_breaks_signatures() {
    let dated = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let upstream = Upstream::new(vec![Step::Whole(403, dated, b"{}".to_vec())]).await;
    let aws = format!(
        "providers:\n  bed: {{ dialect: bedrock, base_url: \"{}\", aws: {{ region: us-east-1, access_key_id: AKIACANARY, secret_access_key: secret-canary }} }}",
        upstream.url
    );
    let folder = Folder::new();
    let text = yaml(&upstream.url, &upstream.url, "").replace("providers:", &aws);
    let file = folder.write("config.yaml", &text);
    let all = ["doctor", "--config", &file, "--provider", "bed"];
    let (status, out, _) = run(alone(&all, &[])).await;
    assert_eq!(status, Some(1), "{out}");
    let line = out.lines().find(|line| line.contains("clock")).unwrap();
    assert!(line.contains("broken") && line.contains("refuses signatures"), "{line}");
    let line = out.lines().find(|line| line.contains("credential")).unwrap();
    assert!(line.contains("skipped") && line.contains("--complete"), "{line}");
    assert!(!out.to_lowercase().contains("canary"), "{out}");
}

/// Vendors refuse keys with statuses of their own; their dialects know them.
#[tokio::test]
async fn a_refused_key_is_known_by_the_dialect() {
    let refused = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
    let upstream = Upstream::new(answer(400, refused)).await;
    let gemini = format!(
        "providers:\n  gem: {{ dialect: gemini, base_url: \"{}\", api_key: key-canary }}",
        upstream.url
    );
    let folder = Folder::new();
    let text = yaml(&upstream.url, &upstream.url, "").replace("providers:", &gemini);
    let file = folder.write("config.yaml", &text);
    let all = ["doctor", "--config", &file, "--provider", "gem"];
    let (status, out, _) = run(alone(&all, &[])).await;
    assert_eq!(status, Some(1), "{out}");
    let line = out.lines().find(|line| line.contains("credential")).unwrap();
    assert!(line.contains("broken") && line.contains("providers.gem.api_key"), "{line}");
}

#[tokio::test]
async fn json_has_the_same_findings() {
    let upstream = Upstream::new(answer(401, "{}")).await;
    let (status, out, _) = doctor(&upstream.url, &upstream.url, "", &["--json"]).await;
    assert_eq!(status, Some(1));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["ok"], false);
    let names: Vec<&Value> =
        report["providers"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["ant", "oai"]);
    let findings = report["providers"][1]["findings"].as_array().unwrap();
    let last = findings.last().unwrap();
    assert_eq!((&last["check"], &last["state"]), (&"credential".into(), &"broken".into()));
}

/// A completion is asked for only if that is wanted; it is the better proof of a model than the list.
#[tokio::test]
async fn completions_are_asked_for_on_demand_only() {
    let scripts = vec![answer(200, "{\"data\":[]}"), streamed("openai-chat", "OK")];
    let upstream = Upstream::scripted(scripts).await;
    let arguments = ["--provider", "oai", "--complete"];
    let (status, out, _) =
        doctor(&upstream.url, &upstream.url, &models("hidden"), &arguments).await;
    assert_eq!(status, Some(0), "{out}");
    assert!(out.contains("warning") && out.contains("`hidden` began to answer after"), "{out}");
    let asked = &upstream.requests().await[1];
    assert!(
        asked.head.starts_with("POST /v1/chat/completions ")
            && asked.head.contains("authorization: Bearer up-canary-oai"),
        "{}",
        asked.head
    );

    let gone = "{\"error\":{\"message\":\"canary\",\"type\":\"invalid_request_error\",\"code\":\"model_not_found\"}}";
    let upstream = Upstream::scripted(vec![answer(200, LIST), answer(404, gone)]).await;
    let (status, out, _) = doctor(&upstream.url, &upstream.url, &models("big"), &arguments).await;
    assert_eq!(status, Some(1), "{out}");
    assert!(
        out.contains("`big` does not answer: status 404")
            && out.contains("correct the model's name"),
        "{out}"
    );
}

#[tokio::test]
async fn without_a_configuration_the_environment_is_examined() {
    let (status, _, err) = run(alone(&["doctor"], &[])).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("--config") && err.contains("streamgate init"), "{err}");
    // Every connection goes to a proxy that is not there.
    let proxy = nowhere();
    let variables = [("OPENAI_API_KEY", "sk-canary"), ("HTTPS_PROXY", proxy.as_str())];
    let (status, out, err) = run(alone(&["doctor"], &variables)).await;
    assert_eq!(status, Some(1), "{err}");
    assert!(out.starts_with("openai (openai-chat, api.openai.com)\n"), "{out}");
    assert!(out.contains("the proxy http://127.0.0.1") && out.contains("HTTPS_PROXY"), "{out}");
    assert!(!out.contains("sim") && !out.contains("canary"), "{out}");
    let (status, _, err) =
        doctor("http://127.0.0.1:1", "http://127.0.0.1:1", "", &["--provider", "x"]).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("ant, oai"), "{err}");
}
