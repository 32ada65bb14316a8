use super::*;
use clap::Parser;
use reranker_engine::Source;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

fn config(flags: &str) -> Result<Config, String> {
    let flags = Flags::try_parse_from(std::iter::once("serve").chain(flags.split_whitespace()));
    flags.map_err(|error| error.to_string())?.serve.try_into()
}

/// `make run` and the README's first example start without a flag.
#[test]
fn the_defaults_serve_the_demo_model() {
    let config = config("").expect("is consistent");
    assert_eq!(config.models.len(), 1);
    assert_eq!(config.models[0].spec.name, "demo");
    assert_eq!(config.models[0].source, Source::Embedded);
    assert_eq!(config.listen.http.port(), 8080);
}

/// A server that starts with half of what it was told answers 404 in production.
#[test]
fn contradictions_are_refused_with_what_contradicts() {
    for (flags, part) in [
        ("--model nope", "`nope` is not one of demo, zerank-1-small"),
        ("--model demo --model demo", "--model `demo` is given twice"),
        ("--model =x", "a model needs a name"),
        ("--model x=hf:", "is not a model source"),
        ("--alias demo=demo", "--alias `demo` is the name of a model"),
        ("--alias a=b", "`b` is not served; served: demo"),
        ("--alias a=demo,a=demo", "--alias `a` is given twice"),
        ("--alias a", "`a` is not NAME=MODEL"),
        (
            "--max-queued-tokens 5 --max-batch-tokens 6",
            "--max-queued-tokens 5 is below --max-batch-tokens 6",
        ),
        ("--max-queue-seconds 0", "`0` is not a number of seconds above 0"),
        ("--interactive-seconds NaN", "`NaN` is not a number of seconds above 0"),
        ("--mock --model demo", "--mock loads no model: leave out --model demo or --mock"),
        ("--mock --alias a=demo", "--mock takes any model's name: leave out --alias a=demo"),
        ("--mock --api-keys-file k", "--mock takes any key: leave out --api-keys-file k or --mock"),
        ("--mock --data-dir d", "--mock keeps no collections: leave out --data-dir d"),
        ("--collections embedded", "--collections embedded needs a --data-dir"),
        ("--language klingon", "`klingon` is not one of none, arabic"),
        ("--candidates 0", "1..=10000"),
        ("--ingest-workers 65", "1..=64"),
        ("--public-url here", "`here` is not https://HOST"),
        ("--max-batch-tokens 0", "`0` is not a number from 1 to 32768"),
        ("--max-batch-tokens 32769", "`32769` is not a number from 1 to 32768"),
        ("--device gpu", "`gpu` is not one of auto, cpu"),
        ("--http-listen here", "--http-listen"),
        (
            "--max-inflight-bytes 1000",
            "--max-inflight-bytes 1000 is below --max-body-bytes 16777216",
        ),
        (
            "--max-inflight-bytes 16777216 --max-document-bytes 16777217",
            "--max-inflight-bytes 16777216 is below --max-document-bytes 16777217",
        ),
        ("--max-document-bytes 2000000000", "1..=1073741824"),
        ("--fast-bytes-per-minute 100", "--fast-bytes-per-minute 100 is below 150"),
        ("--max-header-bytes 100", "8192"),
        ("--header-timeout-seconds 0", "--header-timeout-seconds"),
        ("--tls-cert c", "--tls-cert `c` needs --tls-key"),
        ("--tls-key k", "--tls-key `k` needs --tls-cert"),
        ("--tls-client-ca a", "--tls-client-ca `a` needs --tls-cert and --tls-key"),
        ("--cors-allow-origin a.example", "`a.example` is not an origin"),
    ] {
        let error = config(flags).err().unwrap_or_else(|| panic!("{flags} is taken"));
        assert!(error.contains(part), "{flags}: {error}");
    }
}

/// A query counts once for each document and is sent once: what counts more than a body may be long
/// is no contradiction.
#[test]
fn requests_may_count_more_than_they_send() {
    let config = config("--max-request-bytes 5000 --max-body-bytes 1000").expect("is consistent");
    assert_eq!((config.limits.bytes, config.limits.body_bytes), (5_000, 1_000));
}

/// Clients that fix a name, and several models in one process, need both flags together.
#[test]
fn models_and_aliases_are_read() {
    let flags = "--model zerank-1-small --model own=/models/own --alias zerank-1=zerank-1-small";
    let config = config(flags).expect("is consistent");
    let sources: Vec<String> = config.models.iter().map(|model| model.source.to_string()).collect();
    assert!(sources[0].starts_with("hf:zeroentropy/zerank-1-small-reranker@"), "{sources:?}");
    assert_eq!(sources[1], "/models/own");
    let alias = Alias { name: "zerank-1".into(), model: "zerank-1-small".into() };
    assert_eq!(config.aliases, [alias]);
}
