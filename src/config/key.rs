//! API keys of callers: generation, digest, and the line for the configuration. A key itself must never be stored.

use rand::distr::{Alphanumeric, SampleString};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

use super::units::hex;

/// The SHA-256 of a key. Keys are random and long, so that a plain hash hides them.
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Generates a key from the operating system's randomness: `sg-` and 43 letters and digits, with 256 bits.
pub fn new_key() -> String {
    format!("sg-{}", Alphanumeric.sample_string(&mut UnwrapErr(SysRng), 43))
}

/// The line below `auth.keys` that configures a key.
pub fn key_line(name: &str, digest: &[u8; 32]) -> String {
    // A JSON string is a YAML string, whatever characters the name has.
    let name = serde_json::Value::from(name);
    format!("- {{ name: {name}, sha256: \"{}\" }}", hex(digest))
}
