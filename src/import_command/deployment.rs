//! A deployment of LiteLLM (an entry of `model_list`) as a provider and a target of ours. It must never carry a credential
//! to another address than the one it was for.

use super::Notes;
use super::price::{self, COSTS};
use super::settings::{duration, millis};
use super::vendors::{self, Upstream, Vendor};
use super::yaml::{Node, Value};
use crate::yaml_text::scalar;

/// Keys and their values, which are YAML.
pub(super) type Fields = Vec<(&'static str, String)>;

/// A deployment: the name that callers use, its parameters, and those of the credential that it names.
pub(super) struct Deployment<'n> {
    pub(super) name: &'n str,
    pub(super) line: usize,
    pub(super) params: &'n Node,
    pub(super) credential: Option<&'n Node>,
    /// Its `model_info`.
    pub(super) info: Option<&'n Node>,
}

/// The provider and the target that a deployment becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Draft {
    /// A name for the provider.
    pub(super) provider: &'static str,
    pub(super) fields: Fields,
    /// The model's name at the provider.
    pub(super) model: String,
    pub(super) target: Fields,
}

/// Parameters that are read, here or where deployments are put together.
const READ: [&str; 29] = [
    "model",
    "api_key",
    "api_base",
    "base_url",
    "api_version",
    "custom_llm_provider",
    "organization",
    "extra_headers",
    "headers",
    "rpm",
    "tpm",
    "max_parallel_requests",
    "order",
    "weight",
    "stream_timeout",
    "litellm_credential_name",
    "additional_drop_params",
    "drop_params",
    "azure_ad_token",
    "aws_region_name",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "vertex_project",
    "vertex_location",
    "vertex_ai_project",
    "vertex_ai_location",
    "id",
    "model_info",
];

/// Parameters without an equivalent, and the reason or the remedy.
const LEFT_OUT: [(&str, &str); 18] = [
    ("temperature", OVERRIDES),
    ("top_p", OVERRIDES),
    ("max_tokens", "is a default there; `max_output` of the target is the bound of ours"),
    (
        "max_completion_tokens",
        "is a default there; `max_output` of the target is the bound of ours",
    ),
    ("seed", OVERRIDES),
    ("stop", OVERRIDES),
    ("frequency_penalty", OVERRIDES),
    ("presence_penalty", OVERRIDES),
    ("reasoning_effort", OVERRIDES),
    ("extra_body", OVERRIDES),
    (
        "timeout",
        "is not set for one deployment here: `stream.unstreamed` is that of all, `first_token` of a target that of its first token",
    ),
    ("cooldown_time", "is not set for one deployment here: `health.cooldown` of its provider is"),
    (
        "max_retries",
        "is not read: `retry` of a model sets retries at the same target (docs/routing.md)",
    ),
    (
        "num_retries",
        "is not read: `retry` of a model sets retries at the same target (docs/routing.md)",
    ),
    ("tags", "have no equivalent: requests are not routed by tags"),
    ("vertex_credentials", "is not read: the key of Vertex AI is an access token"),
    (
        "aws_profile_name",
        "is not read: give keys, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    ("aws_role_name", "is not read: give keys, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
];
const OVERRIDES: &str =
    "is a default there; `set` of the target would override every caller's value";

/// Keys of `model_info` that are read.
const INFO_READ: [&str; 3] = ["id", "mode", "max_input_tokens"];

/// Keys of `model_info` without an equivalent, and the reason or the remedy.
const INFO_LEFT_OUT: [(&str, &str); 3] = [
    ("base_model", "is not read: where a price is unknown, `price` of the target states it"),
    ("max_tokens", BOUND),
    ("max_output_tokens", BOUND),
];
const BOUND: &str = "is not read: `max_output` of the target is the bound of ours";

/// Paths of APIs that an address may end with, which we add ourselves.
const PATHS: [&str; 3] = ["/chat/completions", "/messages", "/responses"];

/// Modes of models that we serve; without one, it is a chat.
const MODES: [&str; 4] = ["chat", "completion", "embedding", "responses"];

impl<'n> Deployment<'n> {
    /// A parameter, of the deployment's own or of its credential.
    fn param(&self, key: &str) -> Option<&'n Node> {
        self.params.get(key).or_else(|| self.credential?.get(key))
    }

    /// A parameter as a text with our references to the environment.
    fn text(&self, key: &str, notes: &mut Notes) -> Option<String> {
        let node = self.param(key)?;
        let text = node.as_text()?;
        let read = reference(text);
        if read.is_none() {
            notes.add(node.line, format!("`{key}` of `{}` cannot be written here: it contains `${{`, or names no variable", self.name));
        }
        read
    }

    fn has(&self, key: &str) -> bool {
        self.param(key).is_some()
    }

    /// A whole number above zero.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.params.text(key)?.parse().ok().filter(|number| *number > 0)
    }

    /// The price of a token there, by the deployment's parameters or its `model_info`.
    pub(super) fn cost(&self, key: &str) -> Option<&'n Node> {
        self.params.get(key).or_else(|| self.info?.get(key))
    }

    /// The address, by either of its names, without a slash or the path of an API at its end.
    fn address(&self, notes: &mut Notes) -> Option<String> {
        let key = if self.has("api_base") { "api_base" } else { "base_url" };
        let text = self.text(key, notes)?;
        let address = text.trim().trim_end_matches('/');
        let Some((path, root)) =
            PATHS.iter().find_map(|path| Some((path, address.strip_suffix(path)?)))
        else {
            return Some(address.to_owned());
        };
        let line = self.param(key).map_or(self.line, |node| node.line);
        notes.add(line, format!("`{key}` of `{}` was cut before `{path}`: an address here is that above all paths of an API", self.name));
        Some(root.trim_end_matches('/').to_owned())
    }

    /// The deployment as ours. `None`: it cannot be one, and a note says so.
    pub(super) fn draft(&self, notes: &mut Notes) -> Option<Draft> {
        let Some(written) = self.params.text("model") else {
            notes.add(self.line, format!("`{}` names no `model` and is left out", self.name));
            return None;
        };
        let mode = self.info.and_then(|info| info.text("mode")).unwrap_or("chat");
        if !MODES.contains(&mode) {
            notes.add(
                self.line,
                format!("`{}` is left out: models of mode `{mode}` are not served", self.name),
            );
            return None;
        }
        let given = self.params.text("custom_llm_provider").and_then(vendors::by_prefix);
        let found = match given {
            Some(vendor) => {
                let own =
                    written.strip_prefix(vendor.prefix).and_then(|rest| rest.strip_prefix('/'));
                Some((vendor, own.unwrap_or(written)))
            }
            None => vendors::of_model(written),
        };
        let Some((vendor, model)) = found else {
            let why = if written == "*" {
                "it stands for all providers of LiteLLM; add a pattern for each provider of yours"
            } else {
                "its provider is not known here; if it has an API of ours, add it under `providers`"
            };
            notes.add(self.line, format!("`{}` (`{written}`) is left out: {why}", self.name));
            return None;
        };
        self.note_left_out(mode, notes);
        let draft = match vendor.upstream {
            Upstream::Azure => self.azure(model, notes),
            Upstream::Bedrock => self.bedrock(model, notes),
            Upstream::Vertex => self.vertex(model, notes),
            Upstream::Preset(_) | Upstream::Compatible(_) => self.vendor(vendor, model, notes)?,
        };
        Some(self.completed(draft, notes))
    }

    fn note_left_out(&self, mode: &str, notes: &mut Notes) {
        let params = self.params.entries().iter();
        let params = params.chain(self.credential.map(Node::entries).unwrap_or_default());
        let params = params.map(|entry| (entry, "", READ.as_slice(), LEFT_OUT.as_slice()));
        let info = self.info.map(Node::entries).unwrap_or_default().iter();
        let info =
            info.map(|entry| (entry, "model_info.", &INFO_READ[..], INFO_LEFT_OUT.as_slice()));
        for ((key, node), section, read, left_out) in params.chain(info) {
            if read.contains(&key.as_str()) || COSTS.iter().any(|(cost, _)| cost == key) {
                continue;
            }
            let reason = left_out.iter().find(|(known, _)| known == key);
            let reason = reason.map_or("has no equivalent here", |(_, reason)| reason);
            notes.add(node.line, format!("`{section}{key}` of `{}` {reason}", self.name));
        }
        let named = self.info.and_then(|info| info.get("mode"));
        if let Some(node) = named.filter(|_| ["completion", "responses"].contains(&mode)) {
            notes.add(node.line, format!("`model_info.mode` of `{}` is not carried over: callers may use any API here, and the `dialect` of the provider is the one that it is asked by", self.name));
        }
    }

    /// A vendor with a key, and perhaps an address of the deployment's own.
    fn vendor(&self, vendor: Vendor, model: &str, notes: &mut Notes) -> Option<Draft> {
        let address = self.address(notes);
        let (mut name, mut model) = (vendor.name, model);
        let mut fields = Fields::new();
        match vendor.upstream {
            Upstream::Preset(mut preset) => {
                if let Some(rest) = model.strip_prefix("responses/").filter(|_| preset == "openai")
                {
                    (name, preset, model) = ("openai-responses", "openai-responses", rest);
                }
                fields.push(("preset", scalar(preset)));
                let root = |address: String| match preset {
                    "anthropic" => address.trim_end_matches("/v1").to_owned(),
                    _ => address,
                };
                fields.extend(address.clone().map(|address| ("base_url", scalar(&root(address)))));
            }
            Upstream::Compatible(default) => {
                let own = address.clone().or_else(|| Some(default.to_owned()));
                let Some(base_url) = own.filter(|own| !own.is_empty()) else {
                    notes.add(
                        self.line,
                        format!("`{}` is left out: it has no `api_base`", self.name),
                    );
                    return None;
                };
                fields.push(("dialect", "openai-chat".to_owned()));
                fields.push(("base_url", scalar(&base_url)));
            }
            Upstream::Azure | Upstream::Bedrock | Upstream::Vertex => return None,
        }
        fields.extend(self.api_key(vendor, address.is_some(), notes).map(|key| ("api_key", key)));
        Some(Draft { provider: name, fields, model: model.to_owned(), target: Fields::new() })
    }

    /// The key: the deployment's own, else that of the vendor's variable.
    fn api_key(&self, vendor: Vendor, elsewhere: bool, notes: &mut Notes) -> Option<String> {
        if let Some(node) = self.param("api_key") {
            let text = node.as_text().unwrap_or_default();
            if ["none", "empty", ""].iter().any(|none| text.eq_ignore_ascii_case(none)) {
                return None;
            }
            if !text.starts_with(ENVIRONMENT) {
                notes.add(node.line, format!("`api_key` of `{}` stands in the file; `${{NAME}}` reads it from the environment", self.name));
            }
            return Some(scalar(&self.text("api_key", notes)?));
        }
        if vendor.variable.is_empty() {
            return None;
        }
        if elsewhere && vendor.name.starts_with("openai") {
            notes.add(
                self.line,
                format!("`{}` has an address of its own and no `api_key`: none is sent", self.name),
            );
            return None;
        }
        Some(scalar(&format!("${{{}}}", vendor.variable)))
    }

    /// Azure by a deployment and a dated version, or by its address `/openai/v1`.
    fn azure(&self, model: &str, notes: &mut Notes) -> Draft {
        let address = self.address(notes).unwrap_or_else(|| "${AZURE_API_BASE}".to_owned());
        let version = self.text("api_version", notes);
        let dated = version.filter(|version| {
            version.starts_with(|c: char| c.is_ascii_digit()) || version.starts_with('$')
        });
        let resource = address
            .strip_prefix("https://")
            .and_then(|host| host.strip_suffix(".openai.azure.com"));
        let mut fields = Fields::new();
        match (resource.filter(|name| !name.contains('$')), &dated) {
            (Some(resource), Some(version)) => {
                fields.push(("preset", "azure-deployment".to_owned()));
                fields.push(("resource", scalar(resource)));
                fields.push(("deployment", scalar(model)));
                fields.push(("api_version", scalar(version)));
            }
            (Some(resource), None) => {
                fields.push(("preset", "azure".to_owned()));
                fields.push(("resource", scalar(resource)));
            }
            (None, dated) => {
                fields.push(("dialect", "openai-chat".to_owned()));
                let path = match dated {
                    Some(_) => format!("{address}/openai/deployments/{model}"),
                    None => format!("{address}/openai/v1"),
                };
                fields.push(("base_url", scalar(&path)));
                if self.param("azure_ad_token").is_none() {
                    fields.push(("auth_header", "api-key".to_owned()));
                }
                fields.push(("list_models", "false".to_owned()));
                let query =
                    dated.as_ref().map(|version| format!("{{ api-version: {} }}", scalar(version)));
                fields.extend(query.map(|query| ("query", query)));
            }
        }
        if let Some(token) = self.text("azure_ad_token", notes) {
            fields.push(("auth_header", "{ name: authorization, prefix: Bearer }".to_owned()));
            fields.push(("api_key", scalar(&token)));
        } else {
            let azure = Vendor {
                prefix: "azure",
                name: "azure",
                upstream: Upstream::Azure,
                variable: "AZURE_API_KEY",
            };
            fields.extend(self.api_key(azure, false, notes).map(|key| ("api_key", key)));
        }
        Draft { provider: "azure", fields, model: model.to_owned(), target: Fields::new() }
    }

    /// Bedrock: its routes and regions before the model's name are LiteLLM's own.
    fn bedrock(&self, model: &str, notes: &mut Notes) -> Draft {
        let routes = ["converse/", "converse_like/", "invoke/"];
        let mut model = routes.iter().find_map(|route| model.strip_prefix(route)).unwrap_or(model);
        let mut region = self.text("aws_region_name", notes);
        if let Some((first, rest)) = model.split_once('/').filter(|(first, _)| is_region(first)) {
            (region, model) = (Some(first.to_owned()), rest);
        }
        let region = region.unwrap_or_else(|| "${AWS_REGION_NAME}".to_owned());
        let mut fields = vec![("preset", "bedrock".to_owned()), ("region", scalar(&region))];
        if let Some(key) = self.text("api_key", notes) {
            fields.push(("api_key", scalar(&key)));
        } else {
            let keys = ["access_key_id", "secret_access_key", "session_token"];
            let given = keys.iter().filter_map(|key| {
                let value = self.text(&format!("aws_{key}"), notes)?;
                Some(format!("{key}: {}", scalar(&value)))
            });
            let given: Vec<String> = given.collect();
            let aws = if given.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", given.join(", "))
            };
            fields.push(("aws", aws));
        }
        Draft { provider: "bedrock", fields, model: model.to_owned(), target: Fields::new() }
    }

    fn vertex(&self, model: &str, notes: &mut Notes) -> Draft {
        let mut either = |one: &str, other: &str, default: &str| {
            let key = if self.has(one) { one } else { other };
            self.text(key, notes).unwrap_or_else(|| default.to_owned())
        };
        let project = either("vertex_project", "vertex_ai_project", "${VERTEXAI_PROJECT}");
        let location = either("vertex_location", "vertex_ai_location", "${VERTEXAI_LOCATION}");
        let claude = model.starts_with("claude");
        let (name, preset) = match (claude, location.as_str()) {
            (true, "global") => ("vertex-anthropic", "vertex-anthropic-global"),
            (true, _) => ("vertex-anthropic", "vertex-anthropic"),
            (false, _) => ("vertex", "vertex-gemini"),
        };
        let mut fields = vec![("preset", preset.to_owned()), ("project", scalar(&project))];
        if preset != "vertex-anthropic-global" {
            fields.push(("location", scalar(&location)));
        }
        fields.push(("api_key", scalar("${VERTEX_ACCESS_TOKEN}")));
        notes.add(self.line, format!("`{}`: set VERTEX_ACCESS_TOKEN to an access token (`gcloud auth print-access-token`), and renew it; service accounts are not read", self.name));
        Draft { provider: name, fields, model: model.to_owned(), target: Fields::new() }
    }

    /// With headers, dropped members, the context, the timeout and the price.
    fn completed(&self, mut draft: Draft, notes: &mut Notes) -> Draft {
        let mut headers = Vec::new();
        match self.param("organization").map(|node| &node.value) {
            Some(Value::Text(_)) => {
                let name = self.text("organization", notes);
                headers.extend(name.map(|name| format!("openai-organization: {}", scalar(&name))));
            }
            Some(_) => notes.add(
                self.line,
                format!(
                    "several organizations of `{}` have no equivalent; add a provider for each",
                    self.name
                ),
            ),
            None => {}
        }
        for key in ["extra_headers", "headers"] {
            for (name, node) in self.param(key).map(Node::entries).unwrap_or_default() {
                match node.as_text().and_then(reference) {
                    Some(value) => headers.push(format!("{}: {}", scalar(name), scalar(&value))),
                    None => notes.add(
                        node.line,
                        format!("the header `{name}` of `{}` cannot be written here", self.name),
                    ),
                }
            }
        }
        if !headers.is_empty() {
            draft.fields.push(("headers", format!("{{ {} }}", headers.join(", "))));
        }
        let dropped =
            self.params.get("additional_drop_params").map(Node::items).unwrap_or_default();
        let dropped: Vec<String> = dropped.iter().filter_map(Node::as_text).map(scalar).collect();
        if !dropped.is_empty() {
            draft.target.push(("drop", format!("[{}]", dropped.join(", "))));
        }
        let context = self.info.and_then(|info| info.text("max_input_tokens")?.parse::<u64>().ok());
        draft
            .target
            .extend(context.filter(|most| *most > 0).map(|most| ("context", most.to_string())));
        if let Some(node) = self.params.get("stream_timeout") {
            match node.as_text().and_then(millis) {
                Some(most) => draft.target.push(("first_token", duration(most))),
                None => notes.add(
                    node.line,
                    format!(
                        "`stream_timeout` of `{}` is no number of seconds, and is left out",
                        self.name
                    ),
                ),
            }
        }
        draft.target.extend(price::price(self, notes).map(|price| ("price", price)));
        draft
    }
}

/// The beginning of a reference to the environment.
const ENVIRONMENT: &str = "os.environ/";

/// A text with our reference in the place of LiteLLM's. `None`: it would mean something else here.
pub(super) fn reference(text: &str) -> Option<String> {
    let Some(name) = text.strip_prefix(ENVIRONMENT) else {
        return (!text.contains("${") && !text.is_empty()).then(|| text.to_owned());
    };
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let named = plain && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    named.then(|| format!("${{{name}}}"))
}

/// Whether a segment is an AWS region, such as `us-east-1`.
fn is_region(segment: &str) -> bool {
    let parts: Vec<&str> = segment.split('-').collect();
    let number = parts.last().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    parts.len() >= 3 && number && segment.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}
