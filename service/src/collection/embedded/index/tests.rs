use super::*;
use crate::collection::filter::Comparison;
use crate::collection::{MetadataValue, passages};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tempfile::TempDir;

fn analyzer() -> Analyzer {
    Analyzer::new(Language::default())
}

fn metadata(attributes: &[(&str, MetadataValue)]) -> Metadata {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Metadata::new(attributes.collect::<BTreeMap<_, _>>()).expect("is valid")
}

/// An index of texts whose versions are their places, from 1.
fn index_of(texts: &[(&str, Metadata)]) -> (TempDir, CollectionIndex) {
    let folder = tempfile::tempdir().unwrap();
    let index = CollectionIndex::open(folder.path(), &analyzer()).unwrap().0;
    add(&index, texts);
    (folder, index)
}

fn add(index: &CollectionIndex, texts: &[(&str, Metadata)]) {
    let texts: Vec<_> = texts
        .iter()
        .map(|(text, metadata)| {
            let text = DocumentText::plain((*text).to_owned());
            let passages = passages::split(&text);
            let words = analyzer().texts().analyze(&text.text);
            (text, words, metadata, passages)
        })
        .collect();
    let documents = (1..).zip(&texts).map(|(version, (text, words, metadata, passages))| {
        IndexedDocument { version: Version(version), text, words, metadata, passages }
    });
    let documents: Vec<_> = documents.collect();
    let replaced: Vec<_> = documents.iter().map(|document| document.version).collect();
    index.write(&documents, &replaced).unwrap();
    index.reload().unwrap();
}

fn versions(index: &CollectionIndex, query: &str, filter: &Filter) -> Vec<u64> {
    let hits = index.searcher().top(query, filter, Granularity::Coarse, 100).unwrap();
    hits.iter().map(|hit| hit.version.0).collect()
}

const OTTER: (&str, Metadata) = ("otters swim", Metadata::EMPTY);

/// An overwritten document would be found twice, a deleted one still.
#[test]
fn versions_are_replaced_and_removed() {
    let (_folder, index) = index_of(&[OTTER, ("herons wait for otters", Metadata::EMPTY)]);
    assert_eq!(versions(&index, "otter", &Filter::ALL), [1, 2]);
    add(&index, &[("badgers dig", Metadata::EMPTY)]);
    assert_eq!(versions(&index, "otter", &Filter::ALL), [2]);
    assert_eq!(versions(&index, "badger", &Filter::ALL), [1]);
    index.write(&[], &[Version(2)]).unwrap();
    assert_eq!(versions(&index, "otter", &Filter::ALL), [2], "not shown before it is reloaded");
    index.reload().unwrap();
    assert_eq!(versions(&index, "otter", &Filter::ALL), [0; 0]);
    assert_eq!(index.searcher().versions().unwrap().whole, BTreeSet::from([Version(1)]));
}

/// A kill in the middle of a write, or a disk that lost a file, would keep the server from starting.
#[test]
fn what_is_damaged_is_made_anew() {
    let damages: [fn(&Path); 5] = [
        |folder| std::fs::remove_dir_all(folder).unwrap(),
        |folder| std::fs::write(folder.join("fine/meta.json"), "{").unwrap(),
        |folder| std::fs::write(folder.join(FORMAT_FILE), "0 english").unwrap(),
        |folder| {
            for entry in std::fs::read_dir(folder.join("coarse")).unwrap().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "term") {
                    std::fs::write(entry.path(), "").unwrap();
                }
            }
        },
        |folder| {
            for entry in std::fs::read_dir(folder.join("fine")).unwrap().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "idx") {
                    std::fs::remove_file(entry.path()).unwrap();
                }
            }
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        let (folder, index) = index_of(&[OTTER]);
        drop(index);
        let whole = CollectionIndex::open(folder.path(), &analyzer()).unwrap().0;
        assert_eq!(versions(&whole, "otter", &Filter::ALL), [1]);
        drop(whole);
        damage(folder.path());
        let index = CollectionIndex::open(folder.path(), &analyzer()).unwrap().0;
        assert!(index.searcher().versions().unwrap().any.is_empty(), "damage {number}");
        add(&index, &[OTTER]);
        assert_eq!(versions(&index, "otter", &Filter::ALL), [1], "damage {number}");
    }
    let (folder, _) = index_of(&[OTTER]);
    let other = CollectionIndex::open(folder.path(), &Analyzer::new(Language::None)).unwrap().0;
    assert!(other.searcher().versions().unwrap().any.is_empty(), "another language");
}

/// Snippets would show other text than what was found.
#[test]
fn hits_say_where_they_lie() {
    let text = DocumentText::paged(&["Är otter här?".to_owned(), "Heron.".to_owned()], true);
    let passages = passages::split(&text);
    let folder = tempfile::tempdir().unwrap();
    let index = CollectionIndex::open(folder.path(), &analyzer()).unwrap().0;
    let metadata = Metadata::default();
    let document = IndexedDocument {
        version: Version(7),
        text: &text,
        words: &analyzer().texts().analyze(&text.text),
        metadata: &metadata,
        passages: &passages,
    };
    index.write(&[document], &[]).unwrap();
    index.reload().unwrap();
    let hits = index.searcher().top("heron", &Filter::ALL, Granularity::Fine, 9).unwrap();
    assert_eq!(hits.iter().map(|hit| &hit.passage).collect::<Vec<_>>(), [&passages.fine[1]]);
}

/// The score as Lucene defines it.
fn bm25(texts: &[Vec<usize>], query: &[usize]) -> Vec<f32> {
    let count = texts.len() as f32;
    let mean = texts.iter().map(Vec::len).sum::<usize>() as f32 / count;
    let score = |text: &Vec<usize>| -> f32 {
        let terms = query.iter().map(|word| {
            let holding = texts.iter().filter(|text| text.contains(word)).count() as f32;
            let idf = (1.0 + (count - holding + 0.5) / (holding + 0.5)).ln();
            let times = text.iter().filter(|other| *other == word).count() as f32;
            let norm = 1.2 * (0.25 + 0.75 * text.len() as f32 / mean);
            idf * times * 2.2 / (times + norm)
        });
        terms.sum()
    };
    texts.iter().map(score).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Ranks would be another engine's, and no quality that was measured elsewhere would hold.
    #[test]
    fn scores_are_bm25(
        texts in prop::collection::vec(prop::collection::vec(0usize..20, 1..38), 2..12),
        query in prop::collection::vec(0usize..25, 1..6),
    ) {
        let words = |numbers: &[usize]| {
            numbers.iter().map(|number| format!("w{number}")).collect::<Vec<_>>().join(" ")
        };
        let written: Vec<String> = texts.iter().map(|text| words(text)).collect();
        let written: Vec<_> = written.iter().map(|text| (&**text, Metadata::EMPTY)).collect();
        let (_folder, index) = index_of(&written);
        let hits =
            index.searcher().top(&words(&query), &Filter::ALL, Granularity::Coarse, 100).unwrap();
        let expected = bm25(&texts, &query);
        prop_assert_eq!(hits.len(), expected.iter().filter(|score| **score > 0.0).count());
        for hit in hits {
            let score = expected[hit.version.0 as usize - 1];
            prop_assert!((hit.score - score).abs() < 1e-4 * score.max(1.0), "{} {score}", hit.score);
        }
    }

    /// The best passages would be passed over where there are many, or where a filter keeps few.
    #[test]
    fn the_best_are_found_whatever_is_passed_over(
        seed in any::<u64>(), words in 1usize..5, keep in prop::sample::select(vec![1u64, 2, 40]),
    ) {
        let mut state = seed;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        // Products make small numbers common.
        let mut text = |length: u64| {
            let words = (0..=random(length)).map(|_| format!("w{}", random(6) * random(6)));
            words.collect::<Vec<_>>().join(" ")
        };
        let query = text(words as u64);
        let texts: Vec<String> = (0..800).map(|_| text(30)).collect();
        let bucket = |at: usize| MetadataValue::One((at as u64 % keep).to_string());
        let all: Vec<_> = (0..).zip(&texts).map(|(at, text)| (&**text, metadata(&[("b", bucket(at))]))).collect();
        let (_folder, index) = index_of(&all);
        index.write(&[], &[Version(1), Version(41), Version(81)]).unwrap();
        index.reload().unwrap();
        let filter = match keep {
            1 => Filter::ALL,
            _ => Filter::Compare {
                attribute: "b".into(), comparison: Comparison::Equal, operand: "0".into(),
            },
        };
        let searcher = index.searcher();
        let everything = searcher.top(&query, &Filter::ALL, Granularity::Coarse, 2000).unwrap();
        let expected: Vec<_> = everything
            .into_iter()
            .filter(|hit| (hit.version.0 - 1).is_multiple_of(keep))
            .map(|hit| hit.score)
            .take(10)
            .collect();
        let found = searcher.top(&query, &filter, Granularity::Coarse, 10).unwrap();
        prop_assert!(found.iter().all(|hit| (hit.version.0 - 1).is_multiple_of(keep)));
        let scores: Vec<_> = found.iter().map(|hit| hit.score).collect();
        prop_assert_eq!(scores.len(), expected.len());
        for (score, expected) in scores.iter().zip(expected) {
            prop_assert!((score - expected).abs() <= 1e-6 * expected, "{scores:?} {expected}");
        }
    }

    /// A user would see documents that the filter forbids, or miss some that it allows.
    #[test]
    fn filters_keep_what_they_say(
        documents in prop::collection::vec(any_metadata(), 1..12),
        filter in any_filter(),
    ) {
        let texts: Vec<_> = documents.iter().map(|metadata| ("otter", metadata.clone())).collect();
        let (_folder, index) = index_of(&texts);
        let mut found = versions(&index, "otter", &filter);
        found.sort_unstable();
        let expected: Vec<u64> = (1..)
            .zip(&documents)
            .filter(|(_, metadata)| filter.keeps(metadata))
            .map(|(version, _)| version)
            .collect();
        prop_assert_eq!(found, expected);
    }

    /// Values longer than a term would be lost to their filters.
    #[test]
    fn long_values_are_never_missed(extra in 0usize..12, multibyte in any::<bool>(), filter in 0usize..5) {
        let unit = if multibyte { "é" } else { "x" };
        let value = unit.repeat(1000 / unit.len() - 6 + extra);
        let other = format!("{value}z");
        let operand = || value.clone();
        let compare = |comparison| Filter::Compare { attribute: "a".into(), comparison, operand: operand() };
        let filter = match filter {
            0 => compare(Comparison::Equal),
            1 => compare(Comparison::NotEqual),
            2 => compare(Comparison::Greater),
            3 => Filter::In { attribute: "a".into(), operands: BTreeSet::from([operand()]) },
            _ => Filter::NotIn { attribute: "a".into(), operands: BTreeSet::from([operand()]) },
        };
        let documents = [value.clone(), other].map(|value| metadata(&[("a", MetadataValue::One(value))]));
        let texts: Vec<_> = documents.iter().map(|metadata| ("otter", metadata.clone())).collect();
        let (_folder, index) = index_of(&texts);
        let found = versions(&index, "otter", &filter);
        for (version, metadata) in (1..).zip(&documents) {
            prop_assert!(!filter.keeps(metadata) || found.contains(&version));
        }
    }
}

fn any_value() -> impl Strategy<Value = String> + Clone {
    prop::sample::select(vec!["", "a", "ab", "b", "é", "\u{1}", "z z"]).prop_map(str::to_owned)
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let plain = prop::option::of(any_value());
    let list = prop::option::of(prop::collection::vec(any_value(), 0..3));
    (plain.clone(), plain, list).prop_map(|(x, xy, list)| {
        let one =
            |name, value: Option<String>| value.map(|value| (name, MetadataValue::One(value)));
        let many = list.map(|values| ("list:x", MetadataValue::Many(values)));
        let attributes = [one("x", x), one("xy", xy), many];
        metadata(&attributes.into_iter().flatten().collect::<Vec<_>>())
    })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let name = prop::sample::select(vec!["x", "xy", "none"]).prop_map(str::to_owned);
    let names = prop::sample::select(vec!["x", "xy", "list:x", "none"]).prop_map(str::to_owned);
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
    ]);
    let values = prop::collection::btree_set(any_value(), 0..3);
    let leaf = prop_oneof![
        (name, comparison, any_value()).prop_map(|(attribute, comparison, operand)| {
            Filter::Compare { attribute, comparison, operand }
        }),
        (names.clone(), values.clone())
            .prop_map(|(attribute, operands)| Filter::In { attribute, operands }),
        (names, values).prop_map(|(attribute, operands)| Filter::NotIn { attribute, operands }),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let inner = prop::collection::vec(inner, 0..3);
        prop_oneof![inner.clone().prop_map(Filter::And), inner.prop_map(Filter::Or)]
    })
}

/// A full disk would be taken for a broken index, and documents marked as failed for good.
#[test]
fn a_full_disk_is_known_by_what_it_says() {
    let in_thread = |text: &str| IndexError::from(TantivyError::ErrorInThread(text.to_owned()));
    let full = std::io::Error::from_raw_os_error(28);
    assert!(matches!(in_thread(&format!("Any {{ {full} }}")), IndexError::Full));
    assert!(matches!(in_thread(&format!("{full:?}")), IndexError::Full));
    let read_only = std::io::Error::from_raw_os_error(30);
    assert!(matches!(in_thread(&format!("{read_only:?}")), IndexError::ReadOnly));
    assert!(matches!(in_thread("a panic"), IndexError::Damaged(text) if text.contains("a panic")));
}
