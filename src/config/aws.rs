//! Credentials that sign requests to AWS. Keys come from the file or, if it gives none, from the
//! environment under the names that all tools of AWS know. No value of a key is ever shown.

use super::provider::secret;
use super::raw::{Reader, Table};
use super::secret::Secret;

const KEYS: [&str; 3] = ["access_key_id", "secret_access_key", "session_token"];
const VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// What requests to AWS are signed with (Signature Version 4).
#[derive(Debug, Clone)]
pub struct Aws {
    /// The region that the credentials are to be used in.
    pub region: String,
    /// The name of the service in signatures.
    pub service: String,
    /// Names the key.
    pub access_key_id: Secret,
    /// Never leaves this process.
    pub secret_access_key: Secret,
    /// For temporary credentials.
    pub session_token: Option<Secret>,
}

/// Reads the field `aws` of a provider. `None`: it is left out, or wrong and reported. A preset's
/// `region` is the region unless another is given.
pub(super) fn aws(reader: &mut Reader<'_>, provider: &Table<'_>) -> Option<Aws> {
    let node = provider.get("aws")?;
    let known = [&["region", "service"][..], &KEYS].concat();
    let table = reader.table("aws", node, &known)?;
    if provider.get("api_key").is_some() {
        reader.report(node.at, "`aws` stands beside an `api_key`; expected only one of them");
    }
    let word = ("letters, digits and `-`", word);
    let region = match table.get("region") {
        Some(_) => reader.field(&table, "region", word),
        None => reader.field(provider, "region", word),
    };
    if table.get("region").or_else(|| provider.get("region")).is_none() {
        reader.require(&table, "region", "a region such as `us-east-1`");
    }
    let service = reader.field(&table, "service", word);
    let given = KEYS.iter().any(|key| table.get(key).is_some());
    let [id, key, token] = if given {
        for key in ["access_key_id", "secret_access_key"] {
            reader.require(&table, key, "it, or no key at all, so that the environment is asked");
        }
        KEYS.map(|key| reader.hidden(key, table.get(key)?, ("a credential on one line", secret)))
    } else {
        let of = |name: &&str| secret((reader.source.env)(name)?.trim());
        let found =
            VARIABLES.each_ref().map(|name| of(name).filter(|key| !key.expose().is_empty()));
        for (name, found) in VARIABLES.iter().zip(&found).take(2) {
            if found.is_none() {
                reader.report(node.at, format!("`aws` holds no keys and the environment variable `{name}` is not set; expected one or the other"));
            }
        }
        found
    };
    Some(Aws {
        region: region?,
        service: service.unwrap_or_else(|| "bedrock".to_owned()),
        access_key_id: id?,
        secret_access_key: key?,
        session_token: token,
    })
}

fn word(text: &str) -> Option<String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    (plain && !text.is_empty()).then(|| text.to_owned())
}
