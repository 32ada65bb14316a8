//! Links that are their own permission: to what was sent as a document, and to images of its pages.
//!
//! Owns the form of a token and its signature; the time comes in as an argument. A link ends with the
//! document's id, which an overwrite changes, and at the end of a day, so that a client that asks
//! twice gets one link twice and its cache has a use.
//!
//! `(what, expiry) -> HMAC-SHA256 -> token -> URL`, and back

mod secret;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use std::fmt;
use uuid::Uuid;

pub use secret::{Secret, SecretError};

/// How long a link lives at least, in seconds.
const LIFE: i64 = 7 * DAY;
const DAY: i64 = 24 * 60 * 60;

/// Kind, id, page, day of expiry.
const PAYLOAD: usize = 1 + 16 + 4 + 4;
const SIGNATURE: usize = 32;

/// What a link gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Download {
    /// The bytes that were sent as the document with this id.
    Document(Uuid),
    /// An image of one of its pages, which count from 0.
    PageImage(Uuid, u32),
}

/// A link that is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// What it gives.
    pub download: Download,
    /// Seconds until it ends.
    pub seconds_left: u64,
}

/// Makes and checks links.
#[derive(Clone)]
pub struct UrlSigner {
    mac: Hmac<Sha256>,
    /// Without a slash at its end.
    base: Option<String>,
}

impl UrlSigner {
    /// With a public address, links begin with it, else with what each client has called.
    pub fn new(secret: &Secret, public_url: Option<&str>) -> Self {
        let mac = Hmac::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
        let base = public_url.map(|url| url.trim_end_matches('/').to_owned());
        Self { mac, base }
    }

    /// A link for a client that has called `host`, as `https://name:port`; relative to the server for
    /// one whose protocol is another, `""`.
    pub fn url(&self, download: Download, host: &str, now: Timestamp) -> String {
        let base = self.base.as_deref().unwrap_or(host);
        let route = match download {
            Download::Document(_) => "get-document",
            Download::PageImage(..) => "get-page-image",
        };
        format!("{base}/v1/documents/{route}?token={}", self.token(download, now))
    }

    fn token(&self, download: Download, now: Timestamp) -> String {
        let expiry = u32::try_from((now.as_second() + LIFE + DAY - 1) / DAY).unwrap_or_default();
        let (kind, id, page) = match download {
            Download::Document(id) => (b'd', id, 0),
            Download::PageImage(id, page) => (b'p', id, page),
        };
        let mut token = Vec::with_capacity(PAYLOAD + SIGNATURE);
        token.push(kind);
        token.extend(id.as_bytes());
        token.extend(page.to_be_bytes());
        token.extend(expiry.to_be_bytes());
        let signature = self.mac.clone().chain_update(&token).finalize().into_bytes();
        token.extend(signature);
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// What a token permits; none if this server has not made it, or its time is over.
    pub fn check(&self, token: &str, now: Timestamp) -> Option<Permit> {
        let mut bytes = [0; PAYLOAD + SIGNATURE];
        let read = BASE64_URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
        let (payload, signature) = bytes[..read].split_at_checked(PAYLOAD)?;
        self.mac.clone().chain_update(payload).verify_slice(signature).ok()?;
        let (&kind, rest) = payload.split_first()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (page, rest) = rest.split_first_chunk()?;
        let (expiry, _) = rest.split_first_chunk()?;
        let id = Uuid::from_bytes(*id);
        let download = match kind {
            b'd' => Download::Document(id),
            b'p' => Download::PageImage(id, u32::from_be_bytes(*page)),
            _ => return None,
        };
        let seconds = i64::from(u32::from_be_bytes(*expiry)) * DAY - now.as_second();
        let seconds_left = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0)?;
        Some(Permit { download, seconds_left })
    }
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSigner").field("base", &self.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
