//! Bytes of a file to text, and pages to images; limits on size, pages, time and expansion.
//!
//! Pure but for time: the readers of PDF, DOCX, HTML and CSV are below. None of them may take the process
//! with it, whatever the bytes: panics are caught, what grows is counted while it grows, and PDF, whose
//! reader cannot be told to stop, has a thread that can be left behind (`detached`).

mod csv;
mod detached;
mod detect;
mod docx;
mod html;
mod image;
mod pdf;
#[cfg(test)]
mod tests;
mod text;

use crate::collection::{DocumentText, Pages};
use detect::Kind;
pub use detect::content_type;
pub use image::page_image;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What one file may cost.
#[derive(Clone, Copy, Debug)]
pub struct ParseLimits {
    /// Most bytes of text that may come out.
    pub text_bytes: usize,
    /// Most pages.
    pub pages: usize,
    /// Most bytes that compressed parts may become.
    pub expanded_bytes: usize,
    /// Longest time.
    pub time: Duration,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self {
            text_bytes: 32 << 20,
            pages: 10_000,
            expanded_bytes: 256 << 20,
            time: Duration::from_mins(1),
        }
    }
}

/// Why a file gave no text. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

/// Finds the text of a file. The type comes from the bytes and the path's ending.
///
/// CSV becomes unordered pages, one a record; PDF its pages; everything else text without pages. So ordered
/// pages have images, and nothing else has.
pub fn parse(path: &str, bytes: &[u8], limits: &ParseLimits) -> Result<DocumentText, ParseError> {
    let budget = Budget::new(*limits);
    let parsed = catch_unwind(AssertUnwindSafe(|| match detect::kind(path, bytes)? {
        Kind::Text | Kind::Markdown => {
            let text = text::decode(bytes)?;
            budget.text(text.len())?;
            Ok(DocumentText::plain(text))
        }
        Kind::Html => html::text(bytes, &budget).map(DocumentText::plain),
        Kind::Csv => csv::records(bytes, &budget),
        Kind::Pdf => pdf::pages(bytes, budget),
        Kind::Docx => docx::text(bytes, &budget).map(DocumentText::plain),
    }));
    parsed.unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// The error of a reader that panicked: a bug there, and to the caller a file that cannot be read.
fn panicked(payload: &(dyn Any + Send)) -> ParseError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    ParseError(format!("the file is malformed; its reader panicked: {text}"))
}

/// What is left of the limits of one file.
#[derive(Clone, Copy, Debug)]
struct Budget {
    limits: ParseLimits,
    started: Instant,
}

impl Budget {
    fn new(limits: ParseLimits) -> Self {
        Self { limits, started: Instant::now() }
    }

    /// Checks the bytes of text so far.
    fn text(&self, bytes: usize) -> Result<(), ParseError> {
        Self::check(bytes, self.limits.text_bytes, "bytes of text")
    }

    /// Checks the number of pages.
    fn pages(&self, pages: usize) -> Result<(), ParseError> {
        Self::check(pages, self.limits.pages, "pages")
    }

    fn check(value: usize, limit: usize, what: &str) -> Result<(), ParseError> {
        if value > limit {
            return Err(ParseError(format!("more than `{limit}` {what}; split the file")));
        }
        Ok(())
    }

    /// The error of a file that unpacks to more than it may.
    fn expanded(&self) -> ParseError {
        let limit = self.limits.expanded_bytes;
        ParseError(format!("its parts unpack to more than `{limit}` bytes; split the file"))
    }

    /// Checks the time.
    fn time(&self) -> Result<(), ParseError> {
        if self.left().is_zero() {
            return Err(self.late());
        }
        Ok(())
    }

    fn left(&self) -> Duration {
        self.limits.time.saturating_sub(self.started.elapsed())
    }

    fn late(&self) -> ParseError {
        let seconds = self.limits.time.as_secs_f64();
        ParseError(format!("reading it takes longer than `{seconds}` s; split the file"))
    }
}

/// Pages as they are found, in the form of [`DocumentText::paged`], held to the limits.
struct PageWriter<'a> {
    budget: &'a Budget,
    text: String,
    ends: Vec<u32>,
}

impl<'a> PageWriter<'a> {
    fn new(budget: &'a Budget) -> Self {
        Self { budget, text: String::new(), ends: Vec::new() }
    }

    fn begin(&mut self) -> Result<(), ParseError> {
        self.budget.time()?;
        self.budget.pages(self.ends.len() + 1)?;
        if !self.ends.is_empty() {
            self.text.push('\n');
        }
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), ParseError> {
        self.budget.text(self.text.len() + text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    fn end(&mut self) {
        self.ends.push(self.text.len() as u32);
    }

    fn finish(self, pages: fn(Vec<u32>) -> Pages) -> DocumentText {
        DocumentText { text: self.text, pages: pages(self.ends) }
    }
}
