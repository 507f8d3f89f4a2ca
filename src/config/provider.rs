//! Upstream accounts: the part of the configuration that holds credentials and talks of dialects.
//! No value of `api_key`, `base_url`, `headers` or `query` is ever shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use url::Url;

use super::egress::{self, General};
use super::raw::{Reader, Table, one_of, shown};
use super::secret::Secret;
use super::tree::{Node, Value};
use super::{CredentialSource, Provider, aws, preset, settings, units};
use crate::wire::adapt::settings::Settings;
use crate::wire::dialect::{self, DIALECTS, Dialect, Hosting, Quirks};

pub(super) const BASE_URL: &str =
    "an `http://` or `https://` address without user, query or fragment";
const HEADER_NAME: &str = "a header name such as `api-key`";

/// The field that limits output, and whether it is the older one.
const MAX_TOKENS_FIELDS: [(&str, bool); 2] =
    [("max_tokens", true), ("max_completion_tokens", false)];

/// Headers that frame a message: the connection decides them.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Providers by name. One that is wrong is there as `None`, so that who refers to it is not told
/// that it does not exist.
pub(super) type Providers<'n> = BTreeMap<&'n str, Option<Arc<Provider>>>;

/// Reads the providers.
pub(super) fn providers<'n>(
    reader: &mut Reader<'_>,
    root: &Table<'n>,
    general: &General,
) -> Providers<'n> {
    let mut providers = BTreeMap::new();
    for (name, node) in reader.entries(root, "providers") {
        if !is_name(&name.text) {
            let name_shown = shown(&name.text);
            reader.report(
                name.at,
                format!(
                    "{name_shown} cannot name a provider; expected letters, digits, `-`, `_`, `.`"
                ),
            );
        }
        let provider = provider(reader, &name.text, node, general);
        providers.insert(name.text.as_str(), provider.map(Arc::new));
    }
    providers
}

/// Names appear in `provider/model`, in metrics and in headers.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn provider(
    reader: &mut Reader<'_>,
    name: &str,
    node: &Node,
    general: &General,
) -> Option<Provider> {
    let fields = [
        "preset",
        "dialect",
        "base_url",
        "api_key",
        "aws",
        "auth_header",
        "headers",
        "query",
        "stream_options",
        "max_tokens_field",
        "tool_call_id_length",
        "reasoning_field",
        "hosting",
        "list_models",
        "proxy",
        "tls",
    ];
    let known = [&fields[..], &preset::PARAMETERS, &settings::OF_PROVIDER].concat();
    let stated = reader.table(name, node, &known)?;
    let preset = preset::fields(reader, &stated);
    let table = stated.with_defaults(&preset);
    let dialects = one_of(DIALECTS.iter().map(|dialect| dialect.name()));
    if stated.get("preset").is_none() {
        reader.require(&table, "dialect", "a `dialect` or a `preset`");
    }
    let dialect = reader.field(&table, "dialect", (dialects.as_str(), dialect::by_name));
    let given =
        table.get("base_url").map(|node| reader.hidden("base_url", node, (BASE_URL, base_url)));
    let api_key =
        table.get("api_key").and_then(|node| reader.hidden("api_key", node, (CREDENTIAL, secret)));
    let credential = CredentialSource::of(name, &stated);
    let auth_header = auth_header(reader, &table);
    let aws = aws::aws(reader, &table);
    let headers = headers(reader, &table);
    let query = query(reader, &table);
    let quirks = Stated::read(reader, &table);
    let egress = egress::Stated::read(reader, &table);
    let list_models = reader.field(&table, "list_models", ("`true` or `false`", units::boolean));
    // From here on nothing more can be wrong.
    let dialect = dialect?;
    let base_url = given.unwrap_or_else(|| base_url(dialect.default_base_url()))?;
    let quirks = Arc::new(quirks.quirks(dialect, &base_url));
    let egress = egress.or(general, &base_url);
    // The vendor's own header means nothing elsewhere.
    let bearer = quirks.hosting.map(|_| (AUTHORIZATION, "Bearer ".to_owned()));
    let auth_header = auth_header.or(bearer);
    let name = name.to_owned();
    Some(Provider {
        name,
        dialect,
        base_url,
        api_key,
        credential,
        auth_header,
        aws,
        headers,
        query,
        quirks,
        egress,
        list_models: list_models.unwrap_or(true),
    })
}

/// A provider of which no more is known than where it is.
pub(super) fn plain(
    name: &str,
    dialect: &'static dyn Dialect,
    address: &str,
    (api_key, general): (Option<Secret>, &General),
) -> Option<Provider> {
    let base_url = base_url(address)?;
    Some(Provider {
        name: name.to_owned(),
        dialect,
        quirks: Arc::new(Stated::default().quirks(dialect, &base_url)),
        egress: general.to(&base_url),
        base_url,
        api_key,
        credential: CredentialSource::unset(name),
        auth_header: None,
        aws: None,
        headers: Vec::new(),
        query: Vec::new(),
        list_models: true,
    })
}

/// An upstream's address, without a trailing slash (but a `Url` without a path has one anyway).
pub(super) fn base_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain.then_some(())?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

const CREDENTIAL: &str = "a credential on one line";

/// A credential travels in a header.
pub(super) fn secret(text: &str) -> Option<Secret> {
    HeaderValue::from_str(text).ok().map(|_| Secret::new(text))
}

pub(super) fn header_name(text: &str) -> Option<HeaderName> {
    text.parse().ok().filter(|name: &HeaderName| !FRAMING.contains(&name.as_str()))
}

fn auth_header(reader: &mut Reader<'_>, provider: &Table<'_>) -> Option<(HeaderName, String)> {
    let node = provider.get("auth_header")?;
    if matches!(node.value, Value::Text(_)) {
        let name = reader.hidden("auth_header", node, (HEADER_NAME, header_name))?;
        return Some((name, String::new()));
    }
    let table = reader.table("auth_header", node, &["name", "prefix"])?;
    reader.require(&table, "name", HEADER_NAME);
    let name = reader.field(&table, "name", (HEADER_NAME, header_name));
    let expected = "what precedes the credential, such as `Bearer`";
    let prefix = reader.field(&table, "prefix", (expected, prefix));
    Some((name?, prefix.unwrap_or_default()))
}

/// A word is set off by a space, which YAML drops when it is not quoted.
fn prefix(text: &str) -> Option<String> {
    HeaderValue::from_str(text).ok()?;
    let word = text.ends_with(|c: char| c.is_ascii_alphanumeric());
    Some(if word { format!("{text} ") } else { text.to_owned() })
}

/// The `headers` of a table, their values marked as sensitive.
pub(super) fn headers(
    reader: &mut Reader<'_>,
    provider: &Table<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (key, node) in reader.entries(provider, "headers") {
        let name = header_name(&key.text);
        if name.is_none() {
            let key_shown = shown(&key.text);
            reader.report(
                key.at,
                format!("{key_shown} cannot be set; expected a header name that does not frame the message"),
            );
        }
        let text = ("a header value on one line", |text: &str| HeaderValue::from_str(text).ok());
        let value = reader.hidden(&key.text, node, text);
        if let (Some(name), Some(mut value)) = (name, value) {
            value.set_sensitive(true);
            headers.push((name, value));
        }
    }
    headers
}

fn query(reader: &mut Reader<'_>, provider: &Table<'_>) -> Vec<(String, String)> {
    let entries = reader.entries(provider, "query");
    entries
        .into_iter()
        .filter_map(|(key, node)| Some((key.text.clone(), reader.text(&key.text, node)?)))
        .collect()
}

/// The quirks that the file states.
#[derive(Default)]
struct Stated {
    stream_options: Option<bool>,
    legacy_max_tokens: Option<bool>,
    call_id_length: Option<usize>,
    reasoning_field: Option<String>,
    hosting: Option<Hosting>,
    settings: Settings,
}

impl Stated {
    fn read(reader: &mut Reader<'_>, table: &Table<'_>) -> Self {
        let fields = one_of(MAX_TOKENS_FIELDS.iter().map(|(name, _)| *name));
        let legacy = |text: &str| {
            MAX_TOKENS_FIELDS.iter().find(|(name, _)| *name == text).map(|(_, legacy)| *legacy)
        };
        let hosts = one_of(Hosting::ALL.iter().map(|hosting| hosting.name()));
        let host = |text: &str| Hosting::ALL.into_iter().find(|hosting| hosting.name() == text);
        let boolean = ("`true` or `false`", units::boolean);
        let length = ("a number from 8 to 64", |text: &str| {
            text.parse().ok().filter(|length| (8..=64).contains(length))
        });
        Self {
            stream_options: reader.field(table, "stream_options", boolean),
            legacy_max_tokens: reader.field(table, "max_tokens_field", (fields.as_str(), legacy)),
            call_id_length: reader.field(table, "tool_call_id_length", length),
            reasoning_field: reader.text_of(table, "reasoning_field"),
            hosting: reader.field(table, "hosting", (hosts.as_str(), host)),
            settings: settings::of_provider(reader, table),
        }
    }

    /// With defaults: only the vendor itself and Azure are known to take the newer field.
    fn quirks(mut self, dialect: &dyn Dialect, url: &Url) -> Quirks {
        if self.settings.betas.is_none() {
            self.settings.betas = self.hosting.and_then(settings::betas);
        }
        let default = Quirks::default();
        let vendor = base_url(dialect.default_base_url()).as_ref() == Some(url);
        let host = url.host_str().unwrap_or_default();
        let azure = host.ends_with(".azure.com");
        Quirks {
            stream_options: self.stream_options.unwrap_or(default.stream_options),
            legacy_max_tokens: self.legacy_max_tokens.unwrap_or(!vendor && !azure),
            only_legacy_max_tokens: self.legacy_max_tokens == Some(true),
            call_id_length: self.call_id_length,
            reasoning_field: self.reasoning_field,
            vendor,
            vertex: host.ends_with("aiplatform.googleapis.com"),
            hosting: self.hosting,
            settings: self.settings,
        }
    }
}
