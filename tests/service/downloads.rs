//! Links to documents and to images of their pages: what they give, and to whom.

use anyhow::{Context, Result, ensure};
use reqwest::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, StatusCode};
use reranker::downloads::{Download, Secret, UrlSigner};
use reranker::server::Edge;
use reranker_tests::certificates::Files;
use reranker_tests::library::Library;
use reranker_tests::server::Settings;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

const DOCUMENT: &str = "/v1/documents/get-document";
const IMAGE: &str = "/v1/documents/get-page-image";

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

async fn get(url: &str) -> Result<Got> {
    let answer = Client::new().get(url).send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    Ok(Got { status, headers, bytes: answer.bytes().await?.to_vec() })
}

async fn link(library: &Library, path: &str) -> Result<String> {
    let document = library.document(path).await?;
    Ok(document["file_url"].as_str().context("a link")?.to_owned())
}

fn token(url: &str) -> Result<&str> {
    Ok(url.split_once("?token=").context("has a token")?.1)
}

/// A PDF of one page that says so.
fn pdf() -> Vec<u8> {
    let content = "BT /F 24 Tf 72 720 Td (otter page) Tj ET";
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(),
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>"
            .to_owned(),
        format!("<</Length {}>>\nstream\n{content}\nendstream", content.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_owned(),
    ];
    let mut file = String::from("%PDF-1.7\n");
    let mut places = vec!["0000000000 65535 f \n".to_owned()];
    for (object, number) in objects.iter().zip(1..) {
        places.push(format!("{:010} 00000 n \n", file.len()));
        file.extend([format!("{number} 0 obj\n{object}\nendobj\n")]);
    }
    let (start, size, table) = (file.len(), places.len(), places.concat());
    let end = format!("trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n");
    [file, format!("xref\n0 {size}\n{table}"), end].concat().into_bytes()
}

/// Base64 without padding, which any length may leave out.
pub(crate) fn auto(bytes: &[u8]) -> Value {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3)
            .fold(0_u32, |number, at| number << 8 | group.get(at).copied().map_or(0, u32::from));
        for at in 0..=group.len() {
            text.push(char::from(ALPHABET[(number >> (18 - 6 * at)) as usize & 63]));
        }
    }
    json!({"type": "auto", "base64_data": text})
}

/// A browser would run what somebody has uploaded, or a user would get another file than was stored.
#[tokio::test]
async fn links_give_what_was_sent_as_what_it_is() -> Result<()> {
    let library = Library::empty().await?;
    library.add_text("notes/a é.html", "<b>text</b>").await?;
    let (html, unknown) = (b"<html><script>x</script></html>".to_vec(), vec![0, 255, 1]);
    for (path, bytes) in
        [("b.html", &html), ("c.csv", &b"x,y\n1,2\n".to_vec()), ("d.pdf", &pdf()), ("e", &unknown)]
    {
        library.add(path, auto(bytes)).await?;
    }
    library.settled().await?;
    let pages = json!({"type": "text-pages", "pages": ["one", "two"]});
    library.add("f", pages).await?;
    for (path, bytes, kind, disposition) in [
        ("notes/a é.html", &b"<b>text</b>"[..], "text/plain; charset=utf-8", "inline"),
        ("b.html", &html, "text/html; charset=utf-8", "attachment"),
        ("c.csv", b"x,y\n1,2\n", "text/csv; charset=utf-8", "inline"),
        ("d.pdf", &pdf(), "application/pdf", "inline"),
        ("e", &unknown, "application/octet-stream", "attachment"),
        ("f", b"one\ntwo", "text/plain; charset=utf-8", "inline"),
    ] {
        let url = link(&library, path).await?;
        ensure!(url.starts_with(&format!("{}{DOCUMENT}?token=", library.http())), "{url}");
        let got = get(&url).await?;
        ensure!(got.status == 200 && got.bytes == bytes, "{path}: {:?}", got.headers);
        ensure!(got.headers[CONTENT_TYPE] == kind, "{path}: {:?}", got.headers);
        ensure!(got.headers["x-content-type-options"] == "nosniff");
        ensure!(got.headers.contains_key("x-request-id"));
        let shown = got.headers[CONTENT_DISPOSITION].to_str()?;
        ensure!(shown.starts_with(disposition), "{path}: {shown}");
        ensure!(!shown.contains('/') && shown.is_ascii(), "{shown}");
        let control = got.headers[CACHE_CONTROL].to_str()?;
        let age = control.strip_prefix("private, max-age=").context("may be kept")?;
        let seconds: u64 = age.split(',').next().context("a number")?.parse()?;
        ensure!((7 * 86_400..=8 * 86_400).contains(&seconds), "{control}");
    }
    Ok(())
}

/// Whoever has one link, or an old one, could read what it was not given for.
#[tokio::test]
async fn links_are_for_one_document_and_for_a_time() -> Result<()> {
    let library = Library::empty().await?;
    library.add_text("a", "otter").await?;
    library.add("b.pdf", auto(&pdf())).await?;
    library.settled().await?;
    let (first, second) = (link(&library, "a").await?, link(&library, "b.pdf").await?);
    let url = |route: &str, token: &str| format!("{}{route}?token={token}", library.http());
    let id: Uuid = serde_json::from_value(library.document("b.pdf").await?["id"].take())?;
    let own = UrlSigner::new(&Secret::open(library.folder())?, None);
    let other = UrlSigner::new(&Secret::random(), None);
    let now = SystemTime::now();
    let signed = |signer: &UrlSigner, download, at: SystemTime| -> Result<String> {
        let link = signer.url(download, "", at.try_into()?);
        Ok(token(&link)?.to_owned())
    };
    let document = Download::Document(id);
    ensure!(get(&url(DOCUMENT, &signed(&own, document, now)?)).await?.bytes == pdf());
    let days = |days: u64| Duration::from_hours(24 * days);
    let image = signed(&own, Download::PageImage(id, 0), now)?;
    let mut changed = token(&first)?.to_owned();
    let last = if changed.ends_with('A') { "B" } else { "A" };
    changed.replace_range(changed.len() - 1.., last);
    let mixed = format!("{}{}", &token(&first)?[..40], &token(&second)?[40..]);
    for (route, token) in [
        (DOCUMENT, String::new()),
        (DOCUMENT, "x".to_owned()),
        (DOCUMENT, "x".repeat(10_000)),
        (DOCUMENT, "%00%ff".to_owned()),
        (DOCUMENT, changed),
        (DOCUMENT, mixed),
        (DOCUMENT, format!("{}=", token(&first)?)),
        (DOCUMENT, signed(&other, document, now)?),
        (DOCUMENT, signed(&own, document, now - days(9))?),
        (DOCUMENT, signed(&own, Download::Document(Uuid::now_v7()), now)?),
        (DOCUMENT, image.clone()),
        (IMAGE, token(&second)?.to_owned()),
        (IMAGE, signed(&own, Download::PageImage(id, 1), now)?),
        (IMAGE, signed(&own, Download::PageImage(id, u32::MAX), now)?),
        (IMAGE, signed(&own, Download::PageImage(Uuid::now_v7(), 0), now)?),
    ] {
        let got = get(&url(route, &token)).await?;
        ensure!(got.status == 404, "{route} {token}: {}", got.status);
        let told: Value = serde_json::from_slice(&got.bytes)?;
        ensure!(
            told["detail"]
                == "the download link is wrong or has expired; ask for the document again"
        );
        ensure!(!got.headers.contains_key(CACHE_CONTROL));
    }
    for route in [DOCUMENT, IMAGE] {
        let got = get(&format!("{}{route}", library.http())).await?;
        let told: Value = serde_json::from_slice(&got.bytes)?;
        let detail = json!([
            {"type": "missing", "loc": ["query", "token"], "msg": "Field required"},
        ]);
        ensure!(got.status == 422 && told["detail"] == detail, "{told}");
        ensure!(library.post(route, &json!({})).await?.status == 405);
    }
    let drawn = get(&url(IMAGE, &image)).await?;
    ensure!(drawn.status == 200 && drawn.headers[CONTENT_TYPE] == "image/jpeg");
    ensure!(drawn.bytes.starts_with(b"\xff\xd8\xff"));

    // A document that is replaced or deleted takes its links with it.
    let body = json!({
        "collection_name": "c", "path": "a", "overwrite": true,
        "content": {"type": "text", "text": "heron"},
    });
    library.ask("/documents/add-document", &body).await?;
    ensure!(get(&first).await?.status == 404);
    ensure!(get(&link(&library, "a").await?).await?.bytes == b"heron");
    let delete = json!({"collection_name": "c"});
    library.ask("/collections/delete-collection", &delete).await?;
    ensure!(get(&second).await?.status == 404 && get(&url(IMAGE, &image)).await?.status == 404);
    Ok(())
}

/// Pages would have broken images, or none although there are some.
#[tokio::test]
async fn pages_of_files_have_images() -> Result<()> {
    let library = Library::empty().await?;
    library.add("a.pdf", auto(&pdf())).await?;
    library.add("b", json!({"type": "text-pages", "pages": ["otter page"]})).await?;
    library.settled().await?;
    let page = async |path: &str| -> Result<Value> {
        let body = json!({"collection_name": "c", "path": path, "page_index": 0});
        Ok(library.ask("/documents/get-page-info", &body).await?["page"]["image_url"].take())
    };
    let query = json!({"collection_name": "c", "query": "otter", "k": 2});
    let found = library.ask("/queries/top-pages", &query).await?["results"].take();
    ensure!((&found[0]["path"], &found[1]["path"]) == (&json!("a.pdf"), &json!("b")), "{found}");
    ensure!(found[1]["image_url"].is_null() && page("b").await?.is_null());
    let url = page("a.pdf").await?;
    ensure!(found[0]["image_url"] == url, "{found}");
    let got = get(url.as_str().context("a link")?).await?;
    ensure!(got.status == 200 && got.bytes.starts_with(b"\xff\xd8\xff"));
    Ok(())
}

/// Links would point into the cluster, or need the key that their reader does not have.
#[tokio::test]
async fn links_lead_where_clients_are() -> Result<()> {
    let keys = Files::new(&[("keys", "writer\n")])?;
    let edge = Edge { keys_file: Some(keys.path("keys")), ..Edge::default() };
    let public_url = Some("https://search.example/base/".to_owned());
    let library = Library::start(Settings { edge, public_url, ..Settings::default() }).await?;
    let ask = async |path: &str, mut body: Value| -> Result<Value> {
        body["collection_name"] = json!("c");
        let headers = [("authorization", "Bearer writer"), ("host", "other.example")];
        Ok(library.post_with(path, &body, &headers).await?.body)
    };
    ask("/collections/add-collection", json!({})).await?;
    let content = json!({"type": "text", "text": "otter"});
    ask("/documents/add-document", json!({"path": "a", "content": content})).await?;
    let document = ask("/documents/get-document-info", json!({"path": "a"})).await?;
    let url = document["document"]["file_url"].as_str().context("a link")?;
    let path = url.strip_prefix("https://search.example/base").context("begins as told")?;
    let got = get(&format!("{}{path}", library.http())).await?;
    ensure!(got.bytes == b"otter");

    let library = Library::empty().await?;
    library.add_text("a", "otter").await?;
    let body = json!({"collection_name": "c", "path": "a"});
    let headers = [("host", "other.example:81")];
    let answer = library.post_with("/documents/get-document-info", &body, &headers).await?;
    let url = answer.body["document"]["file_url"].as_str().context("a link")?;
    ensure!(url.starts_with("http://other.example:81/v1/documents/"), "{url}");
    Ok(())
}
