//! Who is calling: API keys and what each may do.
//!
//! Owns the keys file's grammar and the check of a request's `authorization`; knows no protocol and
//! reads no file. Keys are kept as SHA-256 digests and appear in no message.
//!
//! `text of the file -> Keys -> check(authorization) -> Principal`

use crate::error::Error;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// More keys than this are a mistake: each may hold a bucket of the rate limits.
const MAX_KEYS: usize = 10_000;

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// `name=` in the keys file, else `line N`; `anonymous` where no keys are configured.
    pub name: Arc<str>,
    /// May read and score, not write.
    pub read_only: bool,
    /// Which key; none where no keys are configured.
    pub key: Option<KeyId>,
}

impl Principal {
    /// The caller where no keys are configured: everybody.
    pub fn anonymous() -> Self {
        Self { name: "anonymous".into(), read_only: false, key: None }
    }
}

/// The SHA-256 of a key. Its text is not shown: short keys could be guessed from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The digest of a key as a client sends it.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// From 64 hexadecimal digits.
    fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
            *byte = (high? * 16 + low?) as u8;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId")
    }
}

/// The configured keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(HashMap<KeyId, Principal>);

impl Keys {
    /// Reads a keys file: a key a line, then optional words `name=NAME` and `read_only`.
    ///
    /// The key is everything before those words, spaces within it included, or `sha256:` and the 64
    /// hexadecimal digits of its digest. `#` at the start of a line or after white space begins a
    /// comment.
    ///
    /// # Errors
    /// One sentence with the line's number and never with the line's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = HashMap::new();
        let mut lines = HashMap::new();
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let parsed =
                parse_line(number, line).map_err(|what| format!("line {number}: {what}"))?;
            let Some((id, principal)) = parsed else { continue };
            if let Some(earlier) = lines.insert(id, number) {
                return Err(format!("line {number}: the same key as in line {earlier}"));
            }
            keys.insert(id, principal);
            if keys.len() > MAX_KEYS {
                return Err(format!("line {number}: more than {MAX_KEYS} keys"));
            }
        }
        if keys.is_empty() {
            return Err("no key in it: nobody could call, and it is more likely a mistake".into());
        }
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The caller whose `authorization` this is.
    ///
    /// # Errors
    /// [`Error::NoKey`] without one, or with another scheme than `Bearer`; [`Error::WrongKey`].
    pub fn check(&self, authorization: Option<&[u8]>) -> Result<Principal, Error> {
        let key = authorization.and_then(bearer).ok_or(Error::NoKey)?;
        // What is looked up and compared is the digest of what the caller sent. How long that takes
        // tells of the digests only, and to choose one's own digest is to break SHA-256.
        self.0.get(&KeyId::of(key)).cloned().ok_or(Error::WrongKey)
    }
}

/// The key after `Bearer`, in any case.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let authorization = authorization.trim_ascii();
    let (scheme, key) = authorization.split_at_checked("bearer".len())?;
    let key = key.strip_prefix(b" ")?.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !key.is_empty()).then_some(key)
}

fn parse_line(number: usize, line: &str) -> Result<Option<(KeyId, Principal)>, &'static str> {
    let text = without_comment(line).trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (key, words) = split_words(text);
    if key.is_empty() {
        return Err("no key before `name=` and `read_only`");
    }
    let mut name = None;
    let mut read_only = false;
    for word in words.split_whitespace() {
        if word == "read_only" {
            read_only = true;
        } else if let Some(value) = word.strip_prefix("name=").filter(|value| !value.is_empty()) {
            if name.replace(value).is_some() {
                return Err("two names");
            }
        } else {
            return Err("after the key there is room for `name=NAME` and `read_only` only; a key \
                        that holds such a word must be written as `sha256:` and its digest");
        }
    }
    if key.chars().any(char::is_control) {
        return Err("a key cannot hold control characters");
    }
    let id = match key.strip_prefix("sha256:") {
        Some(digits) => KeyId::from_hex(digits)
            .ok_or("`sha256:` needs the 64 hexadecimal digits of the key's digest")?,
        None => KeyId::of(key.as_bytes()),
    };
    let name = name.map_or_else(|| format!("line {number}"), str::to_owned);
    Ok(Some((id, Principal { name: name.into(), read_only, key: Some(id) })))
}

/// What stands before a `#` that begins the line or follows white space.
fn without_comment(line: &str) -> &str {
    let mut before = None;
    for (at, character) in line.char_indices() {
        if character == '#' && before.is_none_or(char::is_whitespace) {
            return &line[..at];
        }
        before = Some(character);
    }
    line
}

/// The key, and from the first `name=...` or `read_only` on the rest.
fn split_words(text: &str) -> (&str, &str) {
    let mut at = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        let trimmed = word.trim_end();
        if trimmed == "read_only" || trimmed.starts_with("name=") {
            let (key, words) = text.split_at(at);
            return (key.trim_end(), words);
        }
        at += word.len();
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        Keys::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn name(keys: &Keys, authorization: &str) -> Option<String> {
        keys.check(Some(authorization.as_bytes())).ok().map(|found| found.name.to_string())
    }

    /// The hosted API's own test key has spaces; others hold `#` or `=`.
    #[test]
    fn keys_are_told_from_words_and_comments() {
        let keys = keys(
            "\u{feff}# who may call\n\nMy API Key name=search read_only # the test key\r\n\
             ze_1#2=3\n  ze_4  read_only\n\
             sha256:2C70E12B7A0646F92279F427C7B38E7334D8E5389CFF167A1DC30E73F826B683 name=digest\n",
        );
        assert_eq!(keys.count(), 4);
        assert_eq!(name(&keys, "Bearer My API Key").as_deref(), Some("search"));
        assert_eq!(name(&keys, "Bearer ze_1#2=3").as_deref(), Some("line 4"));
        assert_eq!(name(&keys, "bearer   ze_4 ").as_deref(), Some("line 5"));
        assert_eq!(name(&keys, "BEARER key").as_deref(), Some("digest"));
        let read_only = |key: &str| keys.check(Some(key.as_bytes())).map(|found| found.read_only);
        assert!(matches!(read_only("Bearer My API Key"), Ok(true)));
        assert!(matches!(read_only("Bearer ze_1#2=3"), Ok(false)));
    }

    /// Whoever guesses a prefix, an empty key or a digest would be let in.
    #[test]
    fn anything_else_is_refused() {
        let keys = keys(
            "My API Key\nsha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683",
        );
        for none in ["", "Bearer", "Bearer ", "Basic My API Key", "My API Key", "BearerMy API Key"]
        {
            assert!(matches!(keys.check(Some(none.as_bytes())), Err(Error::NoKey)), "{none}");
        }
        assert!(matches!(keys.check(None), Err(Error::NoKey)));
        for wrong in [
            "My API",
            "My  API Key",
            "my api key",
            "sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683",
        ] {
            assert_eq!(name(&keys, &format!("Bearer {wrong}")), None, "{wrong}");
        }
    }

    /// A mistake in one line must not open the server, shut it, or put the key into a log.
    #[test]
    fn mistakes_are_told_by_line_and_without_the_key() {
        for (text, part) in [
            ("secret name=a readonly", "line 1: after the key"),
            ("secret name=", "line 1: after the key"),
            ("secret name=a name=b", "line 1: two names"),
            ("secret\n read_only", "line 2: no key"),
            ("secret\n\nsecret name=again", "line 3: the same key as in line 1"),
            ("sha256:12", "line 1: `sha256:` needs"),
            ("sec\u{7}ret", "line 1: a key cannot hold control"),
            ("# nobody\n", "no key in it"),
            ("", "no key in it"),
        ] {
            let error = Keys::parse(text).expect_err(text);
            assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}");
        }
        let shown = format!("{:?}", keys("secret name=a"));
        assert!(!shown.contains("secret") && shown.contains("KeyId"), "{shown}");
    }
}
