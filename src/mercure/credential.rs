//! Credentials of Mercure's clients: besides the headers of other requests, the parameter `authorization` and cookies. A
//! cookie must never let a page of a foreign origin publish.

use axum::extract::Request;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::form;
use crate::error::Error;
use crate::wire::chat::{ApiError, Kind};

/// The names of the cookie: that of draft 08, the same for plain HTTP, and that of earlier drafts.
const COOKIES: [&str; 3] =
    ["__Secure-mercure_access_token", "mercure_access_token", "mercureAuthorization"];

/// The headers that may have a credential.
const HEADERS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// Puts the credential of a request into its header, where authentication looks for it. A header comes before the
/// parameter, and that before a cookie. `trusted`: the request comes from a page of an allowed origin.
pub(super) fn present(request: &mut Request, trusted: bool) -> Result<(), Error> {
    if HEADERS.iter().any(|name| request.headers().contains_key(name)) {
        return Ok(());
    }
    let query = form::pairs(request.uri().query().unwrap_or_default()).unwrap_or_default();
    let parameter = query.into_iter().find(|(name, _)| name == "authorization");
    let token = match (parameter, cookie(request.headers())) {
        (Some((_, token)), _) => token,
        (None, Some(token)) => {
            if request.method() == Method::POST && !trusted {
                let message = "a cookie publishes from pages of allowed origins only; send `authorization: Bearer TOKEN`, or \
                               have the gateway's operator add the page's origin to server.cors_origins";
                return Err(Error::caller(ApiError::new(Kind::Permission, message)));
            }
            token
        }
        (None, None) => return Ok(()),
    };
    // A text that no header can hold is no credential.
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Bearer ?"));
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

/// The token of a cookie, if there is one.
fn cookie(headers: &HeaderMap) -> Option<String> {
    let values = || headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = || values().flat_map(|value| value.split(';')).filter_map(|it| it.split_once('='));
    let named = |wanted: &str| pairs().find(|(name, _)| name.trim() == wanted);
    COOKIES.into_iter().find_map(named).map(|(_, value)| value.trim().to_owned())
}
