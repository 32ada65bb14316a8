//! Documents and what they are made of.

use super::Metadata;
use crate::error::Error;
use jiff::Timestamp;
use std::fmt;
use std::ops::Range;
use uuid::Uuid;

/// A collection's name: 1 to 1024 bytes of UTF-8 without NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(String);

impl CollectionName {
    /// Most bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Checks the limits. [`Error::Invalid`].
    pub fn new(name: String) -> Result<Self, Error> {
        checked("collection_name", &name, Self::MAX_BYTES)?;
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document's name in its collection: 1 to 4096 bytes of UTF-8 without NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentPath(String);

impl DocumentPath {
    /// Most bytes.
    pub const MAX_BYTES: usize = 4096;

    /// Checks the limits. [`Error::Invalid`].
    pub fn new(path: String) -> Result<Self, Error> {
        checked("path", &path, Self::MAX_BYTES)?;
        Ok(Self(path))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn checked(field: &str, text: &str, most: usize) -> Result<(), Error> {
    let invalid = |message| Err(Error::Invalid { message });
    match text.len() {
        bytes if bytes == 0 || bytes > most => {
            invalid(format!("`{field}` is {bytes} bytes long; it may have 1 to {most}"))
        }
        _ if text.contains('\0') => invalid(format!("`{field}` must not contain NUL")),
        _ => Ok(()),
    }
}

/// What a document is added with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text, possibly in pages.
    Text(DocumentText),
    /// Bytes whose type is found from path and content.
    Auto(Vec<u8>),
}

/// A document's one string, to which all offsets refer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentText {
    /// The text, or all pages joined by `"\n"`.
    pub text: String,
    /// Where the pages are.
    pub pages: Pages,
}

/// The pages of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// It has none and counts as one.
    None,
    /// In reading order; for each page the byte at which it ends, joiner left out.
    Ordered(Vec<u32>),
    /// The same, with nothing to do with each other.
    Unordered(Vec<u32>),
}

impl DocumentText {
    /// Text without pages.
    pub fn plain(text: String) -> Self {
        Self { text, pages: Pages::None }
    }

    /// Joins pages.
    pub fn paged(pages: &[String], ordered: bool) -> Self {
        let text = pages.join("\n");
        let mut end = 0;
        let ends = pages.iter().enumerate().map(|(index, page)| {
            end += usize::from(index > 0) + page.len();
            end as u32
        });
        let ends = ends.collect();
        Self { text, pages: if ordered { Pages::Ordered(ends) } else { Pages::Unordered(ends) } }
    }

    /// The text of one page; page 0 of text without pages is all of it.
    pub fn page(&self, index: u64) -> Option<&str> {
        if self.pages == Pages::None {
            return (index == 0).then_some(&self.text);
        }
        let bytes = self.pages.bytes(u32::try_from(index).ok()?)?;
        Some(&self.text[bytes.start as usize..bytes.end as usize])
    }
}

impl Pages {
    /// How many; none for text without pages.
    pub fn count(&self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Ordered(ends) | Self::Unordered(ends) => Some(ends.len() as u32),
        }
    }

    /// The bytes of one page; none if there is no such page, as in text without pages.
    pub fn bytes(&self, index: u32) -> Option<Range<u32>> {
        let (Self::Ordered(ends) | Self::Unordered(ends)) = self else { return None };
        let end = *ends.get(index as usize)?;
        // The joiner lies between two pages.
        let start = index.checked_sub(1).map_or(0, |before| ends[before as usize] + 1);
        Some(start..end)
    }
}

/// A document to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDocument {
    /// Its name.
    pub path: DocumentPath,
    /// What it says.
    pub content: Content,
    /// What filters see.
    pub metadata: Metadata,
}

/// How far a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the hosted API's")]
pub enum DocumentStatus {
    NotParsed,
    Parsing,
    ParsingFailed,
    NotIndexed,
    Indexing,
    IndexingFailed,
    Indexed,
}

impl DocumentStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::NotParsed,
        Self::Parsing,
        Self::ParsingFailed,
        Self::NotIndexed,
        Self::Indexing,
        Self::IndexingFailed,
        Self::Indexed,
    ];

    /// As the hosted API writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotParsed => "not_parsed",
            Self::Parsing => "parsing",
            Self::ParsingFailed => "parsing_failed",
            Self::NotIndexed => "not_indexed",
            Self::Indexing => "indexing",
            Self::IndexingFailed => "indexing_failed",
            Self::Indexed => "indexed",
        }
    }
}

/// What happens to a document on its way into the search index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Event {
    ParseBegun,
    Parsed,
    ParseFailed,
    IndexBegun,
    Indexed,
    IndexFailed,
    MetadataReplaced,
    ParseAgain,
    IndexAgain,
    /// The process that was at work has ended.
    Restarted,
}

impl DocumentStatus {
    /// The status after an event; none where the event cannot happen.
    ///
    /// Source: the hosted API's document, `update-document`.
    pub const fn after(self, event: Event) -> Option<Self> {
        Some(match (self, event) {
            (Self::NotParsed, Event::ParseBegun) => Self::Parsing,
            (Self::Parsing, Event::ParseFailed) => Self::ParsingFailed,
            (Self::NotIndexed, Event::IndexBegun) => Self::Indexing,
            (Self::Indexing, Event::Indexed) => Self::Indexed,
            (Self::Indexing, Event::IndexFailed) => Self::IndexingFailed,
            (Self::Parsing, Event::Parsed)
            | (Self::Indexed, Event::MetadataReplaced)
            | (Self::IndexingFailed, Event::IndexAgain)
            | (Self::Indexing, Event::Restarted) => Self::NotIndexed,
            (Self::ParsingFailed, Event::ParseAgain) | (Self::Parsing, Event::Restarted) => {
                Self::NotParsed
            }
            _ => return None,
        })
    }

    /// Whether its text is known.
    pub const fn is_parsed(self) -> bool {
        !matches!(self, Self::NotParsed | Self::Parsing | Self::ParsingFailed)
    }
}

/// What a store tells of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// UUID version 7; a new one with every add and overwrite.
    pub id: Uuid,
    /// Its name.
    pub path: DocumentPath,
    /// Of the newest version.
    pub metadata: Metadata,
    /// How far the newest version is.
    pub status: DocumentStatus,
    /// When it was added or overwritten.
    pub created_at: Timestamp,
    /// Bytes of what was sent.
    pub size: u64,
    /// None while it is not parsed and for text without pages.
    pub num_pages: Option<u32>,
    /// Whether there are images of its pages.
    pub has_images: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document would be worked on twice, be stuck for ever, or be changed while it must not be.
    #[test]
    fn statuses_follow_the_hosted_api() {
        use DocumentStatus::{
            Indexed, Indexing, IndexingFailed, NotIndexed, NotParsed, Parsing, ParsingFailed,
        };
        let possible = [
            (NotParsed, Event::ParseBegun, Parsing),
            (Parsing, Event::Parsed, NotIndexed),
            (Parsing, Event::ParseFailed, ParsingFailed),
            (Parsing, Event::Restarted, NotParsed),
            (ParsingFailed, Event::ParseAgain, NotParsed),
            (NotIndexed, Event::IndexBegun, Indexing),
            (Indexing, Event::Indexed, Indexed),
            (Indexing, Event::IndexFailed, IndexingFailed),
            (Indexing, Event::Restarted, NotIndexed),
            (IndexingFailed, Event::IndexAgain, NotIndexed),
            (Indexed, Event::MetadataReplaced, NotIndexed),
        ];
        let events: Vec<Event> = possible.iter().map(|(_, event, _)| *event).collect();
        for from in DocumentStatus::ALL {
            for &event in &events {
                let known = possible.iter().find(|(at, on, _)| (*at, *on) == (from, event));
                assert_eq!(from.after(event), known.map(|(_, _, to)| *to), "{from:?} {event:?}");
            }
        }
    }
}
