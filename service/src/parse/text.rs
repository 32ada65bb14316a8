//! Bytes to plain text: UTF-8, or UTF-16 that begins with a byte order mark.

use super::ParseError;

/// Types that can be read, for errors about the others.
pub(super) const SUPPORTED: &str = "plain text, Markdown, HTML and CSV (UTF-8, or UTF-16 with a byte order mark), \
     PDF and DOCX can be read";

/// The text without its byte order mark, lines ended by LF instead of CRLF.
pub(super) fn decode(bytes: &[u8]) -> Result<String, ParseError> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest)?.to_owned(),
        _ => utf8(bytes)?.to_owned(),
    };
    if let Some(at) = text.find('\0') {
        return Err(ParseError(format!("NUL at byte `{at}`, so it is no text; {SUPPORTED}")));
    }
    Ok(if text.contains('\r') { text.replace("\r\n", "\n") } else { text })
}

fn utf8(bytes: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(bytes).map_err(|error| {
        ParseError(format!("no UTF-8 at byte `{}`; {SUPPORTED}", error.valid_up_to()))
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, ParseError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> =
        char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(ParseError(format!("malformed UTF-16; {SUPPORTED}"))),
    }
}
