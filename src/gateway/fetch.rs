//! Fetching of documents for the gateway itself: key sets, lists of models. It must never follow a redirect, nor show an
//! address, which may hold a credential.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use url::Url;

/// A document that could not be fetched.
pub type FetchError = Box<dyn std::error::Error + Send + Sync>;

/// Fetches a document of at most `most` bytes. The client is one that follows no redirects.
pub async fn get(
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    most: usize,
) -> Result<Bytes, FetchError> {
    let response = client.get(url).headers(headers).send().await;
    let mut response = response.map_err(reqwest::Error::without_url)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the server answered with status {}", response.status()).into());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > most {
            return Err(format!("the answer is larger than {most} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
