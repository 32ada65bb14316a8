use super::*;
use crate::api::json;
use crate::collection::{Metadata, MetadataValue};
use std::collections::BTreeMap;

/// What a filter of this text is, or how it is refused.
fn read(text: &str) -> Result<Filter, String> {
    let value = json::parse(text.as_bytes()).expect("is JSON");
    let mut wrong = Vec::new();
    let filter = filter("filter", Some(&value), &mut |violation| wrong.push(violation.path()));
    if wrong.is_empty() {
        filter.map_err(|error| error.to_string())
    } else {
        Err(format!("422 {}", wrong.join(" ")))
    }
}

/// Documents whose attribute `a` or `list:a` is this.
fn documents() -> [(&'static str, Metadata); 6] {
    let with = |attributes: Vec<(&str, MetadataValue)>| {
        let owned = attributes.into_iter().map(|(name, value)| (name.to_owned(), value));
        Metadata::new(owned.collect::<BTreeMap<_, _>>()).expect("is right")
    };
    let one = |text: &str| MetadataValue::One(text.to_owned());
    let many =
        |texts: &[&str]| MetadataValue::Many(texts.iter().map(ToString::to_string).collect());
    [
        ("none", Metadata::default()),
        ("b", with(vec![("a", one("b"))])),
        ("é", with(vec![("a", one("é"))])),
        ("[]", with(vec![("list:a", many(&[]))])),
        ("[b,c]", with(vec![("list:a", many(&["b", "c"]))])),
        ("'b'", with(vec![("list:a", one("b"))])),
    ]
}

/// The documents that a filter keeps.
fn kept(text: &str) -> String {
    let filter = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let kept = documents().into_iter().filter(|(_, metadata)| filter.keeps(metadata));
    kept.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

/// Queries would find documents that their caller may not see, or miss those that they must find.
#[test]
fn the_truth_table_of_the_hosted_api() {
    let all = "none b é [] [b,c] 'b'";
    for (filter, expected) in [
        ("{}", all),
        (r#"{"a":"b"}"#, "b"),
        (r#"{"a":{"$eq":"b"}}"#, "b"),
        (r#"{"a":{"$ne":"b"}}"#, "none é [] [b,c] 'b'"),
        (r#"{"a":{"$neq":"b"}}"#, "none é [] [b,c] 'b'"),
        // By bytes: `é` comes after all of ASCII.
        (r#"{"a":{"$gt":"b"}}"#, "é"),
        (r#"{"a":{"$gte":"b"}}"#, "b é"),
        (r#"{"a":{"$gt":"z"}}"#, "é"),
        (r#"{"a":{"$lt":"é"}}"#, "b"),
        (r#"{"a":{"$lte":"é"}}"#, "b é"),
        (r#"{"a":{"$lt":"b"}}"#, ""),
        (r#"{"a":{"$in":["b","x"]}}"#, "b"),
        (r#"{"a":{"$in":[]}}"#, ""),
        (r#"{"a":{"$nin":["b","x"]}}"#, "none é [] [b,c] 'b'"),
        (r#"{"a":{"$nin":[]}}"#, all),
        (r#"{"list:a":{"$in":["c","x"]}}"#, "[b,c]"),
        (r#"{"list:a":{"$in":["b"]}}"#, "[b,c] 'b'"),
        (r#"{"list:a":{"$nin":["c"]}}"#, "none b é [] 'b'"),
        (r#"{"list:a":{"$nin":[]}}"#, all),
        (r#"{"a":{"$gte":"b","$lt":"c"}}"#, "b"),
        (r#"{"a":{}}"#, all),
        (r#"{"a":{"$ne":"b"},"list:a":{"$in":["b"]}}"#, "[b,c] 'b'"),
        (r#"{"$and":[]}"#, all),
        (r#"{"$or":[]}"#, ""),
        (r#"{"$and":[{"a":"b"},{"a":"é"}]}"#, ""),
        (r#"{"$or":[{"a":"b"},{"a":"é"}]}"#, "b é"),
        (r#"{"$or":[{"a":"b"},{"a":"é"}],"a":{"$ne":"b"}}"#, "é"),
        (r#"{"$or":[{"$and":[{"a":"b"}]},{}]}"#, all),
        (r#"{"missing":"b"}"#, ""),
        // Of duplicate keys the last counts.
        (r#"{"a":"x","a":"b"}"#, "b"),
        (r#"{"a":1,"a":{"$eq":"x","$eq":"b"}}"#, "b"),
    ] {
        assert_eq!(kept(filter), expected, "{filter}");
    }
    assert_eq!(filter("filter", None, &mut |_| ()).expect("is right"), Filter::ALL);
    assert_eq!(filter("filter", Some(&Json::Null), &mut |_| ()).expect("is right"), Filter::ALL);
}

/// A filter that is read otherwise than it was meant shows documents to those who must not see them.
#[test]
fn misuse_is_refused_with_what_would_be_right() {
    for (text, part) in [
        ("[]", "a filter is an object"),
        (r#""a""#, "a filter is an object"),
        (r#"{"$not":[]}"#, "those are `$and` and `$or`"),
        (r#"{"$and":{}}"#, "`$and` in a filter needs a list of filters"),
        (r#"{"$or":["a"]}"#, "a filter is an object"),
        (r#"{"a":["b"]}"#, "attribute `a` in a filter needs a string or operators"),
        (r#"{"a":{"eq":"x"}}"#, "`eq` in a filter is no operator"),
        (r#"{"a":{"$EQ":"x"}}"#, "`$EQ` in a filter is no operator"),
        (r#"{"a":{"$eq":["x"]}}"#, "`$eq` in a filter needs a string"),
        (r#"{"a":{"$in":"x"}}"#, "`$in` in a filter needs a list of strings"),
        (r#"{"a":{"$nin":[["x"]]}}"#, "`$nin` in a filter needs a list of strings"),
        (r#"{"a":{"$and":[]}}"#, "`$and` in a filter is no operator"),
        (r#"{"list:a":"x"}"#, "`$in` and `$nin` fit it, not `$eq`"),
        (r#"{"list:a":{"$ne":"x"}}"#, "`$in` and `$nin` fit it, not `$ne`"),
        (r#"{"é":"x"}"#, "attribute `é` in a filter may have letters"),
        (r#"{"":{}}"#, "attribute `` in a filter may have letters"),
        (r#"{"list:":{}}"#, "attribute `list:` in a filter may have letters"),
        (r#"{"list:list:a":{}}"#, "attribute `list:list:a` in a filter may have letters"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

/// The clients' own types say what a filter holds: all wrong values are told at once, and before rules.
#[test]
fn wrong_types_are_told_with_their_places() {
    for (text, places) in [
        ("5", "filter"),
        (r#"{"a":5}"#, "filter.a"),
        (r#"{"a":null,"b":{"$in":["x",true,1.5]}}"#, "filter.a filter.b.$in.1 filter.b.$in.2"),
        (r#"{"$and":[{"a":{"$eq":false}}],"$not":1}"#, "filter.$and.0.a.$eq filter.$not"),
    ] {
        assert_eq!(read(text), Err(format!("422 {places}")), "{text}");
    }
}

/// One request of some megabytes would keep a core busy for minutes.
#[test]
fn comparisons_are_counted() {
    let of = |count: usize| format!(r#"{{"$or":[{}]}}"#, vec![r#"{"a":"b"}"#; count].join(","));
    let empty = format!(r#"{{"$and":[{}]}}"#, vec!["{}"; MAX_CONDITIONS + 1].join(","));
    assert!(read(&of(MAX_CONDITIONS)).is_ok());
    for text in [of(MAX_CONDITIONS + 1), empty] {
        let error = read(&text).expect_err("too many");
        assert!(error.contains("may have 4096 comparisons, this one has 4097"), "{error}");
    }
    let operands = vec![r#""b""#; MAX_CONDITIONS + 1].join(",");
    assert!(read(&format!(r#"{{"a":{{"$in":[{operands}]}}}}"#)).is_ok());
}

fn nested(levels: usize) -> String {
    let (open, close) = (r#"{"$and":["#.repeat(levels), "]}".repeat(levels));
    format!(r#"{open}{{"a":"b"}}{close}"#)
}

/// A small request would end the process: a stack that overflows cannot be caught.
#[test]
fn any_depth_is_refused_without_recursion() {
    assert_eq!(
        read(&nested(MAX_DEPTH - 1)).map(|filter| filter.keeps(&documents()[1].1)),
        Ok(true)
    );
    for levels in [MAX_DEPTH, 1_000, 1_000_000] {
        assert_eq!(read(&nested(levels)), Err("a filter may be nested 32 deep".to_owned()));
    }
    let lists = format!(r#"{{"a":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert!(read(&lists).is_err_and(|error| error.contains("needs a string or operators")));
}

/// One request of some kilobytes would be answered with megabytes.
#[test]
fn places_of_wrong_values_are_short() {
    let name = "n".repeat(1_000);
    let text = format!(r#"{{"{name}":{}1{}}}"#, "[".repeat(90), "]".repeat(90));
    let place = read(&text).expect_err("is wrong");
    assert_eq!(place.len(), "422 filter.".len() + 64 + "…".len() + 2 * (MAX_STEPS - 2), "{place}");
}
