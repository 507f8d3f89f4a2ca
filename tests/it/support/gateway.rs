//! A gateway in this process, on port 0, and a caller of it.

use std::sync::{Arc, LazyLock, Mutex};

use streamgate::app::{self, App};
use streamgate::config;
use streamgate::server::{self, Shutdown};
use tokio::net::TcpListener;

use super::schema::{Validator, yaml_as_json};

/// The key of the caller `test` in every test's configuration.
pub(crate) const KEY: &str = "sg-test";

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) url: String,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) app: Arc<App>,
    pub(crate) shutdown: Shutdown,
    /// Resolves when it has drained.
    pub(crate) done: tokio::task::JoinHandle<()>,
    pub(crate) client: reqwest::Client,
}

/// A configuration with an OpenAI upstream `oai`, an Anthropic upstream `ant`, and more YAML.
pub(crate) fn yaml(oai: &str, ant: &str, more: &str) -> String {
    format!(
        "auth:\n  keys:\n    - {{ name: test, sha256: {digest} }}\n\
         providers:\n  oai: {{ dialect: openai-chat, base_url: \"{oai}/v1\", api_key: up-canary-oai }}\n  \
         ant: {{ dialect: anthropic, base_url: \"{ant}\", api_key: up-canary-ant }}\n{more}",
        digest = hex(&config::digest(KEY)),
    )
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// The schema of the configuration, compiled once.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| Validator::new(config::json_schema()));

/// Reads a configuration from YAML text, which its schema must find valid as well.
pub(crate) fn configuration(yaml: &str) -> config::Config {
    let file = std::env::temp_dir().join(format!("streamgate-{}.yaml", rand::random::<u64>()));
    std::fs::write(&file, yaml).unwrap();
    let config = config::load(&file, &|_| None);
    std::fs::remove_file(&file).unwrap();
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(SCHEMA.check(&yaml_as_json(yaml).unwrap()), Ok(()), "{yaml}");
    config
}

impl Gateway {
    pub(crate) async fn new(yaml: &str) -> Self {
        register_twice();
        let config = configuration(yaml);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let app = Arc::new(App::new(config, &shutdown).unwrap());
        let keeping = Arc::clone(&app);
        super::spawn(async move { keeping.keep_fresh().await });
        let (config, drain) = (Arc::clone(&app), Arc::clone(&app));
        let serving = server::serve(
            listener,
            app::router(Arc::clone(&app)),
            move || config.connection_config(),
            shutdown.clone(),
            move || drain.state().config.server.drain,
        );
        let done = super::spawn(async move {
            let _left = serving.await;
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url: format!("http://{address}"), address, app, shutdown, done, client }
    }

    /// Posts JSON with the test key.
    pub(crate) fn post(&self, path: &str, body: &str) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .body(body.to_owned())
    }

    /// A streaming chat in OpenAI's language.
    pub(crate) fn chat(&self, model: &str) -> reqwest::RequestBuilder {
        let body = format!(
            r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        self.post("/v1/chat/completions", &body)
    }

    /// A streaming chat in Anthropic's language.
    pub(crate) fn messages(&self, model: &str) -> reqwest::RequestBuilder {
        let body = format!(
            r#"{{"model":"{model}","stream":true,"max_tokens":100,"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        self.post("/v1/messages", &body)
    }

    /// The value of a metric line that starts with `prefix`, 0 if there is none.
    /// A counter, or the sum of several.
    pub(crate) fn count(&self, prefix: &str) -> u64 {
        let text = self.app.metrics.render();
        text.lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    pub(crate) fn metric(&self, prefix: &str) -> f64 {
        let text = self.app.metrics.render();
        text.lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// Makes sure that there are several subscribers. With a single one, `tracing` lets whatever thread
/// first meets a log line decide whether it is of interest to anybody, and captures miss lines.
fn register_twice() {
    static TWO: std::sync::OnceLock<[tracing::Dispatch; 2]> = std::sync::OnceLock::new();
    TWO.get_or_init(|| {
        [(), ()].map(|()| {
            let nowhere = tracing_subscriber::fmt().with_writer(std::io::sink);
            nowhere.with_max_level(tracing::Level::DEBUG).finish().into()
        })
    });
}

/// Everything that was logged while it lives, on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures this thread's log lines, as JSON at debug level, until the guard is dropped.
    pub(crate) fn capture(&self) -> tracing::subscriber::DefaultGuard {
        register_twice();
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The requests' records.
    pub(crate) fn records(&self) -> Vec<serde_json::Value> {
        self.text()
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|line| line["message"] == "request")
            .collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
