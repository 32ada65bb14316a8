use super::*;

#[derive(Debug, PartialEq)]
struct Taken {
    name: String,
    items: Vec<String>,
    count: Option<i64>,
    kind: Option<u8>,
    note: Option<String>,
}

fn take(text: impl AsRef<[u8]>) -> Result<Taken, Vec<(&'static str, String)>> {
    let parsed = parse(text.as_ref(), |fields| Taken {
        name: fields.string("name"),
        items: fields.strings("items"),
        count: fields.optional_integer("count"),
        kind: fields.optional_literal("kind", &[("a", 1), ("b", 2)], || Violation {
            kind: "literal_error",
            location: vec![Location::Field("kind")],
            message: "Input should be 'a' or 'b'",
        }),
        note: fields.optional_string("note"),
    });
    parsed.map_err(|error| match error {
        Error::InvalidRequest(violations) => {
            violations.iter().map(|violation| (violation.kind, violation.path())).collect()
        }
        other => panic!("{other}"),
    })
}

fn with(rest: &str) -> Result<Taken, Vec<(&'static str, String)>> {
    take(format!(r#"{{"name":"n","items":["i"]{rest}}}"#))
}

/// A client that fixes one field at a time needs as many tries as it has mistakes.
#[test]
fn all_wrong_fields_are_reported_at_once() {
    let text = r#"{"items":["a",1,null,"b",[]],"count":"5","kind":"c","note":7}"#;
    let expected = [
        ("missing", "name"),
        ("string_type", "items.1"),
        ("string_type", "items.2"),
        ("string_type", "items.4"),
        ("int_type", "count"),
        ("literal_error", "kind"),
        ("string_type", "note"),
    ];
    assert_eq!(take(text), Err(expected.map(|(kind, path)| (kind, path.to_owned())).to_vec()));
}

/// The SDKs send nulls for what is not given, and users add fields for later versions.
#[test]
fn nulls_unknown_fields_and_duplicates_are_taken() {
    let taken = Taken {
        name: "n".into(),
        items: vec!["é\u{1f600}".into()],
        count: None,
        kind: Some(2),
        note: None,
    };
    let text = r#"{"name":1,"kind":"a","new":{"x":[1.5,true]},"items":["\u00e9\ud83d\ude00"],
        "name":"n","count":null,"note":null,"kind":"b"}"#;
    assert_eq!(take(text), Ok(taken));
}

/// Taking one field must not move the last value of another before its first.
#[test]
fn the_last_of_several_duplicates_wins() {
    let text = r#"{"name":"n","items":["i"],"count":1,"note":"a","note":"b","count":2}"#;
    let taken = take(text).expect("is right");
    assert_eq!((taken.count, taken.note.as_deref()), (Some(2), Some("b")));
    let text = r#"{"name":1,"name":"n","items":0,"items":["i"],"count":0,"count":null}"#;
    assert_eq!(take(text).expect("is right").count, None);
}

/// `5.0` comes from languages without integers; `"5"` and `true` are mistakes.
#[test]
fn integers_are_numbers_without_a_fraction() {
    for (text, value) in [
        ("5", 5),
        ("5.0", 5),
        ("-0.0", 0),
        ("5e2", 500),
        ("9223372036854775808", i64::MAX),
        ("99999999999999999999", i64::MAX),
        ("-1e30", i64::MIN),
    ] {
        assert_eq!(with(&format!(r#","count":{text}"#)).expect(text).count, Some(value), "{text}");
    }
    for (text, kind) in [
        ("5.5", "int_from_float"),
        ("true", "int_type"),
        (r#""5""#, "int_type"),
        ("[]", "int_type"),
    ] {
        assert_eq!(with(&format!(r#","count":{text}"#)), Err(vec![(kind, "count".into())]));
    }
}

/// The position is what lets a user find the comma that is one too many.
#[test]
fn text_that_is_no_json_is_told_where() {
    for (text, position) in [
        (&b"{"[..], "1"),
        (b"nothing", "1"),
        (b"{\"a\":1,}", "7"),
        ("{\"é\": NaN}".as_bytes(), "6"),
        (b"{\n\"a\":\n01}", "8"),
        (b"[1] 2", "4"),
        (br#"{"a":"\ud800"}"#, "12"),
        (b"{\"a\":\"\xff\"}", "6"),
    ] {
        let shown = String::from_utf8_lossy(text);
        assert_eq!(take(text), Err(vec![("json_invalid", position.to_owned())]), "{shown}");
    }
    assert_eq!(take(""), Err(vec![("missing", String::new())]));
    for text in ["null", "[]", "3", r#""name""#] {
        assert_eq!(take(text), Err(vec![("model_attributes_type", String::new())]), "{text}");
    }
}

/// A body of nothing but mistakes would be answered with one many times its size.
#[test]
fn the_list_of_mistakes_is_bounded() {
    let items = vec!["0"; 10_000].join(",");
    let mistakes = take(format!(r#"{{"name":"n","items":[{items}]}}"#)).expect_err("is wrong");
    assert_eq!(mistakes.len(), MAX_VIOLATIONS);
    assert!(take("[".repeat(100_000)).is_err());
}
