//! Files of documents.

use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// The documents of a file, or of standard input if it is `-`.
///
/// # Errors
/// A sentence that names the file, and the line if only that is wrong.
pub(super) fn read(file: &Path) -> Result<Vec<String>, String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
    parse(&text).map_err(|error| format!("`{}`, {error}", file.display()))
}

/// JSON Lines if the first document is an object with a `text`; else each line is a document.
fn parse(text: &str) -> Result<Vec<String>, String> {
    let lines: Vec<(usize, &str)> =
        (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).collect();
    let is_jsonl = lines.first().is_some_and(|(_, line)| text_of(line).is_some());
    let document = |&(number, line): &(usize, &str)| {
        if is_jsonl {
            text_of(line).ok_or_else(|| format!("line {number}: not an object with a `text`"))
        } else {
            Ok(line.to_owned())
        }
    };
    lines.iter().map(document).collect()
}

fn text_of(line: &str) -> Option<String> {
    match serde_json::from_str(line) {
        Ok(Value::Object(mut fields)) => match fields.remove("text") {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores would belong to other documents than the user's.
    #[test]
    fn both_formats_are_told_apart() {
        assert_eq!(parse("one\r\n\n two \n{3}").unwrap(), ["one", " two ", "{3}"]);
        let lines = "{\"text\":\"one\\ntwo\",\"id\":1}\n\n{\"text\":\"\"}\n";
        assert_eq!(parse(lines).unwrap(), ["one\ntwo", ""]);
        let error = parse("{\"text\":\"one\"}\n\n{\"txt\":\"two\"}\n").unwrap_err();
        assert_eq!(error, "line 3: not an object with a `text`");
        assert_eq!(parse("").unwrap(), [] as [String; 0]);
    }
}
