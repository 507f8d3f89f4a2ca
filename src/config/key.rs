//! Caller keys: made, digested, and written as a line of the configuration. A key itself is never
//! stored; only its digest is.

use std::fmt::Write as _;

use rand::distr::{Alphanumeric, SampleString};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

/// The SHA-256 of a key. Keys are random and long, so that a plain hash hides them.
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Draws a key from the operating system's randomness: `sg-` and 43 letters and digits, which hold
/// 256 bits.
pub fn new_key() -> String {
    format!("sg-{}", Alphanumeric.sample_string(&mut UnwrapErr(SysRng), 43))
}

/// The line below `auth.keys` that lets a key in.
pub fn key_line(name: &str, digest: &[u8; 32]) -> String {
    let mut line = String::from("- { name: ");
    // A JSON string is a YAML string, whatever characters the name has.
    line.push_str(&serde_json::Value::from(name).to_string());
    line.push_str(", sha256: \"");
    for byte in digest {
        // Writing to a string cannot fail.
        write!(line, "{byte:02x}").ok();
    }
    line.push_str("\" }");
    line
}
