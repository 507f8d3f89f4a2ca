//! AWS event streams and signatures, written from their specifications and with nothing of ours.

use sha2::{Digest, Sha256};

use super::gateway::hex;

/// A message of the framing: total, headers and checksum; headers; payload; checksum.
pub(crate) fn message(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap());
        head.extend(name.bytes());
        head.push(7);
        head.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        head.extend(value.bytes());
    }
    let total = u32::try_from(head.len() + payload.len() + 16).unwrap();
    let mut out = total.to_be_bytes().to_vec();
    out.extend(u32::try_from(head.len()).unwrap().to_be_bytes());
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend(head);
    out.extend(payload.bytes());
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

/// An event of a model's own, wrapped as `InvokeModelWithResponseStream` does.
pub(crate) fn chunk(event: &str) -> Vec<u8> {
    let headers = [
        (":event-type", "chunk"),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    message(&headers, &format!(r#"{{"bytes":"{}","p":"abc"}}"#, base64(event.as_bytes())))
}

/// Base64, by the table.
fn base64(bytes: &[u8]) -> String {
    const TABLE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let sextet = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap();
            out.push(if at > group.len() { '=' } else { char::from(TABLE[sextet]) });
        }
    }
    out
}

/// The `Authorization` header that a request must have by Signature Version 4. `path` is as it was
/// sent, and `headers` are those signed, sorted by name.
pub(crate) fn authorization(
    (id, secret): (&str, &str),
    (region, service): (&str, &str),
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> String {
    let sha256 = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let time = headers.iter().find(|(name, _)| *name == "x-amz-date").expect("a date").1;
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().flat_map(|(name, value)| [name, ":", value, "\n"]).collect();
    // Every service but S3 escapes the path once more.
    let escaped = path.replace('%', "%25");
    let canonical = format!("POST\n{escaped}\n\n{lines}\n{names}\n{}", sha256(body));
    let day = time.split_at(8).0;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, "aws4_request", &text] {
        key = hmac(&key, part.as_bytes());
    }
    format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={}",
        hex(&key)
    )
}

/// RFC 2104, for keys of no more than a block.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = key.to_vec();
    block.resize(64, 0);
    let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([&pad(0x36)[..], message].concat());
    Sha256::digest([&pad(0x5c)[..], &inner[..]].concat()).to_vec()
}
