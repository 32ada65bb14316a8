//! HTML to its visible text: white space as a browser shows it, a blank line between paragraphs, cells of a
//! table apart by tabs.
//!
//! Tags are read one by one and never become a tree, so that no nesting is too deep.

use super::{Budget, ParseError, text};
use encoding_rs::Encoding;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use std::borrow::Cow;
use std::cell::RefCell;

/// Between pieces of this many bytes the limits are looked at.
const PIECE_BYTES: usize = 16 << 10;
/// A page declares its encoding within this many bytes.
const HEAD_BYTES: usize = 1024;

/// The visible text, its title first.
pub(super) fn text(bytes: &[u8], budget: &Budget) -> Result<String, ParseError> {
    let html = decode(bytes)?;
    let options = TokenizerOpts { discard_bom: false, ..TokenizerOpts::default() };
    let tokenizer = Tokenizer::new(Sink::default(), options);
    let queue = BufferQueue::default();
    let mut rest = html.as_ref();
    while !rest.is_empty() {
        budget.time()?;
        budget.text(tokenizer.sink.0.borrow().text.len())?;
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        queue.push_back(StrTendril::from_slice(piece));
        // The tokenizer pauses for a sink that wants to act; this one never does.
        let _ = tokenizer.feed(&queue);
        rest = after;
    }
    tokenizer.end();
    let text = tokenizer.sink.0.into_inner().text;
    budget.text(text.len())?;
    Ok(text)
}

/// As other text; also in the encoding that the page declares.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ParseError> {
    match (text::decode(bytes), declared(bytes)) {
        (Err(_), Some(encoding)) if encoding != encoding_rs::UTF_8 => {
            match encoding.decode_without_bom_handling_and_without_replacement(bytes) {
                Some(text) => Ok(text),
                None => {
                    Err(ParseError(format!("malformed `{}`, which it declares", encoding.name())))
                }
            }
        }
        (decoded, _) => decoded.map(Cow::Owned),
    }
}

/// The encoding after the first `charset=`.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    const KEY: &[u8] = b"charset=";
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let at = head.windows(KEY.len()).position(|window| window.eq_ignore_ascii_case(KEY))?;
    let label = head[at + KEY.len()..].trim_ascii_start();
    let label = label.strip_prefix(b"\"").or(label.strip_prefix(b"'")).unwrap_or(label);
    Encoding::for_label(label.split(|byte| b"\"'; />".contains(byte)).next()?)
}

/// What stands between two words, the stronger one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    #[default]
    None,
    Space,
    Cell,
    Line,
    Paragraph,
}

impl Gap {
    /// What a tag puts where it stands.
    fn around(name: &str) -> Self {
        match name {
            "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "pre" | "ul" | "ol"
            | "dl" | "table" | "hr" | "figure" | "fieldset" | "form" | "article" | "section"
            | "header" | "footer" | "main" | "nav" | "aside" | "title" | "body" | "details" => {
                Self::Paragraph
            }
            "div" | "li" | "tr" | "br" | "dt" | "dd" | "option" | "optgroup" | "caption"
            | "figcaption" | "address" | "legend" | "summary" | "center" | "textarea"
            | "select" => Self::Line,
            "td" | "th" => Self::Cell,
            "button" | "img" | "input" => Self::Space,
            _ => Self::None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Space => " ",
            Self::Cell => "\t",
            Self::Line => "\n",
            Self::Paragraph => "\n\n",
        }
    }
}

/// Elements whose text no reader sees.
const HIDDEN: [&str; 12] = [
    "script", "style", "template", "noscript", "iframe", "object", "audio", "video", "canvas",
    "noembed", "noframes", "datalist",
];

#[derive(Default)]
struct Sink(RefCell<Writer>);

#[derive(Default)]
struct Writer {
    text: String,
    gap: Gap,
    /// The hidden element that is open, and how many of its name.
    hidden: Option<(String, usize)>,
    /// How many `pre` are open: there white space stays.
    preformatted: usize,
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut writer = self.0.borrow_mut();
        match token {
            Token::TagToken(tag) => return writer.tag(&tag),
            Token::CharacterTokens(text) => writer.characters(&text),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl Writer {
    fn tag(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name = &*tag.name;
        let is_start = tag.kind == TagKind::StartTag;
        if let Some((hidden, depth)) = &mut self.hidden {
            if hidden == name {
                *depth = if is_start { *depth + 1 } else { *depth - 1 };
                if *depth == 0 {
                    self.hidden = None;
                }
            }
        } else if is_start && HIDDEN.contains(&name) {
            self.hidden = Some((name.to_owned(), 1));
        } else {
            self.gap = self.gap.max(Gap::around(name));
            if name == "pre" {
                self.preformatted = if is_start {
                    self.preformatted + 1
                } else {
                    self.preformatted.saturating_sub(1)
                };
            }
        }
        match name {
            _ if !is_start => TokenSinkResult::Continue,
            "script" => TokenSinkResult::RawData(RawKind::ScriptData),
            "style" | "xmp" | "iframe" | "noembed" | "noframes" => {
                TokenSinkResult::RawData(RawKind::Rawtext)
            }
            "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
            "plaintext" => TokenSinkResult::Plaintext,
            _ => TokenSinkResult::Continue,
        }
    }

    fn characters(&mut self, characters: &str) {
        if self.hidden.is_some() {
            return;
        }
        if self.preformatted > 0 {
            self.word(characters);
            return;
        }
        if characters.starts_with(|c: char| c.is_ascii_whitespace()) {
            self.gap = self.gap.max(Gap::Space);
        }
        for word in characters.split_ascii_whitespace() {
            self.word(word);
            self.gap = Gap::Space;
        }
        if !characters.ends_with(|c: char| c.is_ascii_whitespace()) && self.gap == Gap::Space {
            self.gap = Gap::None;
        }
    }

    fn word(&mut self, word: &str) {
        if !self.text.is_empty() {
            self.text.push_str(self.gap.text());
        }
        self.gap = Gap::None;
        self.text.push_str(word);
    }
}
