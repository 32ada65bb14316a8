//! CSV to unordered pages: a record is a page of `column: value` lines.

use super::{Budget, PageWriter, ParseError, text};
use crate::collection::{DocumentText, Pages};

/// One page a record; the first record names the columns. Values without a column stand alone, empty ones
/// are left out.
pub(super) fn records(bytes: &[u8], budget: &Budget) -> Result<DocumentText, ParseError> {
    let text = text::decode(bytes)?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let malformed = |error: csv::Error| ParseError(format!("malformed CSV: {error}"));
    let columns = reader.headers().map_err(malformed)?.clone();

    let mut pages = PageWriter::new(budget);
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(malformed)? {
        pages.begin()?;
        let mut separator = "";
        for (index, value) in record.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
            pages.push(separator)?;
            if let Some(column) = columns.get(index).filter(|column| !column.is_empty()) {
                pages.push(column)?;
                pages.push(": ")?;
            }
            pages.push(value)?;
            separator = "\n";
        }
        pages.end();
    }
    Ok(pages.finish(Pages::Unordered))
}
