//! AWS credentials of a provider: the section `aws`. Keys come from the file or, if it has none, from the environment
//! variables that all tools of AWS read. No message, log line or `Debug` may show one.

use super::field::{Field, Format, Notation, Section};
use super::preset::REGION;
use super::reader::{Reader, Table};
use super::secret::Secret;
use super::units::{CREDENTIAL, secret};

const WORD: Format<String> = Format::new(
    "letters, digits and `-`",
    "letters, digits and `-`",
    Notation::Name("[A-Za-z0-9-]+"),
    |text| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (plain && !text.is_empty()).then(|| text.to_owned())
    },
);

const SIGNING_REGION: Field<String> = WORD
    .key("region", "The AWS region in signatures.")
    .otherwise("the `region` of the preset; required without one")
    .example("us-east-1");
const SERVICE: Field<String> =
    WORD.key("service", "The name of the AWS service in signatures.").default("bedrock");
const ACCESS_KEY_ID: Field<Secret> = CREDENTIAL
    .key("access_key_id", "Id of the access key.")
    .otherwise("`AWS_ACCESS_KEY_ID` of the environment, if no key is given here")
    .example("${AWS_ID}");
const SECRET_ACCESS_KEY: Field<Secret> = CREDENTIAL
    .key("secret_access_key", "The access key.")
    .otherwise("`AWS_SECRET_ACCESS_KEY` of the environment, if no key is given here")
    .example("${AWS_KEY}");
const SESSION_TOKEN: Field<Secret> = CREDENTIAL
    .key("session_token", "Session token of temporary credentials.")
    .otherwise("`AWS_SESSION_TOKEN` of the environment, if no key is given here");

/// The keys of the file, and the variables in their place.
const CREDENTIALS: [(Field<Secret>, &str); 3] = [
    (ACCESS_KEY_ID, "AWS_ACCESS_KEY_ID"),
    (SECRET_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY"),
    (SESSION_TOKEN, "AWS_SESSION_TOKEN"),
];

pub(super) const AWS: Section = Section::table(
    "aws",
    "Signs requests with AWS credentials (Signature Version 4) instead of sending `api_key`. `aws: {}` takes them from the environment.",
    &[SIGNING_REGION.key, SERVICE.key, ACCESS_KEY_ID.key, SECRET_ACCESS_KEY.key, SESSION_TOKEN.key],
);

/// Credentials for requests that are signed by AWS Signature Version 4.
#[derive(Debug, Clone)]
pub struct Aws {
    /// The region in signatures.
    pub region: String,
    /// The name of the service in signatures.
    pub service: String,
    /// The key's id.
    pub access_key_id: Secret,
    /// The key, which is never sent.
    pub secret_access_key: Secret,
    /// For temporary credentials.
    pub session_token: Option<Secret>,
}

/// Reads the section of a provider. `None`: it is left out, or wrong and reported. A preset's `region` is the
/// region unless another is given.
pub(super) fn aws(reader: &mut Reader<'_>, provider: &Table<'_>) -> Option<Aws> {
    let node = provider.get(&AWS)?;
    let table = reader.table(AWS.name, node, &AWS)?;
    let region = match table.get(&SIGNING_REGION) {
        Some(_) => reader.field(&table, &SIGNING_REGION),
        None => provider.get(&REGION).and_then(|node| reader.scalar(REGION.name, node, &WORD)),
    };
    if !provider.has(&REGION) {
        reader.require(&table, &SIGNING_REGION, "a region such as `us-east-1`");
    }
    let service = reader.value(&table, &SERVICE);
    let given = CREDENTIALS.iter().any(|(key, _)| table.has(key));
    let [id, key, token] = if given {
        for key in [&ACCESS_KEY_ID, &SECRET_ACCESS_KEY] {
            let expected = "it, or no key at all, so that the environment's are taken";
            reader.require(&table, key, expected);
        }
        CREDENTIALS.each_ref().map(|(key, _)| reader.field(&table, key))
    } else {
        let of = |name: &str| secret(reader.variable(name)?.trim());
        let found =
            CREDENTIALS.each_ref().map(|(_, name)| of(name).filter(|key| !key.expose().is_empty()));
        for ((_, name), found) in CREDENTIALS.iter().zip(&found).take(2) {
            if found.is_none() {
                reader.report(node.at, format!("`aws` holds no keys and the environment variable `{name}` is not set; expected one or the other"));
            }
        }
        found
    };
    Some(Aws {
        region: region?,
        service,
        access_key_id: id?,
        secret_access_key: key?,
        session_token: token,
    })
}
