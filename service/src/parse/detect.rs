//! What kind of file it is: magic bytes first, then the path's ending, then whether it is text.

use super::ParseError;
use super::text::SUPPORTED;

/// Kinds of files that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Markdown,
    Html,
    Csv,
    Pdf,
    Docx,
}

const PDF: &[u8] = b"%PDF-";
const ZIP: &[u8] = b"PK\x03\x04";
/// Readers of PDF look for its mark this far, and so much is enough to know HTML.
const HEAD: usize = 1024;

/// The kind of a file, which may still be malformed; text is checked when it is decoded.
pub(super) fn kind(path: &str, bytes: &[u8]) -> Result<Kind, ParseError> {
    let ending = ending(path);
    let head = &bytes[..bytes.len().min(HEAD)];
    if bytes.starts_with(PDF) {
        return Ok(Kind::Pdf);
    }
    if bytes.starts_with(ZIP) {
        return Ok(Kind::Docx);
    }
    let mismatch = || {
        Err(ParseError(format!(
            "its path ends in `.{ending}`, its bytes are another type's; {SUPPORTED}"
        )))
    };
    match ending.as_str() {
        "pdf" if is_pdf(bytes) => Ok(Kind::Pdf),
        "pdf" | "docx" => mismatch(),
        "html" | "htm" | "xhtml" => Ok(Kind::Html),
        "csv" => Ok(Kind::Csv),
        "md" | "markdown" => Ok(Kind::Markdown),
        "txt" | "text" => Ok(Kind::Text),
        _ if begins_html(head) => Ok(Kind::Html),
        _ => Ok(Kind::Text),
    }
}

/// Whether the mark of a PDF is where its readers look for it.
pub(super) fn is_pdf(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(HEAD)];
    head.windows(PDF.len()).any(|window| window == PDF)
}

/// The media type under which a document's original bytes are downloaded; `is_auto`: its type has to be
/// found, otherwise it was sent as text.
pub fn content_type(path: &str, bytes: &[u8], is_auto: bool) -> &'static str {
    let charset = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Charset::Utf16,
        _ if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) => Charset::Utf8,
        _ => Charset::Unknown,
    };
    let kind = if is_auto { kind(path, bytes) } else { Ok(Kind::Text) };
    match (kind, charset) {
        (Ok(Kind::Pdf), _) => "application/pdf",
        (Ok(Kind::Docx), _) if ending(path) == "docx" => {
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
        }
        (Ok(Kind::Docx), _) => "application/zip",
        (Ok(Kind::Html), Charset::Utf8) => "text/html; charset=utf-8",
        (Ok(Kind::Html), Charset::Utf16) => "text/html; charset=utf-16",
        (Ok(Kind::Html), Charset::Unknown) => "text/html",
        (Ok(Kind::Csv), Charset::Utf8) => "text/csv; charset=utf-8",
        (Ok(Kind::Csv), Charset::Utf16) => "text/csv; charset=utf-16",
        (Ok(Kind::Markdown), Charset::Utf8) => "text/markdown; charset=utf-8",
        (Ok(Kind::Markdown), Charset::Utf16) => "text/markdown; charset=utf-16",
        (Ok(Kind::Text), Charset::Utf8) => "text/plain; charset=utf-8",
        (Ok(Kind::Text), Charset::Utf16) => "text/plain; charset=utf-16",
        _ if !is_auto => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[derive(Clone, Copy)]
enum Charset {
    Utf8,
    Utf16,
    Unknown,
}

/// What follows the last dot of the path's last part, in lower case.
fn ending(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default()
}

fn begins_html(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    [b"<!doctype html".as_slice(), b"<html"]
        .iter()
        .any(|start| head.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
}
