//! Words to hits: the index's passages, joined with what the database says of their documents.

use super::index::RawHit;
use super::{Inner, reads, rows};
use crate::collection::{CollectionName, Found, Granularity, Hit, Passage, Search, Unit, Version};
use crate::error::Error;
use rusqlite::Connection;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Hits that the index gives beyond those asked for, at first: some may be of documents that are gone.
const SPARE: usize = 16;
/// Passages after which equal scores are taken as they come: there is no more order to find in them.
const MOST_TIED: usize = 5_000;
/// Scores that differ by less than this part are equal to whoever passes over blocks of postings: the order in
/// which words are added up is not always the same.
const ROUNDING: f32 = 1e-6;

/// A document as it is found, and where its content is.
type Known = Option<(Arc<Found>, i64)>;

pub(super) fn search(
    inner: &Inner,
    name: &CollectionName,
    search: &Search,
) -> Result<Vec<Hit>, Error> {
    let number = inner.readers.read(|connection| rows::collection(connection, name))?;
    let searchable = inner.indexes.get(number);
    searchable.consistent(&inner.readers, |connection, searcher| {
        // It may have been deleted meanwhile, or made anew.
        if rows::collection(connection, name)? != number {
            return Ok(Vec::new());
        }
        let granularity = match search.unit {
            Unit::Passage(granularity) => granularity,
            Unit::Page => Granularity::Fine,
            Unit::Document => Granularity::Coarse,
        };
        let mut known = HashMap::new();
        let mut asked = search.limit.saturating_add(SPARE);
        loop {
            let raw = searcher.top(&search.query, &search.filter, granularity, asked)?;
            let is_all = raw.len() < asked;
            let last = raw.last().map_or(0.0, |hit| hit.score * (1.0 + ROUNDING));
            let mut hits = join(connection, search, raw, &mut known)?;
            // Equal scores are in the order of paths, which takes all of them.
            let is_decided = hits
                .get(search.limit.saturating_sub(1))
                .is_some_and(|worst| last < worst.0.score || asked >= MOST_TIED);
            if is_all || is_decided {
                hits.truncate(search.limit);
                let hits = hits.into_iter();
                let hits = hits.map(|(hit, content)| with_text(connection, search, hit, content));
                return Ok(hits.collect::<Result<_, _>>()?);
            }
            asked = asked.saturating_mul(2);
        }
    })
}

/// The hits of documents that are there and that the filter keeps, each unit once, in order.
fn join(
    connection: &Connection,
    search: &Search,
    raw: Vec<RawHit>,
    known: &mut HashMap<Version, Known>,
) -> Result<Vec<(Hit, i64)>, Error> {
    let mut units = HashSet::new();
    let mut hits = Vec::new();
    for RawHit { version, passage, score } in raw {
        let found = match known.entry(version) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(
                reads::found(connection, version)?
                    .filter(|(found, _)| search.filter.keeps(&found.metadata))
                    .map(|(found, content)| (Arc::new(found), content)),
            ),
        };
        let Some((document, content)) = found else { continue };
        let place = match search.unit {
            Unit::Passage(_) => passage.bytes.start,
            Unit::Page => passage.pages.start,
            Unit::Document => 0,
        };
        // The first of a unit is its best.
        if units.insert((version, place)) {
            let document = Arc::clone(document);
            hits.push((Hit { document, passage, score, text: None }, *content));
        }
    }
    hits.sort_by(|(a, _), (b, _)| {
        let place = |hit: &Hit| hit.passage.bytes.start;
        b.score
            .total_cmp(&a.score)
            .then_with(|| a.document.path.cmp(&b.document.path))
            .then_with(|| place(a).cmp(&place(b)))
    });
    Ok(hits)
}

fn with_text(
    connection: &Connection,
    search: &Search,
    hit: Hit,
    content: i64,
) -> Result<Hit, Error> {
    if !search.with_text {
        return Ok(hit);
    }
    let Passage { bytes, pages, .. } = &hit.passage;
    let text = if search.unit == Unit::Page {
        let all = rows::content_pages(connection, content)?;
        rows::page_text(connection, content, &all, pages.start)?
    } else {
        rows::text_range(connection, content, bytes.clone())?
    };
    Ok(Hit { text: Some(text), ..hit })
}
