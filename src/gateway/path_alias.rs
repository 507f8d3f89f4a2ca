//! Path aliases: paths that clients build from base URLs and SDK presets, rewritten to the paths that are
//! served. Pure. Never leads to a path of the operator, so that what a proxy in front denies by path stays denied.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use http::uri::PathAndQuery;
use http::{Extensions, Request, Uri};
use percent_encoding::percent_decode_str;

use crate::wire::dialect::{self, CallerDialect};
use crate::wire::json::{Members, quoted};

/// The path as it was sent, on a request whose path was rewritten.
#[derive(Debug, Clone)]
pub struct SentPath(pub Box<str>);

/// The model that the path names, for requests whose body names none (Azure OpenAI deployments).
#[derive(Debug, Clone)]
pub struct Deployment(pub Box<str>);

/// A path prefix and what replaces it, where segments of the prefix are the client's: `{}` stands for any, `{model}` for
/// one that names the model. They apply before [`ALIASES`].
const TEMPLATES: [(&str, &str); 4] = [
    // Vertex AI: python-genai, `_api_client.py`.
    ("/v1beta1/projects/{}/locations/{}/publishers/google", "/v1beta"),
    ("/v1/projects/{}/locations/{}/publishers/google", "/v1beta"),
    // Azure OpenAI: openai-python, `lib/azure.py`.
    ("/openai/deployments/{model}", "/v1"),
    // Docker Model Runner.
    ("/engines/{}/v1", "/v1"),
];

/// A path prefix, up to the end of a segment, and what replaces it. The first row that matches counts; rows apply
/// again to what they give.
const ALIASES: &[(&str, &str)] = &[
    // A version that the base URL has and the SDK adds: anthropic-sdk adds `/v1`, google-genai `/v1beta`, cohere
    // `/v2`, ollama `/api`; the OpenAI SDKs expect `/v1` in the base URL, so that people write it everywhere.
    ("/v1/v1", "/v1"),
    ("/v1/v1beta", "/v1beta"),
    ("/v1/v2", "/v2"),
    ("/v1/api", "/api"),
    ("/v1beta/v1beta", "/v1beta"),
    ("/v1beta/v1", "/v1"),
    ("/v2/v2", "/v2"),
    ("/api/api", "/api"),
    // OpenAI compatibility of the Gemini API: ai.google.dev/gemini-api/docs/openai.
    ("/v1beta/openai", "/v1"),
    // Versions of google-genai's `http_options.api_version`: python-genai, `_api_client.py` (Vertex AI: `v1beta1`).
    ("/v1beta1/publishers/google", "/v1beta"),
    ("/v1beta1", "/v1beta"),
    ("/v1alpha", "/v1beta"),
    // Azure OpenAI's v1 API, whose prefix Groq's base URL has, too; and requests without a deployment.
    ("/openai/v1", "/v1"),
    ("/openai", "/v1"),
    // OpenRouter's base URL: openrouter.ai/docs/api-reference.
    ("/api/v1", "/v1"),
    // Open WebUI's own API: docs.openwebui.com/reference/api-endpoints.
    ("/api/chat/completions", "/v1/chat/completions"),
    ("/api/models", "/v1/models"),
    // Base URLs of presets: DeepSeek, Moonshot and Z.ai (`/anthropic`), and the pass-through routes of LiteLLM
    // (docs.litellm.ai/docs/pass_through); Z.ai has `/api` before it.
    ("/api/anthropic", ""),
    ("/anthropic", ""),
    ("/gemini", ""),
    ("/cohere", ""),
    ("/ollama", ""),
    // DeepInfra, Fireworks AI, Alibaba Cloud Model Studio, Docker Model Runner, Z.ai.
    ("/v1/openai", "/v1"),
    ("/inference/v1", "/v1"),
    ("/compatible-mode/v1", "/v1"),
    ("/engines/v1", "/v1"),
    ("/api/paas/v4", "/v1"),
    // A base URL without its version.
    ("/chat/completions", "/v1/chat/completions"),
    ("/completions", "/v1/completions"),
    ("/embeddings", "/v1/embeddings"),
    ("/responses", "/v1/responses"),
    ("/messages", "/v1/messages"),
    ("/models", "/v1/models"),
    // ollama-ai-provider: the base URL ends in `/api`.
    ("/chat", "/api/chat"),
    ("/generate", "/api/generate"),
    ("/embed", "/api/embed"),
    ("/tags", "/api/tags"),
    ("/show", "/api/show"),
];

/// The first segments of paths that an alias may lead to.
const ROOTS: [&str; 4] = ["/v1", "/v1beta", "/v2", "/api"];

/// The most aliases that apply to one path, each to the result of the one before.
const ROUNDS: usize = 4;

/// A path that is served, for one that was sent.
#[derive(Debug, PartialEq, Eq)]
struct Canonical {
    path: String,
    deployment: Option<String>,
}

/// Rewrites the path of a request, and leaves what was sent in its extensions.
pub fn rewrite<B>(request: &mut Request<B>) {
    let Some(Canonical { path, deployment }) = canonical(request.uri().path()) else { return };
    let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
    let Ok(target) = PathAndQuery::try_from(format!("{path}{query}")) else { return };
    let sent = SentPath(request.uri().path().into());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(target);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(sent);
    if let Some(name) = deployment {
        request.extensions_mut().insert(Deployment(name.into()));
    }
}

fn is_unset(json: &str) -> bool {
    matches!(json, "null" | "\"\"")
}

/// A body with the model that its path names, if the body names none. A body that is no JSON object stays as it is.
pub fn with_model(body: String, extensions: &Extensions) -> String {
    let Some(Deployment(model)) = extensions.get() else { return body };
    match Members::parse(&body) {
        Ok(members) if members.get("model").is_none_or(|model| is_unset(model.get())) => {
            members.edit(&body, &[("model", Some(quoted(model).as_str()))])
        }
        _ => body,
    }
}

/// The paths of endpoints that are served as they are, which is what most clients send.
static SERVED: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    dialect::caller_dialects()
        .flat_map(CallerDialect::endpoints)
        .map(|endpoint| endpoint.path)
        .collect()
});

/// The path that is served, if it is another than the one that was sent.
fn canonical(sent: &str) -> Option<Canonical> {
    if SERVED.contains(sent) {
        return None;
    }
    let mut path = slashes(sent);
    let mut deployment = None;
    if let Some(appended) = appended(&path) {
        path = Cow::Owned(appended.to_owned());
    }
    for _ in 0..ROUNDS {
        let template = TEMPLATES.iter().find_map(|row| fill(&path, *row));
        let replaced = template.or_else(|| ALIASES.iter().find_map(|row| replace(&path, *row)));
        let Some((replaced, model)) = replaced else { break };
        deployment = model.or(deployment);
        path = Cow::Owned(replaced);
    }
    let Cow::Owned(path) = path else { return None };
    let served = |root: &&str| path.strip_prefix(*root).is_some_and(starts_segment);
    (path == "/" || ROOTS.iter().any(served)).then_some(Canonical { path, deployment })
}

/// The list of models, which is no dialect's endpoint.
const MODEL_LIST: &str = "/v1/models";

/// The beginning of paths that name a model of the Gemini API.
const GEMINI: &str = "/v1beta/models/";

/// The path that a client has appended to a base URL which already ended in an endpoint.
fn appended(path: &str) -> Option<&str> {
    if path.starts_with(GEMINI) {
        let last = path.rfind(GEMINI).filter(|last| *last > 0)?;
        return path.get(last..);
    }
    let is_served = |rest: &&str| {
        let mut unversioned = ALIASES.iter().filter(|(from, _)| from == rest);
        SERVED.contains(*rest)
            || unversioned.any(|(_, to)| SERVED.contains(to) || *to == MODEL_LIST)
    };
    SERVED.iter().find_map(|endpoint| {
        path.strip_prefix(endpoint).filter(|rest| rest.starts_with('/')).filter(is_served)
    })
}

/// A path with single slashes between its segments and none at its end.
fn slashes(sent: &str) -> Cow<'_, str> {
    if sent == "/" || !(sent.contains("//") || sent.ends_with('/')) {
        return Cow::Borrowed(sent);
    }
    let segments = sent.split('/').filter(|segment| !segment.is_empty());
    let path: String = segments.flat_map(|segment| ["/", segment]).collect();
    Cow::Owned(if path.is_empty() { "/".to_owned() } else { path })
}

/// The path with a row's prefix replaced.
fn replace(path: &str, (from, to): (&str, &str)) -> Option<(String, Option<String>)> {
    let rest = path.strip_prefix(from).filter(|rest| starts_segment(rest))?;
    Some((format!("{to}{rest}"), None))
}

/// The path with a template's prefix replaced, and the model that the prefix names.
fn fill(path: &str, (from, to): (&str, &str)) -> Option<(String, Option<String>)> {
    let mut rest = path;
    let mut model = None;
    for expected in from.split('/').skip(1) {
        let tail = rest.strip_prefix('/')?;
        let end = tail.find('/').unwrap_or(tail.len());
        let (segment, after) = tail.split_at(end);
        match expected {
            "{}" => {}
            "{model}" => model = Some(percent_decode_str(segment).decode_utf8().ok()?.into_owned()),
            _ if segment == expected => {}
            _ => return None,
        }
        rest = after;
    }
    Some((format!("{to}{rest}"), model))
}

fn starts_segment(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(sent: &str) -> Option<String> {
        canonical(sent).map(|canonical| canonical.path)
    }

    #[test]
    fn paths_that_clients_build_lead_to_those_that_are_served() {
        for (sent, served) in [
            ("//v1/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completions/", "/v1/chat/completions"),
            ("/v1//chat///completions//", "/v1/chat/completions"),
            ("//", "/"),
            ("/v1/v1/messages", "/v1/messages"),
            ("/v1/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
            ("/v1/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"),
            ("/v1/api/chat", "/api/chat"),
            ("/api/api/tags", "/api/tags"),
            ("/v1/v2/chat", "/v2/chat"),
            ("/chat/completions", "/v1/chat/completions"),
            ("/responses/input_tokens", "/v1/responses/input_tokens"),
            ("/messages", "/v1/messages"),
            ("/models", "/v1/models"),
            ("/models/a/b:generateContent", "/v1/models/a/b:generateContent"),
            ("/chat", "/api/chat"),
            ("/v1alpha/models/m:streamGenerateContent", "/v1beta/models/m:streamGenerateContent"),
            ("/v1beta1/models/m", "/v1beta/models/m"),
            (
                "/v1beta1/projects/p/locations/l/publishers/google/models/m:generateContent",
                "/v1beta/models/m:generateContent",
            ),
            (
                "/v1beta1/publishers/google/models/m:generateContent",
                "/v1beta/models/m:generateContent",
            ),
            ("/v1beta/openai/chat/completions", "/v1/chat/completions"),
            ("/api/v1/chat/completions", "/v1/chat/completions"),
            ("/api/v1/models/openai/gpt", "/v1/models/openai/gpt"),
            ("/openai/v1/responses", "/v1/responses"),
            ("/openai/responses", "/v1/responses"),
            ("/openai/v1/v1/models", "/v1/models"),
            ("/anthropic/v1/messages", "/v1/messages"),
            ("/anthropic//messages/", "/v1/messages"),
            ("/api/anthropic/v1/messages", "/v1/messages"),
        ] {
            assert_eq!(path(sent).as_deref(), Some(served), "{sent}");
        }
    }

    /// A base URL that ends in the endpoint, to which the client adds it again.
    #[test]
    fn an_endpoint_behind_an_endpoint_is_the_last_one() {
        for (sent, served) in [
            ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completions/v1/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completions/models", "/v1/models"),
            ("/v1/messages/v1/messages", "/v1/messages"),
            ("/v1/messages/messages", "/v1/messages"),
            ("/v1/messages/v1/messages/count_tokens", "/v1/messages/count_tokens"),
            ("/v1/responses/responses", "/v1/responses"),
            ("/v1/responses/responses/", "/v1/responses"),
            ("/v1/embeddings/embeddings", "/v1/embeddings"),
            ("/api/chat/api/chat", "/api/chat"),
            ("/v2/chat/v2/chat", "/v2/chat"),
            (
                "/v1beta/models/m:generateContent/v1beta/models/m:generateContent",
                "/v1beta/models/m:generateContent",
            ),
            ("/v1beta/models/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"),
        ] {
            assert_eq!(path(sent).as_deref(), Some(served), "{sent}");
        }
        for stored in [
            "/v1/chat/completions/chatcmpl-1/messages",
            "/v1/responses/resp_1/input_items",
            "/v1/messages/batches",
            "/v1beta/models/m:generateContent",
        ] {
            assert_eq!(path(stored), None, "{stored}");
        }
    }

    #[test]
    fn paths_that_are_served_stay() {
        for sent in [
            "/",
            "/v1/chat/completions",
            "/v1/models",
            "/v1/models/openai/gpt-4o",
            "/v1beta/models/m:generateContent",
            "/api/chat",
            "/v2/chat",
            "/healthz",
            "/v1beta",
        ] {
            assert_eq!(path(sent), None, "{sent}");
        }
    }

    /// Proxies in front deny these by path.
    #[test]
    fn no_alias_leads_to_an_operators_path() {
        for sent in
            ["//metrics", "/metrics/", "/anthropic/metrics", "/ollama/healthz", "/gemini/readyz/"]
        {
            assert_eq!(path(sent), None, "{sent}");
        }
    }

    #[test]
    fn a_deployment_names_the_model() {
        for (sent, served, model) in [
            ("/openai/deployments/gpt-4o/chat/completions", "/v1/chat/completions", "gpt-4o"),
            ("/openai/deployments/a%2Fb/embeddings/", "/v1/embeddings", "a/b"),
        ] {
            let expected = Canonical { path: served.into(), deployment: Some(model.into()) };
            assert_eq!(canonical(sent), Some(expected), "{sent}");
        }
        assert_eq!(canonical("/openai/deployments/%ff/chat/completions").unwrap().deployment, None);
    }

    #[test]
    fn the_query_stays() {
        let mut request =
            Request::get("/openai/deployments/m/chat/completions?api-version=1").body(()).unwrap();
        rewrite(&mut request);
        assert_eq!(request.uri(), "/v1/chat/completions?api-version=1");
        let SentPath(sent) = request.extensions().get().unwrap();
        assert_eq!(&**sent, "/openai/deployments/m/chat/completions");
        let mut request = Request::get("http://host:1/v1//models/?a=b").body(()).unwrap();
        rewrite(&mut request);
        assert_eq!(request.uri(), "http://host:1/v1/models?a=b");
    }

    #[test]
    fn a_deployment_names_the_model_of_a_body_that_names_none() {
        let mut extensions = Extensions::new();
        extensions.insert(Deployment("fast".into()));
        let with = |body: &str| {
            let body = with_model(body.to_owned(), &extensions);
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            value["model"].as_str().unwrap().to_owned()
        };
        for body in ["{}", r#"{"model":null}"#, r#"{"model":""}"#] {
            assert_eq!(with(body), "fast", "{body}");
        }
        assert_eq!(with(r#"{"model":"own"}"#), "own");
    }
}
