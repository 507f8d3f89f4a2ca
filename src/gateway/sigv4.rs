//! AWS Signature Version 4: signs requests, as the last step before they are sent. It must never read a clock, change
//! anything but the headers of the signature, or show a key.

use std::fmt::Write;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as compute};
use aws_sigv4::sign::v4;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest, Sha256};
use url::Url;

use crate::config::Aws;
use crate::error::Error;

/// A request to be signed.
pub(super) struct Unsigned<'a> {
    /// The method.
    pub(super) method: &'a Method,
    /// The address, its path escaped as it will be sent. Signatures are over the path escaped once more.
    pub(super) url: &'a Url,
    /// The body.
    pub(super) body: &'a [u8],
    /// Its [`digest`], if that is known already.
    pub(super) digest: Option<String>,
}

/// The digest of a body as it is signed: SHA-256 in hexadecimal digits.
#[expect(clippy::expect_used, reason = "writing to a string cannot fail")]
pub(super) fn digest(body: &[u8]) -> String {
    let mut out = String::with_capacity(64);
    for byte in Sha256::digest(body) {
        write!(out, "{byte:02x}").expect("a string takes every write");
    }
    out
}

/// Adds the headers that sign a request at a time. Of the headers that are there, those are signed
/// that mean something to AWS: others may be changed on the way.
pub(super) fn sign(
    unsigned: Unsigned<'_>,
    headers: &mut HeaderMap,
    aws: &Aws,
    time: SystemTime,
) -> Result<(), Error> {
    let failed = |_| Error::internal("a request could not be signed");
    let credentials = Credentials::new(
        aws.access_key_id.expose(),
        aws.secret_access_key.expose(),
        aws.session_token.as_ref().map(|token| token.expose().to_owned()),
        None,
        "configuration",
    );
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&aws.region)
        .name(&aws.service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| Error::internal("a request could not be signed"))?
        .into();
    let signed = |name: &HeaderName| *name == CONTENT_TYPE || name.as_str().starts_with("x-amz");
    let signable = headers
        .iter()
        .filter(|(name, _)| signed(name))
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let request = SignableRequest::new(
        unsigned.method.as_str(),
        unsigned.url.as_str(),
        signable,
        unsigned.digest.map_or(SignableBody::Bytes(unsigned.body), SignableBody::Precomputed),
    )
    .map_err(failed)?;
    let (instructions, _) = compute(request, &parameters).map_err(failed)?.into_parts();
    for (name, value) in instructions.headers() {
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        else {
            return Err(Error::internal("a signature holds characters that no header may"));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::secret::Secret;

    fn signature(digest: Option<String>) -> String {
        let (service, url) = ("service", "https://example.amazonaws.com/");
        let method = &Method::GET;
        let aws = Aws {
            region: "us-east-1".into(),
            service: service.into(),
            access_key_id: Secret::new("AKIDEXAMPLE"),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        };
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("not signed"));
        let url = Url::parse(url).unwrap();
        // 2015-08-30T12:36:00Z.
        let time = SystemTime::UNIX_EPOCH + Duration::from_mins(24_015_636);
        let unsigned = Unsigned { method, url: &url, body: b"", digest };
        sign(unsigned, &mut headers, &aws, time).unwrap();
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        headers["authorization"].to_str().unwrap().to_owned()
    }

    /// The vector `get-vanilla` of AWS's test suite.
    #[test]
    fn the_published_vector() {
        for digest in [None, Some(digest(b""))] {
            assert_eq!(
                signature(digest),
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
            );
        }
    }
}
