//! DOCX to text: a paragraph a line, a table's row a line with its cells apart by tabs, notes at the end.

use super::{Budget, ParseError};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use std::io::{BufRead, BufReader, Cursor, Read};
use zip::ZipArchive;

const DOCUMENT: &str = "word/document.xml";
const NOTES: [&str; 2] = ["word/footnotes.xml", "word/endnotes.xml"];

/// The document's text, then its footnotes and endnotes.
pub(super) fn text(bytes: &[u8], budget: &Budget) -> Result<String, ParseError> {
    let malformed = |error: &dyn std::fmt::Display| ParseError(format!("malformed ZIP: {error}"));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| malformed(&error))?;
    if archive.index_for_name(DOCUMENT).is_none() {
        return Err(ParseError(format!(
            "a ZIP without `{DOCUMENT}` is no DOCX; {}",
            super::text::SUPPORTED
        )));
    }
    let mut writer = Writer { budget, text: String::new(), cells: 0, hidden: 0 };
    let mut left = budget.limits.expanded_bytes as u64;
    for part in std::iter::once(DOCUMENT).chain(NOTES) {
        if archive.index_for_name(part).is_none() {
            continue;
        }
        let entry = archive.by_name(part).map_err(|error| malformed(&error))?;
        // What the header says of the size is not believed.
        let mut xml = BufReader::new(entry.take(left + 1));
        let read = writer.read(&mut xml);
        left = xml.into_inner().limit().checked_sub(1).ok_or_else(|| budget.expanded())?;
        read?;
    }
    writer.text.truncate(writer.text.trim_end_matches('\n').len());
    Ok(writer.text)
}

struct Writer<'a> {
    budget: &'a Budget,
    text: String,
    /// Cells of tables that are open: in them a paragraph ends in a space.
    cells: usize,
    /// Elements that are open and bring no text of their own: what older programs are shown instead of what
    /// came before, and how a paragraph looks, where tabs are stops.
    hidden: usize,
}

impl Writer<'_> {
    fn read(&mut self, xml: &mut impl BufRead) -> Result<(), ParseError> {
        let mut reader = Reader::from_reader(xml);
        let mut buffer = Vec::new();
        // Only what is inside `t` is text; what stands between elements is layout of the XML.
        let mut in_text = false;
        for event in 0_u32.. {
            if event.is_multiple_of(1024) {
                self.budget.time()?;
            }
            buffer.clear();
            let event = reader.read_event_into(&mut buffer);
            match event.map_err(|error| ParseError(format!("malformed XML: {error}")))? {
                Event::Start(tag) => {
                    in_text = tag.local_name().as_ref() == "t";
                    self.start(tag.local_name().as_ref())?;
                }
                Event::Empty(tag) => {
                    self.start(tag.local_name().as_ref())?;
                    self.end(tag.local_name().as_ref())?;
                }
                Event::End(tag) => {
                    in_text = false;
                    self.end(tag.local_name().as_ref())?;
                }
                Event::Text(text) if in_text => self.push(&text.xml10_content())?,
                Event::CData(text) if in_text => self.push(&text.xml10_content())?,
                Event::GeneralRef(name) if in_text => match name.resolve_char_ref() {
                    Ok(Some(char)) => self.push(char.encode_utf8(&mut [0; 4]))?,
                    _ => self.push(resolve_predefined_entity(&name).unwrap_or_default())?,
                },
                Event::Eof => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn start(&mut self, name: &str) -> Result<(), ParseError> {
        match name {
            "tc" => self.cells += 1,
            "Fallback" | "pPr" => self.hidden += 1,
            "tab" => self.push("\t")?,
            "br" | "cr" => self.push(if self.cells > 0 { " " } else { "\n" })?,
            "noBreakHyphen" => self.push("-")?,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<(), ParseError> {
        match name {
            "p" => self.push(if self.cells > 0 { " " } else { "\n" })?,
            "tc" => {
                self.cells = self.cells.saturating_sub(1);
                self.instead_of(' ', "\t")?;
            }
            "tr" => self.instead_of('\t', "\n")?,
            "Fallback" | "pPr" => self.hidden = self.hidden.saturating_sub(1),
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), ParseError> {
        if self.hidden == 0 {
            self.budget.text(self.text.len() + text.len())?;
            self.text.push_str(text);
        }
        Ok(())
    }

    fn instead_of(&mut self, last: char, text: &str) -> Result<(), ParseError> {
        if self.hidden == 0 && self.text.ends_with(last) {
            self.text.pop();
        }
        self.push(text)
    }
}
