//! Queries of collections, against what a reading of all documents says; both protocols.

mod documents;

use anyhow::{Context, Result, ensure};
use documents::{Choice, Kept, documents, query, structure};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reranker::collection::{DocumentText, Passage, passages};
use reranker_proto::v1::collections_client::CollectionsClient;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_proto::v1::{
    DocumentResult, RerankRequest, TopDocumentsRequest, TopPagesRequest, TopSnippetsRequest,
    TopSnippetsResponse,
};
use reranker_tests::library;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tonic::Code;
use tonic::transport::Channel;

const COLLECTION: &str = "c";

/// A server with documents, and the documents.
struct Library {
    server: library::Library,
    queries: RerankerClient<Channel>,
    documents: BTreeMap<String, Kept>,
}

impl Library {
    async fn with(documents: BTreeMap<String, Kept>) -> Result<Self> {
        let server = library::Library::empty().await?;
        let mut collections = CollectionsClient::new(server.channel().await?);
        for (path, kept) in &documents {
            collections.add_document(kept.request(path)).await?;
        }
        let status = server.settled().await?;
        ensure!(status["num_indexed_documents"] == documents.len(), "{status}");
        let queries = server.grpc().await?;
        Ok(Self { server, queries, documents })
    }

    /// The documents that a filter keeps, by path.
    fn kept(&self, filter: &Choice) -> impl Iterator<Item = (&String, &Kept)> {
        self.documents.iter().filter(|(_, kept)| (filter.keeps)(kept))
    }

    /// All passages of them, by path and start.
    fn passages(&self, filter: &Choice, precise: bool) -> Vec<(String, Passage, String)> {
        let of = |(path, kept): (&String, &Kept)| {
            let passages = passages::split(&kept.text);
            let passages = if precise { passages.fine } else { passages.coarse };
            let text = &kept.text.text;
            passages
                .into_iter()
                .map(|passage| {
                    let range = passage.bytes.start as usize..passage.bytes.end as usize;
                    (path.clone(), passage, text[range].to_owned())
                })
                .collect::<Vec<_>>()
        };
        self.kept(filter).flat_map(of).collect()
    }

    /// What `Rerank` gives for texts.
    async fn relevance(&mut self, query: &str, texts: Vec<String>) -> Result<Vec<f64>> {
        let mut scores = vec![0.0; texts.len()];
        let query = query.to_owned();
        let request = RerankRequest { query, documents: texts, ..RerankRequest::default() };
        for result in self.queries.rerank(request).await?.into_inner().results {
            scores[usize::try_from(result.index)?] = result.relevance_score;
        }
        Ok(scores)
    }
}

/// Whether a word of the query is in a text.
fn shares(query: &str, text: &str) -> bool {
    let words = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    !words(query).is_disjoint(&words(text))
}

/// Those of `all` that the results begin with, by words, and how those go on: what shares no word, by place.
fn check_words<P: Clone + Ord + std::fmt::Debug>(
    found: &[(P, f64)],
    all: &[(P, bool)],
    k: usize,
) -> Result<()> {
    ensure!(found.len() == k.min(all.len()), "{} of {} results", found.len(), all.len());
    let sharing = all.iter().filter(|(_, shares)| *shares).count();
    let (by_words, rest) = found.split_at(sharing.min(k));
    let expected: Vec<_> = all.iter().filter(|(_, shares)| !shares).map(|(p, _)| p).collect();
    ensure!(rest.iter().all(|(_, score)| *score == 0.0), "{found:?}");
    ensure!(rest.iter().map(|(place, _)| place).eq(expected.into_iter().take(rest.len())));
    let shared: BTreeSet<_> = all.iter().filter(|(_, shares)| *shares).map(|(p, _)| p).collect();
    let places: BTreeSet<_> = by_words.iter().map(|(place, _)| place).collect();
    ensure!(places.len() == by_words.len() && places.is_subset(&shared), "{found:?}");
    ensure!(by_words.iter().all(|(_, score)| *score > 0.0 && *score < 1.0), "{found:?}");
    check_order(found)
}

/// Best first, equal ones by place.
fn check_order<P: Ord + std::fmt::Debug>(found: &[(P, f64)]) -> Result<()> {
    let in_order =
        found.is_sorted_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)).is_lt());
    ensure!(in_order, "{found:?}");
    Ok(())
}

/// Each document once, as it first appears, with its best score and its metadata.
fn check_documents(
    documents: &[DocumentResult],
    found: impl Iterator<Item = (String, f64)>,
    library: &Library,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    let first: Vec<_> = found.filter(|(path, _)| seen.insert(path.clone())).collect();
    let given: Vec<_> =
        documents.iter().map(|document| (document.path.clone(), document.score)).collect();
    ensure!(given == first, "{given:?} {first:?}");
    for document in documents {
        let kept = &library.documents[&document.path];
        ensure!(document.metadata == kept.request("").metadata);
        ensure!(document.file_url.starts_with("/v1/documents/get-document?token="));
    }
    Ok(())
}

/// The same request over HTTP: only links differ, which begin with the address that the client has called.
async fn over_http(library: &Library, route: &str, body: Value) -> Result<Value> {
    let answer = library.server.post(&format!("/v1/queries/{route}"), &body).await?;
    ensure!(answer.status == 200, "{}", answer.body);
    for document in answer.body["document_results"].as_array().into_iter().flatten() {
        let link = document["file_url"].as_str().context("a link")?;
        ensure!(link.starts_with(&library.server.http()), "{link}");
    }
    Ok(answer.body)
}

/// Numbers as `serde_json` reads them, which may be the last bit off.
fn as_read(json: &Value) -> Result<Value> {
    Ok(serde_json::from_str(&json.to_string())?)
}

/// A user would miss what is there, see what the filter hides, or get text from another place than stated.
#[tokio::test]
async fn snippets_are_what_reading_everything_finds() -> Result<()> {
    let mut runner = TestRunner::deterministic();
    let documents = documents().new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
    let mut library = Library::with(documents).await?;
    let requests = (query(128), any::<bool>(), prop_oneof![2 => Just(""), 1 => Just("m")]);
    for _ in 0..48 {
        let ((query, k, filter), precise, reranker) =
            requests.new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
        let request = TopSnippetsRequest {
            collection_name: COLLECTION.to_owned(),
            query: query.clone(),
            k,
            filter: structure(&filter.json),
            reranker: reranker.to_owned(),
            include_document_metadata: true,
            precise_responses: precise,
        };
        let answer = library.queries.top_snippets(request).await?.into_inner();
        let found: Vec<_> = answer
            .results
            .iter()
            .map(|result| ((result.path.clone(), result.start_index), result.score))
            .collect();
        let all = library.passages(&filter, precise);
        let by_place: HashMap<_, _> = all
            .iter()
            .map(|(path, passage, text)| {
                ((path.clone(), i64::from(passage.chars.start)), (passage, text))
            })
            .collect();
        for result in &answer.results {
            let place = (result.path.clone(), result.start_index);
            let (passage, text) = by_place.get(&place).context("a passage")?;
            ensure!(result.content == **text && result.end_index == i64::from(passage.chars.end));
            let pages = i64::from(passage.pages.start)..i64::from(passage.pages.end);
            ensure!((result.start_page..result.end_page) == pages);
        }
        let place = |(path, passage, _): &(String, Passage, String)| {
            (path.clone(), i64::from(passage.chars.start))
        };
        if reranker.is_empty() {
            let all: Vec<_> = all.iter().map(|it| (place(it), shares(&query, &it.2))).collect();
            check_words(&found, &all, usize::try_from(k)?)?;
        } else {
            check_order(&found)?;
            let texts = answer.results.iter().map(|result| result.content.clone()).collect();
            let scores = library.relevance(&query, texts).await?;
            ensure!(found.iter().map(|(_, score)| *score).eq(scores));
            // Whatever shares no word is scored as well while there is room among the candidates.
            if all.len() <= 100 {
                let texts = all.iter().map(|(_, _, text)| text.clone()).collect();
                let scores = library.relevance(&query, texts).await?;
                let mut best: Vec<_> = all.iter().map(place).zip(scores).collect();
                best.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
                best.truncate(usize::try_from(k)?);
                ensure!(found == best, "{found:?} {best:?}");
            }
        }
        let scores = found.iter().map(|((path, _), score)| (path.clone(), *score));
        check_documents(&answer.document_results, scores, &library)?;

        let body = json!({
            "collection_name": COLLECTION, "query": query, "k": k, "filter": filter.json,
            "reranker": Some(reranker).filter(|name| !name.is_empty()), "precise_responses": precise,
        });
        let same: Vec<_> = answer.results.iter().map(|result| json!({
            "path": result.path, "start_index": result.start_index, "end_index": result.end_index,
            "page_span": [result.start_page, result.end_page], "content": result.content,
            "score": result.score,
        })).collect();
        ensure!(
            over_http(&library, "top-snippets", body).await?["results"] == as_read(&json!(same))?
        );
    }
    Ok(())
}

/// A page that is not there, or the text of another, would be shown to a reader.
#[tokio::test]
async fn pages_are_what_reading_everything_finds() -> Result<()> {
    let mut runner = TestRunner::deterministic();
    let documents = documents().new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
    let mut library = Library::with(documents).await?;
    let requests = (query(1024), any::<bool>());
    for _ in 0..48 {
        let ((query, k, filter), with_text) =
            requests.new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
        let request = TopPagesRequest {
            collection_name: COLLECTION.to_owned(),
            query: query.clone(),
            k,
            filter: structure(&filter.json),
            include_content: with_text,
            include_metadata: true,
        };
        let answer = library.queries.top_pages(request).await?.into_inner();
        let pages = |kept: &Kept| i64::from(kept.text.pages.count().unwrap_or(1));
        let text = |path: &str, index: i64| library.documents[path].text.page(index.unsigned_abs());
        let all: Vec<_> = library
            .kept(&filter)
            .flat_map(|(path, kept)| (0..pages(kept)).map(move |index| (path.clone(), index)))
            .map(|(path, index)| {
                let shares = shares(&query, text(&path, index).unwrap_or_default());
                ((path, index), shares)
            })
            .collect();
        let found: Vec<_> = answer
            .results
            .iter()
            .map(|result| ((result.path.clone(), result.page_index), result.score))
            .collect();
        check_words(&found, &all, usize::try_from(k)?)?;
        for result in &answer.results {
            let expected = text(&result.path, result.page_index).filter(|_| with_text);
            ensure!(result.content.as_deref() == expected, "{result:?}");
        }
        let scores = found.iter().map(|((path, _), score)| (path.clone(), *score));
        check_documents(&answer.document_results, scores, &library)?;

        let body = json!({
            "collection_name": COLLECTION, "query": query, "k": k, "filter": filter.json,
            "include_content": with_text,
        });
        let same: Vec<_> = answer
            .results
            .iter()
            .map(|result| {
                json!({
                    "path": result.path, "page_index": result.page_index, "score": result.score,
                    "content": result.content, "image_url": null,
                })
            })
            .collect();
        ensure!(over_http(&library, "top-pages", body).await?["results"] == as_read(&json!(same))?);
    }
    Ok(())
}

/// The best document would be missing from a list of documents, or in it twice.
#[tokio::test]
async fn documents_are_what_reading_everything_finds() -> Result<()> {
    let mut runner = TestRunner::deterministic();
    let documents = documents().new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
    let mut library = Library::with(documents).await?;
    let requests = (query(2048), prop_oneof![2 => Just(""), 1 => Just("m")], any::<bool>());
    for round in 0..48 {
        let ((query, k, filter), reranker, deep) =
            requests.new_tree(&mut runner).map_err(anyhow::Error::msg)?.current();
        let query = Some(query).filter(|_| round % 6 > 0);
        let request = TopDocumentsRequest {
            collection_name: COLLECTION.to_owned(),
            query: query.clone(),
            k,
            filter: structure(&filter.json),
            reranker: reranker.to_owned(),
            deep,
            include_metadata: true,
        };
        let answer = library.queries.top_documents(request).await?.into_inner();
        let found: Vec<_> =
            answer.results.iter().map(|result| (result.path.clone(), result.score)).collect();
        check_documents(&answer.results, found.iter().cloned(), &library)?;
        let k = usize::try_from(k)?;
        let shares = |text: &str| query.as_ref().is_some_and(|query| shares(query, text));
        let passages = library.passages(&filter, false);
        if reranker.is_empty() || query.is_none() {
            let all = library.kept(&filter);
            let all: Vec<_> =
                all.map(|(path, kept)| (path.clone(), shares(&kept.text.text))).collect();
            check_words(&found, &all, k)?;
        } else if passages.len() <= 100 {
            let mut best: BTreeMap<String, f64> =
                library.kept(&filter).map(|(path, _)| (path.clone(), 0.0)).collect();
            let texts = passages.iter().map(|(_, _, text)| text.clone()).collect();
            let scores = library.relevance(query.as_deref().unwrap_or_default(), texts).await?;
            for ((path, _, _), score) in passages.into_iter().zip(scores) {
                best.entry(path).and_modify(|best| *best = best.max(score));
            }
            let mut best: Vec<_> = best.into_iter().collect();
            best.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
            best.truncate(k);
            ensure!(found == best, "{found:?} {best:?}");
        }

        let body = json!({
            "collection_name": COLLECTION, "query": query, "k": k, "filter": filter.json,
            "reranker": Some(reranker).filter(|name| !name.is_empty()),
            "latency_mode": if deep { "high" } else { "low" },
        });
        let http = over_http(&library, "top-documents", body).await?;
        let results = http["results"].as_array().context("results")?;
        let same: Vec<_> =
            results.iter().map(|result| json!([result["path"], result["score"]])).collect();
        ensure!(json!(same) == as_read(&json!(found))?);
    }
    Ok(())
}

/// One long document would hide all others from a reranker, and they would be listed as if they were nothing.
#[tokio::test]
async fn a_long_document_does_not_take_the_places_of_others() -> Result<()> {
    let plain =
        |text: String| Kept { text: DocumentText::plain(text), kind: "0".into(), tags: vec![] };
    let long = "otter otter otter otter stone. ".repeat(10_000);
    let short = format!("otter {}", "moss fern lake reed ".repeat(80));
    let documents = [("long", long), ("other", short.clone()), ("without", "moss".to_owned())];
    let documents = documents.map(|(path, text)| (path.to_owned(), plain(text)));
    let mut library = Library::with(documents.into()).await?;
    let request = TopDocumentsRequest {
        collection_name: COLLECTION.to_owned(),
        query: Some("otter".to_owned()),
        k: 3,
        reranker: "m".to_owned(),
        ..TopDocumentsRequest::default()
    };
    let answer = library.queries.top_documents(request).await?.into_inner();
    let score = |path: &str| answer.results.iter().find(|it| it.path == path).map(|it| it.score);
    let expected = library.relevance("otter", vec![short.trim_end().to_owned()]).await?;
    ensure!(score("other") == expected.first().copied(), "{answer:?}");
    ensure!(score("without") == Some(0.0) && score("long") > Some(0.0), "{answer:?}");
    Ok(())
}

/// A wrong name of a model or collection would look as if nothing was found.
#[tokio::test]
async fn what_is_not_there_is_told_so() -> Result<()> {
    let mut library = Library::with(BTreeMap::new()).await?;
    let request = |collection: &str, reranker: &str, k| TopSnippetsRequest {
        collection_name: collection.to_owned(),
        query: "otter".to_owned(),
        reranker: reranker.to_owned(),
        k,
        ..TopSnippetsRequest::default()
    };
    for (request, code, part) in [
        (request("nope", "", 1), Code::NotFound, "collection `nope` not found"),
        (request(COLLECTION, "nope", 1), Code::NotFound, "model `nope` not found; available: m"),
        (request(COLLECTION, "", 129), Code::InvalidArgument, "`k` is 129; it may be 1 to 128"),
    ] {
        let refused = library.queries.top_snippets(request).await.err().context("a refusal")?;
        ensure!(refused.code() == code && refused.message().contains(part), "{refused:?}");
    }
    let nothing = library.queries.top_snippets(request(COLLECTION, "m", 1)).await?.into_inner();
    ensure!(nothing == TopSnippetsResponse::default());
    Ok(())
}
