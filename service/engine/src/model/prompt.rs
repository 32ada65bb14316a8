//! Text cuts and white space, as the published code prepares query and document.

/// Cuts `text` to its first `chars` code points, then strips white space at both ends.
///
/// The cut comes first, so white space at the beginning counts.
pub(crate) fn prepare(text: &str, chars: usize) -> &str {
    let cut = match text.char_indices().nth(chars) {
        Some((end, _)) => &text[..end],
        None => text,
    };
    cut.trim_matches(is_python_space)
}

/// What Python's `str.strip()` removes: Unicode white space and the four separators U+001C–U+001F.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rust's own `trim` would keep U+001C–U+001F and tokenise them.
    #[test]
    fn strips_what_python_strips() {
        for space in "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}".chars() {
            assert_eq!(prepare(&format!("{space}a{space}b{space}"), 10), format!("a{space}b"));
        }
        for kept in ['\u{200b}', '\u{feff}', '\u{180e}', '\0', '\u{301}'] {
            let text = format!("{kept}a{kept}");
            assert_eq!(prepare(&text, 10), text);
        }
        assert_eq!(prepare(" \u{1c} \n", 10), "");
    }

    /// The cut counts code points, not bytes, and comes before the strip.
    #[test]
    fn cuts_before_it_strips() {
        assert_eq!(prepare("  日本語テキスト", 4), "日本");
        assert_eq!(prepare("ab   cd", 4), "ab");
        assert_eq!(prepare("👍🏽x", 2), "👍🏽");
        assert_eq!(prepare("abc", 0), "");
    }
}
