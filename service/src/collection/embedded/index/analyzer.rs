//! Text to the words that are searched for.
//!
//! Text is brought to its compatible composed form (NFKC) and parted into words by Unicode (UAX #29), in lower
//! case, stemmed. Scripts that write without spaces become single characters and pairs of neighbours; a query
//! looks for the pairs, and for a single character only where it stands alone. Stop words are kept: BM25 weighs
//! them.

use icu_normalizer::ComposingNormalizerBorrowed;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use tantivy::tokenizer::{self, RawTokenizer, TextAnalyzer, Token, TokenStream, Tokenizer};
use unicode_segmentation::UnicodeSegmentation;

/// Words are cut to this many characters: longer ones are no words.
const LONGEST: usize = 64;
/// Distinct words of a query that are looked for.
const QUERY_WORDS: usize = 1024;
/// Words whose stems are remembered: most of a text's words come again and again.
const STEMS: usize = 1 << 16;

const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();

/// Whose endings words lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Words stay as they are.
    None,
    /// By the Snowball stemmer of a language.
    Stemmed(tokenizer::Language),
}

/// The names of the languages.
const LANGUAGES: [(&str, tokenizer::Language); 18] = [
    ("arabic", tokenizer::Language::Arabic),
    ("danish", tokenizer::Language::Danish),
    ("dutch", tokenizer::Language::Dutch),
    ("english", tokenizer::Language::English),
    ("finnish", tokenizer::Language::Finnish),
    ("french", tokenizer::Language::French),
    ("german", tokenizer::Language::German),
    ("greek", tokenizer::Language::Greek),
    ("hungarian", tokenizer::Language::Hungarian),
    ("italian", tokenizer::Language::Italian),
    ("norwegian", tokenizer::Language::Norwegian),
    ("portuguese", tokenizer::Language::Portuguese),
    ("romanian", tokenizer::Language::Romanian),
    ("russian", tokenizer::Language::Russian),
    ("spanish", tokenizer::Language::Spanish),
    ("swedish", tokenizer::Language::Swedish),
    ("tamil", tokenizer::Language::Tamil),
    ("turkish", tokenizer::Language::Turkish),
];

impl Default for Language {
    fn default() -> Self {
        Self::Stemmed(tokenizer::Language::English)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = LANGUAGES.iter().find(|(_, language)| Self::Stemmed(*language) == *self);
        f.write_str(name.map_or("none", |(name, _)| name))
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let found = LANGUAGES.iter().find(|(name, _)| *name == text);
        found.map(|(_, language)| Self::Stemmed(*language)).ok_or_else(|| {
            let names: Vec<_> = LANGUAGES.iter().map(|(name, _)| *name).collect();
            format!("`{text}` is not one of none, {}", names.join(", "))
        })
    }
}

/// Makes words of texts and queries.
#[derive(Clone, Debug)]
pub struct Analyzer {
    language: Language,
}

impl Analyzer {
    /// One that stems by `language`.
    pub fn new(language: Language) -> Self {
        Self { language }
    }

    /// The language.
    pub fn language(&self) -> Language {
        self.language
    }

    /// What finds the words of texts, one after the other.
    pub(in super::super) fn texts(&self) -> Words {
        Words::new(self.language, Purpose::Text)
    }

    /// The distinct words of a query with how often each is there, most of them.
    pub(super) fn query(&self, query: &str) -> Vec<(String, u32)> {
        let mut words = Words::new(self.language, Purpose::Query);
        words.split(query);
        let mut counts = BTreeMap::new();
        for word in words.found.text.split_terminator(END) {
            if counts.len() < QUERY_WORDS || counts.contains_key(word) {
                *counts.entry(word.to_owned()).or_insert(0) += 1;
            }
        }
        counts.into_iter().collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Text,
    Query,
}

/// Follows each word that was found; part of none.
const END: char = '\0';

/// Splits texts into words; all that a text has at once, because runs of characters are looked at as a whole.
pub(in super::super) struct Words {
    purpose: Purpose,
    found: Found,
    /// Characters without spaces between them.
    run: Vec<char>,
    stems: Stems,
}

#[derive(Default)]
struct Found {
    /// Words, each with its [`END`].
    text: String,
    units: Vec<Unit>,
}

/// A word of the source, or neighbours that are looked at together.
#[derive(Clone, Copy)]
struct Unit {
    start: u32,
    end: u32,
    /// Where its words end.
    found_end: u32,
}

impl Found {
    fn end_word(&mut self) {
        self.text.push(END);
    }

    fn end_unit(&mut self, start: usize, end: usize) {
        let found_end = self.text.len() as u32;
        self.units.push(Unit { start: start as u32, end: end as u32, found_end });
    }
}

/// The words of a text, as a field of tantivy takes them from its passages: with [`by_word`].
pub(in super::super) struct AnalyzedText(Found);

impl AnalyzedText {
    /// The words of a part of the text; none if a word goes beyond it, or it was not looked at as a whole.
    pub(super) fn part(&self, bytes: &Range<u32>) -> Option<&str> {
        let Found { text, units } = &self.0;
        let first = units.partition_point(|unit| unit.start < bytes.start);
        let last = units.partition_point(|unit| unit.end <= bytes.end);
        let before = first.checked_sub(1).map(|before| units[before]);
        let is_cut = before.is_some_and(|unit| unit.end > bytes.start)
            || units.get(last).is_some_and(|unit| unit.start < bytes.end);
        if units.is_empty() || is_cut {
            return None;
        }
        let found_end = |unit: Option<Unit>| unit.map_or(0, |unit| unit.found_end as usize);
        Some(&text[found_end(before)..found_end(last.checked_sub(1).map(|unit| units[unit]))])
    }
}

/// What tantivy parts the words again with.
pub(super) fn by_word() -> TextAnalyzer {
    TextAnalyzer::from(ByWord(Token::default()))
}

#[derive(Clone)]
struct ByWord(Token);

struct WordStream<'a> {
    token: &'a mut Token,
    words: std::str::SplitTerminator<'a, char>,
}

impl Tokenizer for ByWord {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.0.reset();
        WordStream { token: &mut self.0, words: text.split_terminator(END) }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.next() else { return false };
        self.token.text.clear();
        self.token.text.push_str(word);
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

impl Words {
    fn new(language: Language, purpose: Purpose) -> Self {
        Self { purpose, found: Found::default(), run: Vec::new(), stems: Stems::new(language) }
    }

    /// The words of a text whose parts are wanted.
    pub(in super::super) fn analyze(&mut self, text: &str) -> AnalyzedText {
        // Where it is composed anew its words lie elsewhere.
        if text.is_ascii() || NFKC.is_normalized(text) {
            self.split(text);
            AnalyzedText(std::mem::take(&mut self.found))
        } else {
            AnalyzedText(Found::default())
        }
    }

    /// The words of a text by itself.
    pub(super) fn all(&mut self, text: &str) -> &str {
        self.split(text);
        &self.found.text
    }

    fn split(&mut self, text: &str) {
        self.found.text.clear();
        self.found.units.clear();
        let text = if text.is_ascii() { Cow::Borrowed(text) } else { NFKC.normalize(text) };
        let mut run = 0..0;
        for (start, word) in text.unicode_word_indices() {
            let end = start + word.len();
            if start != run.end {
                self.end_unit(&mut run);
            }
            if word.is_ascii() || !word.contains(is_unspaced) {
                self.end_unit(&mut run);
                self.stems.add(word, &mut self.found);
                self.found.end_unit(start, end);
            } else {
                self.split_mixed(word);
                run = if run.start < run.end { run.start..end } else { start..end };
            }
        }
        self.end_unit(&mut run);
    }

    fn end_unit(&mut self, run: &mut Range<usize>) {
        if run.start < run.end {
            self.end_run();
            self.found.end_unit(run.start, run.end);
            *run = run.end..run.end;
        }
    }

    /// A word with characters of scripts without spaces, to which other letters may be joined: Korean endings
    /// follow a Latin name.
    fn split_mixed(&mut self, word: &str) {
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let is_run = is_unspaced(first);
            let end = rest.find(|next| is_unspaced(next) != is_run).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            if is_run {
                self.run.extend(part.chars());
            } else if part.contains(char::is_alphanumeric) {
                self.end_run();
                let part = part.trim_matches(|char: char| char.is_ascii_punctuation());
                self.stems.add(part, &mut self.found);
            }
            rest = after;
        }
    }

    fn end_run(&mut self) {
        let Self { purpose, found, run, .. } = self;
        if matches!(purpose, Purpose::Text) || run.len() == 1 {
            for char in run.iter() {
                found.text.push(*char);
                found.end_word();
            }
        }
        for pair in run.array_windows::<2>() {
            found.text.extend(pair);
            found.end_word();
        }
        run.clear();
    }
}

/// Words in lower case without their endings.
struct Stems {
    /// Takes a word in lower case for a text.
    stemmer: Option<TextAnalyzer>,
    /// Where the stem of a word, as it is written, stands in `text`.
    known: HashMap<Box<str>, Range<u32>>,
    text: String,
}

impl Stems {
    fn new(language: Language) -> Self {
        let stemmer = match language {
            Language::None => None,
            Language::Stemmed(language) => {
                let stemmer = TextAnalyzer::builder(RawTokenizer::default());
                Some(stemmer.filter(tokenizer::Stemmer::new(language)).build())
            }
        };
        Self { stemmer, known: HashMap::new(), text: String::new() }
    }

    fn add(&mut self, word: &str, found: &mut Found) {
        if let Some(stem) = self.known.get(word) {
            found.text.push_str(&self.text[stem.start as usize..stem.end as usize]);
        } else {
            let start = found.text.len();
            self.stem(&lower(word), &mut found.text);
            if word.len() <= LONGEST {
                self.remember(word, &found.text[start..]);
            }
        }
        found.end_word();
    }

    fn stem(&mut self, word: &str, found: &mut String) {
        match &mut self.stemmer {
            None => found.push_str(word),
            Some(stemmer) => {
                let mut stream = stemmer.token_stream(word);
                stream.process(&mut |token| found.push_str(&token.text));
            }
        }
    }

    fn remember(&mut self, word: &str, stem: &str) {
        if self.known.len() == STEMS {
            self.known.clear();
            self.text.clear();
        }
        let start = self.text.len() as u32;
        self.text.push_str(stem);
        self.known.insert(word.into(), start..self.text.len() as u32);
    }
}

fn lower(word: &str) -> String {
    if word.is_ascii() {
        return word[..word.len().min(LONGEST)].to_ascii_lowercase();
    }
    word.chars().flat_map(char::to_lowercase).take(LONGEST).collect()
}

/// Of a script without spaces between words, or, as Korean, with endings that a stemmer would have to take
/// off.
fn is_unspaced(character: char) -> bool {
    matches!(
        u32::from(character),
        0x0E00..=0x0EFF       // Thai, Lao
            | 0x1000..=0x109F // Burmese
            | 0x1100..=0x11FF // Hangul, as far as it does not compose
            | 0x1780..=0x17FF // Khmer
            | 0x3005..=0x3007 // Han
            | 0x3040..=0x30FF // Hiragana, Katakana
            | 0x31F0..=0x31FF
            | 0x3400..=0x9FFF // Han
            | 0xA960..=0xA97F // Hangul
            | 0xAC00..=0xD7FF
            | 0xF900..=0xFAFF // Han
            | 0x20000..=0x3FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Analyzer::new(Language::default()).texts();
        let (mut by_word, mut found) = (by_word(), Vec::new());
        by_word.token_stream(words.all(text)).process(&mut |token| found.push(token.text.clone()));
        found
    }

    /// A query would not find what it names.
    #[test]
    fn words_are_split_lowered_and_stemmed() {
        assert_eq!(words("The QUICK foxes' running-shoes"), ["the", "quick", "fox", "run", "shoe"]);
        assert_eq!(words("Straße ÉTÉ don't 3.14 x_y"), ["straße", "été", "don't", "3.14", "x_i"]);
        assert_eq!(words(" \n…—"), [""; 0]);
    }

    /// Chinese, Japanese, Korean and Thai would only be found by whole sentences.
    #[test]
    fn scripts_without_spaces_become_pairs() {
        assert_eq!(words("東京都 x"), ["東", "京", "都", "東京", "京都", "x"]);
        let query = |text| {
            let words = Analyzer::new(Language::None).query(text);
            words.into_iter().map(|(word, _)| word).collect::<Vec<_>>()
        };
        assert_eq!(query("京都"), ["京都"]);
        assert_eq!(query("水 京都"), ["京都", "水"]);
        assert_eq!(query("서울은"), ["서울", "울은"]);
        assert_eq!(query("人々"), ["人々"]);
    }

    /// `Python` would not find `Python은`, nor `3` a date in March.
    #[test]
    fn letters_joined_to_scripts_without_spaces_are_words_of_their_own() {
        assert_eq!(words("Python은 3월"), ["python", "은", "3", "월"]);
        assert_eq!(words("서울Python을"), ["서", "울", "서울", "python", "을"]);
        assert_eq!(words("葛\u{E0100}飾"), ["葛", "飾", "葛飾"]);
        assert_eq!(words("런던_x"), ["런", "던", "런던", "x"]);
    }

    /// Text from a PDF or a Japanese keyboard would not be found by what people type.
    #[test]
    fn compatible_forms_are_one() {
        assert_eq!(words("ﬁnal ＡＢＣ１２ ｶﾞ"), words("final ABC12 ガ"));
        assert_eq!(words("e\u{301}te\u{301}"), words("été"));
        assert_eq!(words("\u{1112}\u{1161}\u{11AB}"), words("한"));
    }

    /// A word that comes again would be another one.
    #[test]
    fn remembered_stems_are_the_stems() {
        let mut words = Analyzer::new(Language::default()).texts();
        let many: Vec<String> =
            (0..STEMS + 10).map(|number| format!("Running{number:05}s")).collect();
        let many = many.join(" ");
        for text in ["Foxes foxes FOXES", &many, "foxes Foxes foxes"] {
            let found: Vec<_> = words.all(text).split_terminator(END).collect();
            for word in &found {
                assert!(
                    *word == "fox" || word.starts_with("running") && !word.ends_with('s'),
                    "{word}"
                );
            }
            assert_eq!(found.len(), text.split(' ').count());
        }
    }

    proptest! {
        /// A passage would be found by words that it does not have, or not by its own.
        #[test]
        fn the_words_of_a_part_are_those_of_its_text(
            text in "([a-z]{1,3}|[A-Z]'s|3\\.14|東京|パ|서울|ไทย|é|ﬁ|x_y|[ .,\n]){0,30}",
            at in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let edges: Vec<_> = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect();
            let (a, b) = (*at.0.get(&edges), *at.1.get(&edges));
            let (start, end) = (a.min(b), a.max(b));
            let mut words = Analyzer::new(Language::default()).texts();
            let analyzed = words.analyze(&text);
            let part = analyzed.part(&(start as u32..end as u32));
            if let Some(part) = part {
                prop_assert_eq!(part, words.all(&text[start..end]));
            }
            let is_open = |next: Option<char>| next.is_none_or(|next| next == ' ');
            let is_between = is_open(text[..start].chars().next_back()) && is_open(text[end..].chars().next());
            let has_words = !words.all(&text).is_empty();
            prop_assert!(part.is_some() || !is_between || !has_words || !NFKC.is_normalized(&text));
        }
    }

    /// A megabyte without a space must be a word that is found by its beginning, not an error.
    #[test]
    fn long_words_are_cut() {
        let long = "a".repeat(1 << 20);
        assert_eq!(words(&long), ["a".repeat(LONGEST)]);
        assert_eq!(words(&"é".repeat(1000)), ["é".repeat(LONGEST)]);
    }

    /// A repeated word weighs more, and a query of thousands of words is not a query for each.
    #[test]
    fn a_query_counts_its_words() {
        let analyzer = Analyzer::new(Language::default());
        assert_eq!(analyzer.query("dogs dog cat"), [("cat".to_owned(), 1), ("dog".to_owned(), 2)]);
        let many: Vec<String> = (0..5000).map(|number| format!("w{number}")).collect();
        assert_eq!(analyzer.query(&many.join(" ")).len(), QUERY_WORDS);
    }

    /// `--language` would be refused, or an index of another language taken for this one.
    #[test]
    fn names_of_languages_are_read_back() {
        for name in LANGUAGES.iter().map(|(name, _)| *name).chain(["none"]) {
            assert_eq!(
                name.parse::<Language>().map(|language| language.to_string()),
                Ok(name.into())
            );
        }
        assert!("klingon".parse::<Language>().is_err_and(|error| error.contains("english")));
    }
}
