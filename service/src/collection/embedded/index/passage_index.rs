//! One tantivy index, of passages of one granularity.

use super::analyzer::by_word;
use super::kept::Kept;
use super::ranking::Ranking;
use super::{Analyzer, IndexError, IndexedDocument, RawHit, filter, guarded};
use crate::collection::filter::Filter;
use crate::collection::{Passage, Passages, Version};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tantivy::columnar::Column;
use tantivy::merge_policy::LogMergePolicy;
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::{
    Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, SegmentReader,
    TantivyDocument, Term,
};

/// Memory of a writer: full, it becomes a segment. One thread, because each granularity has a writer.
const WRITER_BYTES: usize = 64 << 20;

/// Of a segment's passages so many may be deleted before it is written anew: they take room, and words count
/// them.
const DELETED: f32 = 0.3;

const ANALYZER: &str = "words";

/// Where a passage lies: columns in the order of [`Place::values`].
const PLACE: [&str; 6] =
    ["start_byte", "end_byte", "start_char", "end_char", "start_page", "end_page"];

#[derive(Clone, Debug)]
struct Fields {
    words: Field,
    attributes: Field,
    version: Field,
    place: [Field; PLACE.len()],
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let words = TextFieldIndexing::default()
        .set_tokenizer(ANALYZER)
        .set_index_option(IndexRecordOption::WithFreqs);
    let attributes = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    let text = |indexing| TextOptions::default().set_indexing_options(indexing);
    let fields = Fields {
        words: schema.add_text_field("words", text(words)),
        attributes: schema.add_text_field("attributes", text(attributes)),
        version: schema.add_u64_field("version", INDEXED | FAST),
        place: PLACE.map(|name| schema.add_u64_field(name, FAST)),
    };
    (schema.build(), fields)
}

/// Passages of one granularity.
pub(super) struct PassageIndex {
    index: Index,
    reader: IndexReader,
    fields: Fields,
    analyzer: Analyzer,
    /// None until it is needed, and after an error.
    writer: Mutex<Option<IndexWriter>>,
}

impl std::fmt::Debug for PassageIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassageIndex").field("index", &self.index).finish_non_exhaustive()
    }
}

impl PassageIndex {
    pub(super) fn create(folder: PathBuf, analyzer: &Analyzer) -> Result<Self, IndexError> {
        std::fs::create_dir_all(&folder)?;
        let (schema, _) = schema();
        let settings = IndexSettings::default();
        let index = Index::builder().schema(schema).settings(settings).create_in_dir(folder)?;
        Self::with(index, analyzer)
    }

    pub(super) fn open(folder: PathBuf, analyzer: &Analyzer) -> Result<Self, IndexError> {
        Self::with(Index::open_in_dir(folder)?, analyzer)
    }

    fn with(index: Index, analyzer: &Analyzer) -> Result<Self, IndexError> {
        let (schema, fields) = schema();
        if index.schema() != schema {
            return Err(IndexError::Damaged("the fields are others".to_owned()));
        }
        index.tokenizers().register(ANALYZER, by_word());
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let writer = Mutex::default();
        Ok(Self { index, reader, fields, analyzer: analyzer.clone(), writer })
    }

    /// See [`CollectionIndex::write`](super::CollectionIndex::write).
    pub(super) fn write(
        &self,
        add: &[IndexedDocument<'_>],
        remove: &[Version],
        passages: fn(&Passages) -> &Vec<Passage>,
    ) -> Result<(), IndexError> {
        let mut kept = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken, so that after an error it is dropped with what it holds.
        let mut writer = match kept.take() {
            Some(writer) => writer,
            None => self.new_writer()?,
        };
        for version in remove {
            writer.delete_term(Term::from_field_u64(self.fields.version, version.0));
        }
        let mut words = self.analyzer.texts();
        for document in add {
            let attributes: Vec<_> = filter::terms(document.metadata).collect();
            for passage in passages(document.passages) {
                let text = match document.words.part(&passage.bytes) {
                    Some(part) => part,
                    None => words.all(&document.text.text[range(&passage.bytes)]),
                };
                let indexed = self.document(document.version, passage, text, &attributes);
                let added = writer.add_document(indexed);
                if let Err(killed) = added {
                    // The thread that failed says why when it is joined.
                    return Err(writer.commit().err().unwrap_or(killed).into());
                }
            }
        }
        writer.commit()?;
        *kept = Some(writer);
        Ok(())
    }

    fn new_writer(&self) -> Result<IndexWriter, IndexError> {
        let writer = self.index.writer_with_num_threads(1, WRITER_BYTES)?;
        let mut policy = LogMergePolicy::default();
        policy.set_del_docs_ratio_before_merge(DELETED);
        writer.set_merge_policy(Box::new(policy));
        // A process that was killed before its commit leaves files of the names that come next.
        writer.garbage_collect_files().wait()?;
        Ok(writer)
    }

    fn document(
        &self,
        version: Version,
        passage: &Passage,
        text: &str,
        attributes: &[String],
    ) -> TantivyDocument {
        let Fields { words, attributes: attribute, version: number, place } = &self.fields;
        let Passage { bytes, chars, pages } = passage;
        let mut indexed = TantivyDocument::new();
        indexed.add_text(*words, text);
        for term in attributes {
            indexed.add_text(*attribute, term);
        }
        indexed.add_u64(*number, version.0);
        let values = [bytes.start, bytes.end, chars.start, chars.end, pages.start, pages.end];
        for (field, value) in place.iter().zip(values) {
            indexed.add_u64(*field, value.into());
        }
        indexed
    }

    pub(super) fn reload(&self) -> Result<(), IndexError> {
        Ok(self.reader.reload()?)
    }

    /// Reads every file and compares it with its checksum.
    pub(super) fn check(&self) -> Result<(), IndexError> {
        match self.index.validate_checksum()?.into_iter().next() {
            None => Ok(()),
            Some(file) => Err(IndexError::Damaged(format!("`{}` is damaged", file.display()))),
        }
    }

    pub(super) fn searcher(&self) -> PassageSearcher {
        PassageSearcher {
            searcher: self.reader.searcher(),
            fields: self.fields.clone(),
            analyzer: self.analyzer.clone(),
        }
    }

    pub(super) fn release(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && let Err(error) = guarded(|| Ok(writer.wait_merging_threads()?))
        {
            tracing::warn!(%error, "merging a search index failed");
        }
    }

    /// Whether it holds what writing takes.
    pub(super) fn is_writable(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

fn range(bytes: &Range<u32>) -> Range<usize> {
    bytes.start as usize..bytes.end as usize
}

/// A snapshot of a [`PassageIndex`].
pub(super) struct PassageSearcher {
    searcher: Searcher,
    fields: Fields,
    analyzer: Analyzer,
}

impl PassageSearcher {
    pub(super) fn top(
        &self,
        query: &str,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<RawHit>, IndexError> {
        let words = self.analyzer.query(query);
        if words.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let ranking = Ranking::new(&self.searcher, self.fields.words, words)?;
        let mut best = ranking.best(limit);
        for (number, segment) in (0..).zip(self.searcher.segment_readers()) {
            best.add(number, segment, self.kept(filter, segment)?.as_ref())?;
        }
        let mut columns: Vec<Option<Columns>> = Vec::new();
        columns.resize_with(self.searcher.segment_readers().len(), || None);
        best.into_sorted()
            .into_iter()
            .map(|(score, address)| {
                let segment = address.segment_ord as usize;
                let columns = match &mut columns[segment] {
                    Some(columns) => columns,
                    empty => empty
                        .insert(Columns::open(self.searcher.segment_reader(address.segment_ord))?),
                };
                Ok(columns.hit(address.doc_id, score))
            })
            .collect()
    }

    /// The passages of a segment that a filter keeps; none: all.
    fn kept(&self, filter: &Filter, segment: &SegmentReader) -> Result<Option<Kept>, IndexError> {
        if *filter == Filter::ALL {
            return Ok(None);
        }
        Ok(Some(filter::kept(filter, segment, self.fields.attributes)?))
    }

    pub(super) fn versions(&self) -> Result<BTreeSet<Version>, IndexError> {
        let mut versions = BTreeSet::new();
        for segment in self.searcher.segment_readers() {
            let column = segment.fast_fields().u64("version")?;
            versions
                .extend(segment.doc_ids_alive().filter_map(|doc| column.first(doc)).map(Version));
        }
        Ok(versions)
    }
}

/// The columns of a segment.
struct Columns {
    version: Column<u64>,
    place: [Column<u64>; PLACE.len()],
}

impl Columns {
    fn open(segment: &SegmentReader) -> Result<Self, IndexError> {
        let fields = segment.fast_fields();
        let [a, b, c, d, e, f] = PLACE.map(|name| fields.u64(name));
        Ok(Self { version: fields.u64("version")?, place: [a?, b?, c?, d?, e?, f?] })
    }

    fn hit(&self, doc: u32, score: f32) -> RawHit {
        let value = |column: &Column<u64>| column.first(doc).unwrap_or_default();
        let [start_byte, end_byte, start_char, end_char, start_page, end_page] =
            self.place.each_ref().map(|column| value(column) as u32);
        let passage = Passage {
            bytes: start_byte..end_byte,
            chars: start_char..end_char,
            pages: start_page..end_page,
        };
        RawHit { version: Version(value(&self.version)), passage, score }
    }
}
