//! Text to the words that are searched for.
//!
//! Words by Unicode (UAX #29), in lower case, stemmed. Scripts that write without spaces become single
//! characters and pairs of neighbours; a query looks for the pairs, and for a single character only where it
//! stands alone. Stop words are kept: BM25 weighs them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use tantivy::tokenizer::{self, Token, TokenStream, Tokenizer};
use unicode_segmentation::UnicodeSegmentation;

/// Words are cut to this many characters: longer ones are no words.
const LONGEST: usize = 64;
/// Distinct words of a query that are looked for.
const QUERY_WORDS: usize = 1024;

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

    /// What tantivy makes the words of a passage with.
    pub(super) fn for_texts(&self) -> tokenizer::TextAnalyzer {
        self.stemmed(Words { purpose: Purpose::Text, ..Words::default() })
    }

    /// The distinct words of a query with how often each is there, most of them.
    pub(super) fn query(&self, query: &str) -> Vec<(String, u32)> {
        let mut analyzer = self.stemmed(Words { purpose: Purpose::Query, ..Words::default() });
        let mut counts = BTreeMap::new();
        let mut stream = analyzer.token_stream(query);
        while stream.advance() {
            let word = &stream.token().text;
            if counts.len() < QUERY_WORDS || counts.contains_key(word) {
                *counts.entry(word.clone()).or_insert(0) += 1;
            }
        }
        counts.into_iter().collect()
    }

    fn stemmed(&self, words: Words) -> tokenizer::TextAnalyzer {
        let words = tokenizer::TextAnalyzer::builder(words);
        match self.language {
            Language::None => words.build(),
            Language::Stemmed(language) => words.filter(tokenizer::Stemmer::new(language)).build(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum Purpose {
    #[default]
    Text,
    Query,
}

/// Splits into words; all that a text has at once, because runs of characters are looked at as a whole.
#[derive(Clone, Debug, Default)]
struct Words {
    purpose: Purpose,
    token: Token,
    found: Vec<String>,
}

struct WordStream<'a> {
    words: std::slice::Iter<'a, String>,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        self.found.clear();
        split(text, self.purpose, &mut self.found);
        WordStream { words: self.found.iter(), token: &mut self.token }
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

fn split(text: &str, purpose: Purpose, words: &mut Vec<String>) {
    // Characters without spaces between them, and where the run ends.
    let (mut run, mut run_end) = (Vec::new(), 0);
    for (start, word) in text.unicode_word_indices() {
        if word.chars().all(is_unspaced) {
            if start != run_end {
                end_run(&mut run, purpose, words);
            }
            run.extend(word.chars());
            run_end = start + word.len();
        } else {
            end_run(&mut run, purpose, words);
            words.push(lower(word));
        }
    }
    end_run(&mut run, purpose, words);
}

fn lower(word: &str) -> String {
    if word.is_ascii() {
        return word[..word.len().min(LONGEST)].to_ascii_lowercase();
    }
    word.chars().flat_map(char::to_lowercase).take(LONGEST).collect()
}

fn end_run(run: &mut Vec<char>, purpose: Purpose, words: &mut Vec<String>) {
    if matches!(purpose, Purpose::Text) || run.len() == 1 {
        words.extend(run.iter().map(char::to_string));
    }
    words.extend(run.array_windows().map(|pair: &[char; 2]| String::from_iter(pair)));
    run.clear();
}

/// Of a script without spaces between words, or, as Korean, with endings that a stemmer would have to take
/// off.
fn is_unspaced(character: char) -> bool {
    matches!(
        u32::from(character),
        0x0E00..=0x0EFF       // Thai, Lao
            | 0x1000..=0x109F // Burmese
            | 0x1780..=0x17FF // Khmer
            | 0x3040..=0x30FF // Hiragana, Katakana
            | 0x31F0..=0x31FF
            | 0x3400..=0x9FFF // Han
            | 0xAC00..=0xD7AF // Hangul
            | 0xF900..=0xFAFF
            | 0xFF66..=0xFF9F
            | 0x20000..=0x3FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut analyzer = Analyzer::new(Language::default()).for_texts();
        let mut stream = analyzer.token_stream(text);
        let mut words = Vec::new();
        while stream.advance() {
            words.push(stream.token().text.clone());
        }
        words
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
