//! Providers: the `providers` section, which holds credentials and names dialects. No message, log line or `Debug`
//! may show a value of `api_key`, `base_url`, `headers` or `query`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use url::Url;

use super::check::{CHECK, check};
use super::egress::{self, General};
use super::field::{Field, Format, Notation, Section};
use super::health::{self, HEALTH, Health};
use super::price::PRICE_CATALOG;
use super::provider_key::{self, KEYS, MAX_STREAMS};
use super::reader::{Reader, Table, shown};
use super::secret::Secret;
use super::tree::{Node, Value};
use super::units::{
    self, ANY_PATTERN, BASE_URL, BOOLEAN, CREDENTIAL, HEADER_NAME, HEADER_PATTERN, HEADER_VALUE,
    NAME_PATTERN, TEXT, base_url,
};
use super::{
    CredentialSource, Identity, Provider, aws, client_tls, continuation, preset, settings,
};
use crate::wire::adapt::settings::Settings;
use crate::wire::dialect::{self, DIALECTS, Dialect, Hosting, Quirks};

/// The keys for the limit of output, and whether each is the older one.
const MAX_TOKENS_FIELDS: [(&str, bool); 2] =
    [("max_tokens", true), ("max_completion_tokens", false)];

const DIALECT: Field<&'static dyn Dialect> =
    Format::choice(|| DIALECTS.iter().map(|dialect| dialect.name()).collect(), dialect::by_name)
        .key("dialect", "The API that the upstream speaks.")
        .otherwise("that of the preset; required without `preset`");
const ADDRESS: Field<Url> = BASE_URL
    .key(
        "base_url",
        "The upstream's address as the vendor's SDK takes it: with `/v1` for openai-chat and openai-responses, without for anthropic.",
    )
    .otherwise("the vendor's own address")
    .example("https://llm.example.com/v1");
pub(super) const API_KEY: Field<Secret> = CREDENTIAL
    .key("api_key", "The credential, sent in the header of the dialect or in `auth_header`.")
    .otherwise("no credential is sent")
    .example("${OPENAI_API_KEY}");
const AUTH_HEADER_NAME: Field<HeaderName> =
    HEADER_NAME.key("name", "Name of the header.").required();
const PREFIX: Field<String> =
    Format::new("text", "what precedes the credential, such as `Bearer`", Notation::Text, prefix)
        .key("prefix", "Text before the credential; a word is set off by a space.")
        .otherwise("none")
        .example("Bearer");
const AUTH_HEADER: Section = Section::table(
    "auth_header",
    "The header that carries the credential, where it is not the dialect's own: a name, or a name and a prefix.",
    &[AUTH_HEADER_NAME.key, PREFIX.key],
)
.or(HEADER_NAME.secret().scalar);
pub(super) const HEADERS: Field<HeaderValue> = HEADER_VALUE
    .map("headers", "Headers that are sent with every request.", HEADER_PATTERN)
    .example("{ x-team: chat }");
const QUERY: Field<String> = TEXT
    .map("query", "Query parameters that are added to every address.", ANY_PATTERN)
    .example("{ api-version: preview }");
const STREAM_OPTIONS: Field<bool> =
    BOOLEAN.key("stream_options", "Whether the upstream takes `stream_options`.").default("true");
const MAX_TOKENS_FIELD: Field<bool> = Format::choice(
    || MAX_TOKENS_FIELDS.iter().map(|(name, _)| *name).collect(),
    |text| MAX_TOKENS_FIELDS.iter().find(|(name, _)| *name == text).map(|(_, legacy)| *legacy),
)
.key("max_tokens_field", "The member of openai-chat that limits output.")
.otherwise("`max_completion_tokens` for OpenAI and Azure, else `max_tokens`");
const TOOL_CALL_ID_LENGTH: Field<usize> = Format::new(
    "whole number from 8 to 64",
    "a number from 8 to 64",
    Notation::Integer { min: 8, max: 64, text: "\\+?0*[1-9][0-9]?" },
    |text| text.parse().ok().filter(|length| (8..=64).contains(length)),
)
.key(
    "tool_call_id_length",
    "The length of tool call ids that the upstream takes, where it takes no other.",
)
.otherwise("ids are passed on")
.example("9");
const REASONING_FIELD: Field<String> = TEXT
    .key("reasoning_field", "The member of openai-chat that takes earlier reasoning back.")
    .otherwise("earlier reasoning is left out")
    .example("reasoning_content");
const HOSTING: Field<Hosting> = Format::choice(
    || Hosting::ALL.iter().map(|hosting| hosting.name()).collect(),
    |text| Hosting::ALL.into_iter().find(|hosting| hosting.name() == text),
)
.key(
    "hosting",
    "The platform that hosts the vendor's models, with paths and credentials of its own.",
)
.otherwise("the vendor itself");
const LIST_MODELS: Field<bool> = BOOLEAN
    .key(
        "list_models",
        "Whether the provider's models are fetched, so that lists of models show them.",
    )
    .default("true");

/// Upstream accounts by name.
pub(super) const PROVIDERS: Section = Section::map(
    "providers",
    "Upstream accounts by name.",
    &[
        preset::PRESET.key,
        preset::RESOURCE.key,
        preset::DEPLOYMENT.key,
        preset::API_VERSION.key,
        preset::PROJECT.key,
        preset::LOCATION.key,
        preset::REGION.key,
        DIALECT.key,
        ADDRESS.key,
        API_KEY.key,
        KEYS.key,
        MAX_STREAMS.key,
        aws::AWS.key,
        AUTH_HEADER.key,
        HEADERS.key,
        QUERY.key,
        STREAM_OPTIONS.key,
        MAX_TOKENS_FIELD.key,
        TOOL_CALL_ID_LENGTH.key,
        REASONING_FIELD.key,
        HOSTING.key,
        LIST_MODELS.key,
        PRICE_CATALOG.key,
        egress::PROXY.key,
        client_tls::CLIENT_TLS.key,
        settings::SYSTEM_MESSAGES.key,
        settings::MAX_OUTPUT.key,
        settings::DROP.key,
        settings::SET,
        settings::HOSTED_TOOLS.key,
        settings::PROMPT_CACHE.key,
        settings::STRICT.key,
        settings::BETAS.key,
        settings::KEEP_ALIVE.key,
        HEALTH.key,
        CHECK.key,
        continuation::OF_MODELS.key,
    ],
    NAME_PATTERN,
);

/// Providers by name. One that is wrong is there as `None`, so that references to it are not reported as well.
pub(super) type Providers<'n> = BTreeMap<&'n str, Option<Arc<Provider>>>;

/// Reads the section.
pub(super) fn providers<'n>(
    reader: &mut Reader<'_>,
    root: &Table<'n>,
    general: &General,
    health: Health,
) -> Providers<'n> {
    let mut providers = BTreeMap::new();
    for (name, node) in reader.entries(root, &PROVIDERS) {
        if !units::is_name(&name.text) {
            let name_shown = shown(&name.text);
            reader.report(
                name.at,
                format!(
                    "{name_shown} cannot name a provider; expected letters, digits, `-`, `_`, `.`"
                ),
            );
        }
        let provider = provider(reader, &name.text, node, (general, health));
        providers.insert(name.text.as_str(), provider.map(Arc::new));
    }
    providers
}

fn provider(
    reader: &mut Reader<'_>,
    name: &str,
    node: &Node,
    (general, health): (&General, Health),
) -> Option<Provider> {
    let stated = reader.table(name, node, &PROVIDERS)?;
    let preset = preset::fields(reader, &stated);
    let table = stated.with_defaults(&preset);
    if !stated.has(&preset::PRESET) {
        reader.require(&table, &DIALECT, "a `dialect` or a `preset`");
    }
    let dialect = reader.field(&table, &DIALECT);
    let given = table.get(&ADDRESS).map(|_| reader.field(&table, &ADDRESS));
    let api_key = reader.field(&table, &API_KEY);
    let credential = CredentialSource::of(name, &stated);
    let auth_header = auth_header(reader, &table);
    if table.has(&API_KEY) && table.has(&aws::AWS) {
        let message = "`aws` stands beside an `api_key`; expected only one of them";
        reader.report(table.location(&aws::AWS), message);
    }
    let aws = aws::aws(reader, &table);
    let headers = headers(reader, &table);
    let query = query(reader, &table);
    let quirks = StatedQuirks::read(reader, &table);
    let egress = egress::Stated::read(reader, &table);
    let list_models = reader.value(&table, &LIST_MODELS);
    let continuation = continuation::of_models(reader, &table);
    // Another address than the preset's is another provider, with prices of its own.
    let priced = if stated.has(&ADDRESS) { &stated } else { &table };
    let price_catalog = reader.field(priced, &PRICE_CATALOG);
    let health = health::health(reader, &table, health);
    let check = check(reader, &table);
    let max_streams = reader.value(&table, &MAX_STREAMS);
    let keys = provider_key::keys(reader, (name, max_streams), &table);
    // No step below reports an error.
    let dialect = dialect?;
    let is_vendor = given.is_none() && !table.has(&PRICE_CATALOG);
    let price_catalog =
        price_catalog.flatten().or_else(|| preset::vendor_catalog(dialect).filter(|_| is_vendor));
    let base_url = given.unwrap_or_else(|| base_url(dialect.default_base_url()))?;
    let quirks = Arc::new(quirks.quirks(dialect, &base_url));
    let egress = egress.or(general, &base_url);
    // The vendor's own header means nothing elsewhere.
    let bearer = quirks.hosting.map(|_| (AUTHORIZATION, "Bearer ".to_owned()));
    let auth_header = auth_header.or(bearer);
    let provider = Provider {
        name: name.to_owned(),
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
        list_models,
        continuation,
        price_catalog,
        health,
        check,
        max_streams,
        key: None,
        weight: NonZeroU32::MIN,
        others: Vec::new(),
        account: Identity::default(),
    };
    Some(provider_key::with_keys(provider, keys))
}

/// A provider of which only the address and perhaps a credential are known.
pub(super) fn plain(
    name: &str,
    dialect: &'static dyn Dialect,
    address: &str,
    (api_key, general): (Option<Secret>, &General),
) -> Option<Provider> {
    let base_url = base_url(address)?;
    let provider = Provider {
        name: name.to_owned(),
        dialect,
        quirks: Arc::new(StatedQuirks::default().quirks(dialect, &base_url)),
        egress: general.to(&base_url),
        base_url,
        api_key,
        credential: CredentialSource::unset(name),
        auth_header: None,
        aws: None,
        headers: Vec::new(),
        query: Vec::new(),
        list_models: LIST_MODELS.default_value(),
        continuation: Vec::new(),
        price_catalog: None,
        health: Health::default(),
        check: None,
        max_streams: None,
        key: None,
        weight: NonZeroU32::MIN,
        others: Vec::new(),
        account: Identity::default(),
    };
    Some(provider.identified())
}

fn auth_header(reader: &mut Reader<'_>, provider: &Table<'_>) -> Option<(HeaderName, String)> {
    let node = provider.get(&AUTH_HEADER)?;
    if matches!(node.value, Value::Text(_)) {
        let name = reader.scalar(AUTH_HEADER.name, node, &HEADER_NAME.secret())?;
        return Some((name, String::new()));
    }
    let table = reader.table(AUTH_HEADER.name, node, &AUTH_HEADER)?;
    reader.require(&table, &AUTH_HEADER_NAME, &HEADER_NAME.scalar.expected());
    let name = reader.field(&table, &AUTH_HEADER_NAME);
    let prefix = reader.field(&table, &PREFIX);
    Some((name?, prefix.unwrap_or_default()))
}

/// Reads a prefix. One that ends in a letter or a digit is followed by a space, which YAML drops from unquoted text.
fn prefix(text: &str) -> Option<String> {
    HeaderValue::from_str(text).ok()?;
    let word = text.ends_with(|c: char| c.is_ascii_alphanumeric());
    Some(if word { format!("{text} ") } else { text.to_owned() })
}

/// Reads the `headers` of a table, their values marked as sensitive.
pub(super) fn headers(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (key, node) in reader.entries(table, &HEADERS) {
        let name = units::header_name(&key.text);
        if name.is_none() {
            let key_shown = shown(&key.text);
            reader.report(
                key.at,
                format!("{key_shown} cannot be set; expected a header name that does not frame the message"),
            );
        }
        let value = reader.scalar(&key.text, node, &HEADERS.format);
        headers.extend(name.zip(value));
    }
    headers
}

fn query(reader: &mut Reader<'_>, provider: &Table<'_>) -> Vec<(String, String)> {
    let entries = reader.entries(provider, &QUERY);
    entries
        .into_iter()
        .filter_map(|(key, node)| Some((key.text.clone(), reader.text(&key.text, node)?)))
        .collect()
}

/// The quirks that the file states.
#[derive(Default)]
struct StatedQuirks {
    stream_options: Option<bool>,
    legacy_max_tokens: Option<bool>,
    call_id_length: Option<usize>,
    reasoning_field: Option<String>,
    hosting: Option<Hosting>,
    settings: Settings,
}

impl StatedQuirks {
    fn read(reader: &mut Reader<'_>, table: &Table<'_>) -> Self {
        Self {
            stream_options: reader.field(table, &STREAM_OPTIONS),
            legacy_max_tokens: reader.field(table, &MAX_TOKENS_FIELD),
            call_id_length: reader.field(table, &TOOL_CALL_ID_LENGTH),
            reasoning_field: reader.field(table, &REASONING_FIELD),
            hosting: reader.field(table, &HOSTING),
            settings: settings::of_provider(reader, table),
        }
    }

    /// With defaults: only the vendor itself and Azure are known to take the newer limit of output.
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
