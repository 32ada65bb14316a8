//! Cuts a document's text into passages.
//!
//! Pure: `DocumentText -> Passages`, the same for the same text, in time linear in its length.
//!
//! Each passage takes what follows the last one up to the best end within its size: the end of a page,
//! else of a paragraph, a sentence, a line, a word; of several the one nearest to the target. White space
//! between passages belongs to none. A grapheme cluster is parted only from white space at its edge, or
//! where it is longer than a passage may be.

use super::{DocumentText, Pages, Passage, Passages};
use std::cmp::Reverse;
use std::ops::Range;
use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

/// How many code points a passage has.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// The fewest, if there is text enough and no grapheme cluster in the way.
    least: usize,
    target: usize,
    /// Never more.
    most: usize,
}

const COARSE: Size = Size { least: 1000, target: 2000, most: 2400 };
const FINE: Size = Size { least: 100, target: 200, most: 240 };

/// What ends before white space or behind a sentence, better ones later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Word,
    Line,
    Sentence,
    Paragraph,
    Page,
}

/// Finds the passages at both granularities.
///
/// Fine passages and those of unordered pages lie in one page; coarse ones of ordered pages may go on into
/// the next.
pub fn split(text: &DocumentText) -> Passages {
    let ends = match &text.pages {
        Pages::None => [].as_slice(),
        Pages::Ordered(ends) | Pages::Unordered(ends) => ends,
    };
    let by_page = matches!(text.pages, Pages::Unordered(_));
    Passages {
        coarse: passages(&text.text, ends, COARSE, by_page),
        fine: passages(&text.text, ends, FINE, true),
    }
}

fn passages(text: &str, ends: &[u32], size: Size, by_page: bool) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut place = Place { text, byte: 0, char: 0 };
    let whole = [text.len() as u32];
    for section_end in if by_page && !ends.is_empty() { ends } else { &whole } {
        let section_end = *section_end as usize;
        let end = place.byte + text[place.byte..section_end].trim_end().len();
        loop {
            let rest = &text[place.byte..end];
            let start = end - rest.trim_start().len();
            if start == end {
                break;
            }
            let start_char = place.advance(start);
            let cut = start + cut(&text[start..end], size, |byte| is_end(ends, start + byte));
            let stop = start + text[start..cut].trim_end().len();
            let stop_char = place.advance(stop);
            passages.push(Passage {
                bytes: start as u32..stop as u32,
                chars: start_char..stop_char,
                pages: page_of(ends, start)..page_of(ends, stop - 1) + 1,
            });
        }
        place.advance(section_end);
    }
    passages
}

/// A place in the text that only moves on.
struct Place<'a> {
    text: &'a str,
    byte: usize,
    char: u32,
}

impl Place<'_> {
    /// Moves to a byte; returns its number in code points.
    fn advance(&mut self, byte: usize) -> u32 {
        self.char += self.text[self.byte..byte].chars().count() as u32;
        self.byte = byte;
        self.char
    }
}

fn is_end(ends: &[u32], byte: usize) -> bool {
    ends.binary_search(&(byte as u32)).is_ok()
}

/// The page that a byte lies in; page 0 of text without pages.
fn page_of(ends: &[u32], byte: usize) -> u32 {
    ends.partition_point(|end| *end as usize <= byte) as u32
}

/// The byte at which the first passage of `rest` ends. `rest` has no white space at its edges.
fn cut(rest: &str, size: Size, is_joiner: impl Fn(usize) -> bool) -> usize {
    let Some((most_byte, next)) = rest.char_indices().nth(size.most) else { return rest.len() };
    // Boundaries up to `most` depend on one code point more at most; what lies beyond may be long.
    let window = &rest[..most_byte + next.len_utf8()];
    let beyond = rest[most_byte..].chars().take(size.least).count();
    let room =
        Room { chars: size.least..size.most + 1 - (size.least - beyond), target: size.target };
    best_end(window, &room, is_joiner).or_else(|| best_cluster(window, &room)).unwrap_or(most_byte)
}

/// Where a passage may end, in code points.
struct Room {
    chars: Range<usize>,
    target: usize,
}

/// The best place so far, as a byte.
struct Best<'a, K> {
    room: &'a Room,
    found: Option<((K, Reverse<usize>), usize)>,
}

impl<'a, K: Ord + Copy> Best<'a, K> {
    fn new(room: &'a Room) -> Self {
        Self { room, found: None }
    }

    /// Takes a place that is better, or as good and nearer to the target.
    fn offer(&mut self, kind: K, chars: usize, byte: usize) {
        let rank = (kind, Reverse(chars.abs_diff(self.room.target)));
        if self.room.chars.contains(&chars) && self.found.is_none_or(|(best, _)| best < rank) {
            self.found = Some((rank, byte));
        }
    }

    fn byte(self) -> Option<usize> {
        self.found.map(|(_, byte)| byte)
    }
}

/// The best end of something in the room.
fn best_end(window: &str, room: &Room, is_joiner: impl Fn(usize) -> bool) -> Option<usize> {
    struct Gap {
        chars: usize,
        byte: usize,
        end: End,
    }
    let mut best = Best::new(room);
    let mut sentence = Sentence::Open;
    let mut gap: Option<Gap> = None;
    for (chars, (byte, char)) in window.char_indices().enumerate() {
        if char.is_whitespace() {
            let gap = gap.get_or_insert(Gap { chars, byte, end: End::Word });
            gap.end = gap.end.max(match char {
                '\n' if is_joiner(byte) => End::Page,
                '\n' | '\u{85}' | '\u{2028}' if gap.end == End::Word => End::Line,
                '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{c}' => End::Paragraph,
                _ => End::Word,
            });
        } else if let Some(Gap { chars, byte, end }) = gap.take() {
            let is_end = sentence != Sentence::Open && !char.is_lowercase();
            best.offer(if is_end { end.max(End::Sentence) } else { end }, chars, byte);
            sentence = Sentence::Open.after(char);
        } else {
            let ended = sentence;
            sentence = ended.after(char);
            if ended == Sentence::EndedWide
                && sentence == Sentence::Open
                && is_boundary(window, byte)
            {
                best.offer(End::Sentence, chars, byte);
            }
        }
    }
    if let Some(Gap { chars, byte, end }) = gap {
        best.offer(
            if sentence == Sentence::Open { end } else { end.max(End::Sentence) },
            chars,
            byte,
        );
    }
    best.byte()
}

/// Whether a grapheme cluster ends at a byte.
fn is_boundary(text: &str, byte: usize) -> bool {
    GraphemeCursor::new(byte, text.len(), true).is_boundary(text, 0).unwrap_or(false)
}

/// For text without white space: the end of a word, else of a cluster, else the last before the room.
fn best_cluster(window: &str, room: &Room) -> Option<usize> {
    let mut best = Best::new(room);
    let mut before = None;
    let from = window.char_indices().nth(room.chars.start - 1).map_or(0, |(byte, _)| byte);
    let words = window[from..].split_word_bound_indices().skip(1);
    let mut words = words.map(|(byte, _)| from + byte).peekable();
    let mut chars = 0;
    for (byte, cluster) in window.grapheme_indices(true) {
        while words.next_if(|word| *word < byte).is_some() {}
        best.offer(words.peek() == Some(&byte), chars, byte);
        if byte > 0 && best.found.is_none() {
            before = Some(byte);
        }
        chars += cluster.chars().count();
    }
    best.byte().or(before)
}

/// Whether what came last ends a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sentence {
    Open,
    /// By a mark that white space has to follow: `3.14` is no end.
    Ended,
    /// By a mark of a script that writes no spaces.
    EndedWide,
}

impl Sentence {
    fn after(self, char: char) -> Self {
        match char {
            '.' | '!' | '?' | '…' | '‽' | '؟' | '۔' | '।' | '॥' | '։' | '።' => {
                Self::Ended
            }
            '。' | '！' | '？' | '．' | '｡' | '။' | '។' => Self::EndedWide,
            '"' | '\'' | ')' | ']' | '}' | '’' | '”' | '»' | '›' | '」' | '』' | '）' | '】'
            | '》' | '〉' => self,
            _ => Self::Open,
        }
    }
}

#[cfg(test)]
mod tests;
