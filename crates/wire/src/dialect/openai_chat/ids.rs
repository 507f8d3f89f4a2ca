//! Ids of tool calls for servers that take ids of one length only (Mistral). The same id must always be
//! mapped to the same id, in every request, so that a call and its result match.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// Characters of such an id.
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// An id that the server takes: itself, if it does fit or if any is taken.
pub(super) fn fitting(id: &str, length: Option<usize>) -> Cow<'_, str> {
    let fits = |length| id.len() == length && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let Some(length) = length.filter(|length| !fits(*length)) else { return Cow::Borrowed(id) };
    let digest = Sha256::digest(id.as_bytes());
    let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied();
    let letters = digest.iter().cycle().take(length).filter_map(letter);
    Cow::Owned(letters.map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn an_id_that_fits_stays_and_others_are_replaced_alike() {
        assert_eq!(fitting("call_1", None), "call_1");
        assert_eq!(fitting("aB3xK9mP2", Some(9)), "aB3xK9mP2");
        let made = fitting("call_1", Some(9));
        assert!(made.len() == 9 && made.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(made, fitting("call_1", Some(9)));
        assert_ne!(made, fitting("call_2", Some(9)));
        assert_eq!(fitting("", Some(40)).len(), 40);
    }
}
