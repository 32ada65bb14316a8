//! PDF to ordered pages of text, from the text layer.
//!
//! `hayro` runs a page's drawing operators; [`words`] is the device that they draw on, which keeps what is
//! written and where.

mod expansion;
mod words;

use super::{Budget, PageWriter, ParseError, detached};
use crate::collection::{DocumentText, Pages};
use hayro::hayro_interpret::{Context, InterpreterCache, InterpreterSettings, interpret_page};
use hayro::hayro_syntax::{LoadPdfError, Pdf};
use hayro::kurbo::{Affine, Rect};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use words::{Stop, Words};

/// The text of each page.
pub(super) fn pages(bytes: &[u8], budget: Budget) -> Result<DocumentText, ParseError> {
    let bytes = bytes.to_vec();
    detached::run(&budget, move || read(bytes, &budget))
}

fn read(bytes: Vec<u8>, budget: &Budget) -> Result<DocumentText, ParseError> {
    let pdf = open(bytes, budget)?;
    budget.pages(pdf.pages().len())?;
    let cache = InterpreterCache::new();
    let mut pages = PageWriter::new(budget);
    for page in pdf.pages().iter() {
        pages.begin()?;
        let mut context = Context::new(
            Affine::IDENTITY,
            Rect::new(0.0, 0.0, 1.0, 1.0),
            &cache,
            pdf.xref(),
            InterpreterSettings::default(),
        );
        let mut words = Words::new(budget, budget.limits.text_bytes - pages.text.len());
        let run = catch_unwind(AssertUnwindSafe(|| interpret_page(page, &mut context, &mut words)));
        if let Err(panic) = run {
            match panic.downcast::<Stop>() {
                Ok(stop) => return Err(stop.0),
                Err(panic) => resume_unwind(panic),
            }
        }
        pages.push(words.finish().trim_end())?;
        pages.end();
    }
    if pages.text.trim().is_empty() {
        return Err(ParseError(
            "the PDF has no text layer; pages that are images cannot be read".to_owned(),
        ));
    }
    Ok(pages.finish(Pages::Ordered))
}

/// Opens a PDF whose streams stay within the limits.
pub(super) fn open(bytes: Vec<u8>, budget: &Budget) -> Result<Pdf, ParseError> {
    expansion::check(&bytes, budget)?;
    Pdf::new(bytes).map_err(|error| {
        ParseError(match error {
            LoadPdfError::Decryption(_) => "the PDF is encrypted; remove its password".to_owned(),
            LoadPdfError::Invalid => "malformed PDF".to_owned(),
        })
    })
}
