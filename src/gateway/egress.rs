//! Upstream HTTP clients and their connection pools: one for each egress (proxy, TLS), worker and period. It must never
//! decide where a request goes.

use std::cell::Cell;
use std::error::Error as _;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task_local;
use tokio::time::Instant;
use tower::util::MapRequestLayer;

use crate::config::{Egress, EgressProxy, Stream};
use crate::error::{Blame, Error};
use crate::wire::chat::{ApiError, Deadline, End, Kind};

/// Idle upstream connections are closed before the vendors' servers would (failure mode 46).
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that was unused for this long is dropped when another one is built.
const MAX_UNUSED: Duration = Duration::from_mins(10);

/// The reason why a client cannot be built.
pub type BuildError = Box<dyn std::error::Error + Send + Sync>;

/// The clients of one worker. A connection lives and dies with its client, and reqwest gives it no
/// age (reqwest#3033): so a client is replaced when its period is over, and its connections close
/// with the last requests on them.
#[derive(Default)]
pub struct Clients(Mutex<Vec<Slot>>);

struct Slot {
    egress: Egress,
    connect: Duration,
    client: reqwest::Client,
    built: Instant,
    used: Instant,
}

impl Clients {
    /// The client for an egress, on these terms. The lock is this worker's own.
    pub fn get(&self, egress: &Egress, terms: &Stream) -> Result<reqwest::Client, BuildError> {
        let now = Instant::now();
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter_mut().find(|slot| slot.egress == *egress);
        if let Some(slot) = known {
            let over = terms.connection_age.is_some_and(|age| now >= slot.built + age);
            if !over && slot.connect == terms.connect {
                slot.used = now;
                return Ok(slot.client.clone());
            }
        }
        let client = build(egress, terms.connect)?;
        slots.retain(|slot| slot.egress != *egress && now < slot.used + MAX_UNUSED);
        slots.push(Slot {
            egress: egress.clone(),
            connect: terms.connect,
            client: client.clone(),
            built: now,
            used: now,
        });
        Ok(client)
    }
}

/// HTTP/1.1, so that a slow reader blocks no other stream (failure mode 44); no redirects,
/// which would carry keys and prompts along (61); no total timeout (15). The environment's proxies
/// are the configuration's to read.
fn build(egress: &Egress, connect: Duration) -> Result<reqwest::Client, BuildError> {
    let builder = reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(connect)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(1024)
        .tcp_nodelay(true)
        .connector_layer(MapRequestLayer::new(note_connect))
        .tls_backend_preconfigured(egress.tls.config()?.clone());
    let builder = match &egress.proxy {
        Some(proxy) => builder.proxy(proxy_of(proxy)?),
        None => builder,
    };
    Ok(builder.build()?)
}

task_local! {
    /// Whether a request has begun to connect, because no pooled connection was there.
    static CONNECTED: Cell<bool>;
}

/// Notes a new connection. The client connects within the task of the request that needs it.
fn note_connect<D>(destination: D) -> D {
    let _nobodys = CONNECTED.try_with(|connected| connected.set(true));
    destination
}

/// Sends a request. Returns with the result whether its connection came from the pool, and so may have
/// been closed by the upstream just as it was used again.
pub async fn execute(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> (reqwest::Result<reqwest::Response>, bool) {
    let sending = async {
        let result = client.execute(request).await;
        (result, !CONNECTED.with(Cell::get))
    };
    CONNECTED.scope(Cell::new(false), sending).await
}

/// The client that exports traces. It blocks, so it may only be built, used and dropped on threads
/// without a runtime.
#[cfg(feature = "otlp")]
pub fn blocking(
    egress: &Egress,
    timeout: Duration,
) -> Result<reqwest::blocking::Client, BuildError> {
    let builder = reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .timeout(timeout)
        .tls_backend_preconfigured(egress.tls.config()?.clone());
    let builder = match &egress.proxy {
        Some(proxy) => builder.proxy(proxy_of(proxy)?),
        None => builder,
    };
    Ok(builder.build()?)
}

fn proxy_of(proxy: &EgressProxy) -> Result<reqwest::Proxy, reqwest::Error> {
    let to = reqwest::Proxy::all(proxy.address().as_str())?;
    Ok(match proxy.credentials() {
        Some((user, password)) => to.basic_auth(user, password),
        None => to,
    })
}

/// The message for a host without a connection. Its address is the operator's business alone.
const UNREACHABLE: &str =
    "the upstream could not be reached; the gateway's log has the reason for its operator";

/// The error of a request that got no response.
pub fn failure(error: reqwest::Error, egress: &Egress, to: &url::Url) -> Error {
    let error = error.without_url();
    if !error.is_connect() {
        let message = "the upstream closed the connection without an answer";
        return Error::upstream(ApiError::new(Kind::Upstream, message)).because(error);
    }
    let Some(proxy) = &egress.proxy else {
        return unreachable(error);
    };
    match ProxyFault::of(&error, proxy, to) {
        Some(fault) => fault.error(Some(error)),
        None => unreachable(error),
    }
}

fn unreachable(error: reqwest::Error) -> Error {
    let unreachable = if error.is_timeout() {
        Error::from_end(&End::TimedOut(Deadline::Connect))
    } else {
        Error::upstream(ApiError::new(Kind::Upstream, UNREACHABLE))
    };
    unreachable.blamed(Blame::Host).because(error)
}

/// A response, unless it is the proxy's own. Requests to `http://` upstreams pass through an HTTP proxy
/// without a tunnel; 407 is the one status that no upstream may use.
pub fn checked(response: reqwest::Response, egress: &Egress) -> Result<reqwest::Response, Error> {
    let own = response.status() == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    if own && egress.proxy.is_some() {
        return Err(ProxyFault::Credentials.error(None));
    }
    Ok(response)
}

/// The fault of an egress proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProxyFault {
    Unreachable,
    Credentials,
    Refused,
    Broken,
    Late,
}

impl ProxyFault {
    /// The fault that caused an error, if any did. The types behind these texts are not public; the tests of
    /// `tests/it/egress.rs` fail when the texts change.
    fn of(error: &reqwest::Error, proxy: &EgressProxy, to: &url::Url) -> Option<Self> {
        if error.is_timeout() {
            return Some(Self::Late);
        }
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if let Some(tunnel) = text.strip_prefix("tunnel error: ") {
                return Some(match tunnel {
                    "proxy authorization required" => Self::Credentials,
                    "failed to create underlying connection" => Self::Unreachable,
                    "unsuccessful" => Self::Refused,
                    _ => Self::Broken,
                });
            }
            if let Some(socks) = text.strip_prefix("SOCKS error: ") {
                return Some(match socks {
                    "failed to create underlying connection" => Self::Unreachable,
                    "server does not support user/pass authentication"
                    | "credentials not accepted" => Self::Credentials,
                    "io error during SOCKS handshake"
                    | "failed parsing server response"
                    | "server implements authentication incorrectly" => Self::Broken,
                    _ => Self::Refused,
                });
            }
            if text == "error resolving for socks proxy" {
                // The upstream's name, which is resolved on this side.
                return None;
            }
            cause = error.source();
        }
        // Without a tunnel, the only connection is the one to the proxy.
        let forwards = to.scheme() == "http" && proxy.scheme().starts_with("http");
        forwards.then_some(Self::Unreachable)
    }

    fn message(self) -> &'static str {
        match self {
            Self::Unreachable => "the egress proxy could not be reached",
            Self::Credentials => {
                "the egress proxy did not accept our credentials; correct those of its address"
            }
            Self::Refused => "the egress proxy refused to connect to the upstream",
            Self::Broken => "the egress proxy did not answer as one",
            Self::Late => "the egress proxy did not connect to the upstream in time",
        }
    }

    fn error(self, source: Option<reqwest::Error>) -> Error {
        let error = match self {
            Self::Late => Error::from_end(&End::TimedOut(Deadline::Proxy)),
            _ => Error::upstream(ApiError::new(Kind::Upstream, self.message())),
        };
        error.blamed(Blame::Host).because(ProxyError { fault: self, source })
    }
}

/// The cause in the log, where an upstream's own text is never shown.
#[derive(Debug)]
struct ProxyError {
    fault: ProxyFault,
    source: Option<reqwest::Error>,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault.message())
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
