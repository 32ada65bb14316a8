use super::*;

/// Clients match on this text; the official Node client shows it as the error.
#[test]
fn violations_are_joined_with_their_places() {
    let violation = |location, message| Violation { kind: "missing", location, message };
    let error = Error::InvalidRequest(vec![
        violation(vec![Location::Field("query")], "Field required"),
        violation(
            vec![Location::Field("documents"), Location::Index(3)],
            "Input should be a valid string",
        ),
        violation(vec![], "Input should be an object"),
    ]);
    assert_eq!(
        error.to_string(),
        "body.query: Field required; body.documents.3: Input should be a valid string; \
         body: Input should be an object"
    );
}

/// A value outside 1..=60 makes the Python client fall back to its own, shorter delays.
#[test]
fn retry_seconds_are_whole_and_in_range() {
    let seconds = [0, 1, 1_000, 1_001, 59_999, 3_600_000]
        .map(|millis| retry_seconds(Duration::from_millis(millis)));
    assert_eq!(seconds, [1, 1, 1, 2, 60, 60]);
}

/// A caller of one protocol would see another kind of error than a caller of the other.
#[test]
fn the_table_has_one_row_a_code() {
    let available = vec!["demo".to_owned(), "zerank-1".to_owned()];
    let error = Error::ModelNotFound { name: "x".into(), available };
    assert_eq!(error.to_string(), "model `x` not found; available: demo, zerank-1");
    assert_eq!(error.code().wire(), Wire { grpc: 5, http: 404, retry: true });
    let internal = Error::panicked(&"boom");
    assert_eq!(internal.code().wire(), Wire { grpc: 13, http: 500, retry: false });
    assert_eq!(internal.to_string(), "internal error");
}
