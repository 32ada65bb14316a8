use super::*;
use proptest::prelude::*;

fn paged(pages: &[&str], ordered: bool) -> DocumentText {
    let pages: Vec<String> = pages.iter().map(|&page| page.to_owned()).collect();
    DocumentText::paged(&pages, ordered)
}

fn contents<'a>(text: &'a str, passages: &[Passage]) -> Vec<&'a str> {
    passages
        .iter()
        .map(|passage| &text[passage.bytes.start as usize..passage.bytes.end as usize])
        .collect()
}

/// Pieces that are hard to cut: marks that join, clusters of any length, white space of every kind.
fn piece() -> impl Strategy<Value = String> {
    let one = proptest::sample::select(vec![
        "word ",
        "A sentence. ",
        "line\n",
        "paragraph.\n\n",
        "\r\n",
        "\r",
        "\u{2029}",
        "\u{c}",
        " ",
        "\t",
        "\u{3000}",
        "漢字。",
        "ไทย",
        "e\u{301}",
        "\u{301}",
        "\u{200d}",
        "👩‍👩‍👧",
        "🇩🇪",
        "\u{600}",
        "क्ष",
        "각",
        "3.14",
        "\"Quote.\" ",
        "\0",
        "\u{feff}",
        "ﷺ",
    ]);
    prop_oneof![
        8 => (one.clone(), 1..40_usize).prop_map(|(piece, times)| piece.repeat(times)),
        1 => (one, 100..600_usize).prop_map(|(piece, times)| piece.repeat(times)),
        2 => any::<String>(),
    ]
}

fn document() -> impl Strategy<Value = DocumentText> {
    let page = || proptest::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat());
    prop_oneof![
        page().prop_map(DocumentText::plain),
        (proptest::collection::vec(page(), 1..6), any::<bool>())
            .prop_map(|(pages, ordered)| DocumentText::paged(&pages, ordered)),
    ]
}

/// What every list of passages keeps, whatever the text.
fn check(document: &DocumentText, passages: &[Passage], size: Size, one_page: bool) {
    let text = &document.text;
    let boundaries: Vec<usize> =
        text.grapheme_indices(true).map(|(byte, _)| byte).chain([text.len()]).collect();
    let mut covered = 0;
    for passage in passages {
        let bytes = passage.bytes.start as usize..passage.bytes.end as usize;
        let content = &text[bytes.clone()];
        assert!(text[covered..bytes.start].trim().is_empty(), "text between passages is lost");
        covered = bytes.end;
        assert!(!content.is_empty() && content.trim() == content, "{content:?}");
        let by_chars: String =
            text.chars().skip(passage.chars.start as usize).take(passage.chars.len()).collect();
        assert_eq!(by_chars, content);
        assert!(passage.chars.len() <= size.most);

        for edge in [bytes.start, bytes.end] {
            let next = boundaries.partition_point(|boundary| *boundary < edge);
            let cluster = next
                .checked_sub(1)
                .map_or("", |before| &text[boundaries[before]..boundaries[next]]);
            let beside_white = text[..edge].ends_with(char::is_whitespace)
                || text[edge..].starts_with(char::is_whitespace);
            assert!(
                boundaries[next] == edge || beside_white || cluster.chars().count() > size.most,
                "{cluster:?} is parted"
            );
        }

        let mut pages = content.char_indices().filter_map(|(at, _)| {
            let byte = bytes.start + at;
            let count = document.pages.count().unwrap_or(1);
            let mut start = 0;
            (0..count).find(|page| {
                let end = start + document.page(u64::from(*page)).unwrap().len();
                let found = (start..end).contains(&byte);
                start = end + 1;
                found
            })
        });
        let first = pages.next().unwrap();
        assert_eq!(passage.pages, first..pages.next_back().unwrap_or(first) + 1);
        assert!(!one_page || passage.pages.len() == 1);
    }
    assert!(text[covered..].trim().is_empty(), "the end of the text is lost");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// A snippet that is not the slice its offsets name, or text that no snippet can show.
    #[test]
    fn passages_cover_the_text(document in document()) {
        let passages = split(&document);
        let unordered = matches!(document.pages, Pages::Unordered(_));
        check(&document, &passages.coarse, COARSE, unordered);
        check(&document, &passages.fine, FINE, true);
        prop_assert_eq!(split(&document), passages);
    }

    /// Very short passages rank high by their length alone: text without white space and clusters
    /// that are long must not have any but where a page ends.
    #[test]
    fn passages_are_not_short(words in proptest::collection::vec("[a-zA-Z]{1,12}[.,]?[ \n]", 1..2000)) {
        let document = DocumentText::plain(words.concat());
        let passages = split(&document);
        for (size, passages) in [(COARSE, passages.coarse), (FINE, passages.fine)] {
            let longest_gap = 1;
            let short = passages.iter().filter(|one| one.chars.len() + longest_gap < size.least);
            prop_assert!(short.count() <= usize::from(passages.len() == 1));
        }
    }
}

/// Snippets would begin and end in the middle of what belongs together.
#[test]
fn the_best_end_is_chosen() {
    let words = |count: usize| "word ".repeat(count);
    let part =
        |text: &str| contents(text, &split(&DocumentText::plain(text.to_owned())).fine)[0].len();
    // Each is alone where a passage may end: characters 100 to 240.
    assert_eq!(part(&format!("{}paragraph\n\n{}End. {}", words(25), words(10), words(40))), 134);
    assert_eq!(part(&format!("{}End.\" Next {}line\n{}", words(25), words(10), words(40))), 130);
    assert_eq!(part(&format!("{}e.g. {}line\n{}", words(22), words(12), words(40))), 179);
    assert_eq!(part(&"漢".repeat(500)), 600);
    assert_eq!(part(&format!("{}。{}", "漢".repeat(120), "字".repeat(300))), 363);
    assert_eq!(part(&format!("{}-{}", "a".repeat(150), "b".repeat(300))), 151);
    // A mark on top of the full stop belongs to it.
    assert_eq!(part(&format!("{}。\u{301}{}", "漢".repeat(150), "字".repeat(300))), 599);
}

/// A page's snippet would be cited with the wrong page, or a record's with its neighbour's words.
#[test]
fn pages_end_passages() {
    let page = "A sentence of words. ".repeat(70);
    let pages = [page.as_str(), "", " \n", &page, "end"];
    let ordered = split(&paged(&pages, true));
    let spans = |passages: &[Passage]| -> Vec<(u32, u32)> {
        passages.iter().map(|passage| (passage.pages.start, passage.pages.end)).collect()
    };
    assert_eq!(spans(&ordered.coarse), [(0, 1), (3, 5)]);
    assert!(ordered.fine.iter().all(|passage| passage.pages.len() == 1));
    let unordered = split(&paged(&pages, false));
    assert_eq!(spans(&unordered.coarse), [(0, 1), (3, 4), (4, 5)]);
    assert_eq!(split(&DocumentText::plain("text".to_owned())).fine[0].pages, 0..1);
    assert_eq!(split(&paged(&["", " ", "\n"], true)), Passages::default());
}

/// One document of megabytes without an end in it would hold up all others for hours.
#[test]
fn endless_text_is_cut_in_linear_time() {
    const BYTES: usize = 1_000_000;
    for piece in ["a", " ", "a.", "\u{301}", "👩‍", "\u{600}", "1. ", "\n", "a\u{301} "] {
        let text = piece.repeat(BYTES / piece.len());
        let passages = split(&DocumentText::plain(text));
        assert!(passages.fine.iter().all(|passage| passage.chars.len() <= FINE.most));
    }
    let pages = vec![" ".repeat(500); BYTES / 500];
    assert_eq!(split(&DocumentText::paged(&pages, false)), Passages::default());
}
