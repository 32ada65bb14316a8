use super::*;
use proptest::prelude::*;
use std::io::{Cursor, Write};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn limits() -> ParseLimits {
    ParseLimits::default()
}

fn text_of(path: &str, bytes: impl AsRef<[u8]>) -> String {
    parse(path, bytes.as_ref(), &limits()).unwrap().text
}

fn error_of(path: &str, bytes: impl AsRef<[u8]>, limits: &ParseLimits) -> String {
    parse(path, bytes.as_ref(), limits).unwrap_err().0
}

fn docx(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, xml) in parts {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(xml.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A PDF of these objects, numbered from 1; the first is the catalog.
fn pdf(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n", index + 1).into_bytes());
        bytes.extend(object);
        bytes.extend(b"\nendobj\n");
    }
    let start = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for offset in offsets {
        bytes.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    let size = objects.len() + 1;
    bytes.extend(
        format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n")
            .into_bytes(),
    );
    bytes
}

fn stream(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut object = format!("<< {dictionary} /Length {} >>\nstream\n", data.len()).into_bytes();
    object.extend(data);
    object.extend(b"\nendstream");
    object
}

/// A PDF whose pages have these contents, with Helvetica as `F1`, and whatever object 4 is as `X1`.
fn pdf_of(contents: &[Vec<u8>], form: Vec<u8>) -> Vec<u8> {
    let count = contents.len();
    let kids: Vec<String> = (0..count).map(|page| format!("{} 0 R ", 5 + 2 * page)).collect();
    let kids = kids.concat();
    let mut objects = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        format!("<< /Type /Pages /Kids [{kids}] /Count {count} >>").into_bytes(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
            .to_vec(),
        form,
    ];
    for (page, content) in contents.iter().enumerate() {
        objects.push(
            format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R /Resources \
                 << /Font << /F1 3 0 R >> /XObject << /X1 4 0 R >> >> >>",
                6 + 2 * page
            )
            .into_bytes(),
        );
        objects.push(content.clone());
    }
    pdf(&objects)
}

fn pdf_showing(pages: &[&str]) -> Vec<u8> {
    let page =
        |operators: &&str| stream("", format!("BT /F1 10 Tf 72 720 Td {operators} ET").as_bytes());
    pdf_of(&pages.iter().map(page).collect::<Vec<_>>(), b"null".to_vec())
}

/// Files that editors write would be refused, or be searched with marks and line ends in their words.
#[test]
fn text_is_decoded() {
    let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}naïve 🦀\r\n".encode_utf16().flat_map(unit).collect()
    };
    let files = [
        "\u{feff}naïve 🦀\r\n".as_bytes().to_vec(),
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
    ];
    for bytes in files {
        assert_eq!(text_of("a/b.txt", bytes), "naïve 🦀\n");
    }
    assert_eq!(text_of("README.md", "# Title\n\n* item"), "# Title\n\n* item");
    assert_eq!(text_of("no ending", ""), "");
    let error = error_of("a.bin", b"abc\xff", &limits());
    assert!(
        error.starts_with("no UTF-8 at byte `3`; plain text, Markdown, HTML and CSV"),
        "{error}"
    );
    assert!(error_of("a.txt", b"a\0b", &limits()).starts_with("NUL at byte `1`"));
    assert!(error_of("a.txt", b"\xff\xfe\x00\xd8", &limits()).starts_with("malformed UTF-16"));
    assert!(error_of("a.pdf", "text", &limits()).starts_with("its path ends in `.pdf`"));
}

/// Snippets would show scripts, run words together, or end where the source happens to break its lines.
#[test]
fn html_becomes_what_a_reader_sees() {
    let page = "<!DOCTYPE html><html><head><title>A &amp; B</title><style>p{}</style></head><body>
        <script>if (a < b) { '</p>' }</script><h1>Head</h1>
        <p>one <b>t</b>wo,\n  <a href='x'>three</a><br>four</p>
        <ul><li>a</li><li>b</li></ul><table><tr><th>x</th><td>y</td></tr><tr><td>z</table>
        <pre>  kept\n  so</pre><noscript>turn it on</noscript><!-- no --></body></html>";
    let text = "A & B\n\nHead\n\none two, three\nfour\n\na\nb\n\nx\ty\nz\n\n  kept\n  so";
    assert_eq!(text_of("page.html", page), text);
    assert_eq!(text_of("page", page), text, "known by how it begins");
    let latin = b"<meta charset=\"iso-8859-1\"><p>caf\xe9";
    assert_eq!(text_of("page.htm", latin), "café");
    let long = "word ".repeat(1000);
    assert_eq!(text_of("page.html", format!("<p>{long}")), long.trim(), "is not wrapped");
}

/// A record could not be found by what its columns are called, or would share a page with its neighbour.
#[test]
fn csv_records_are_pages() {
    let csv = "name,note\r\nAda,\"two\nlines\"\r\nBob,\r\nCy,x,extra\r\n";
    let text = parse("people.csv", csv.as_bytes(), &limits()).unwrap();
    let pages = ["name: Ada\nnote: two\nlines", "name: Bob", "name: Cy\nnote: x\nextra"];
    let pages: Vec<String> = pages.map(str::to_owned).into();
    assert_eq!(text, DocumentText::paged(&pages, false));
    assert_eq!(parse("a.csv", b"", &limits()).unwrap().pages, Pages::Unordered(vec![]));
}

/// Text of a letter would be lost, or run together.
#[test]
fn docx_paragraphs_are_lines() {
    let document = "<w:document xmlns:w='w' xmlns:mc='mc'><w:body>
        <w:p><w:pPr><w:tabs><w:tab w:pos='9'/></w:tabs></w:pPr><w:r><w:t>One </w:t></w:r><w:r><w:t xml:space='preserve'>&amp; &#x74;wo</w:t><w:tab/><w:t>x</w:t>
        <w:br/><w:t>y</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>
        <w:p/><w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc>
        <w:tc><w:p><w:r><w:t>c</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
        <w:p><mc:AlternateContent><mc:Choice><w:t>new</w:t></mc:Choice><mc:Fallback><w:t>old</w:t>
        </mc:Fallback></mc:AlternateContent></w:p></w:body></w:document>";
    let notes = "<w:footnotes xmlns:w='w'><w:p><w:t>note</w:t></w:p></w:footnotes>";
    let file = docx(&[("word/document.xml", document), ("word/footnotes.xml", notes)]);
    let text = "One & two\tx\ny\n\na b\tc\nnew\nnote";
    assert_eq!(text_of("letter.docx", &file), text);
    assert_eq!(text_of("letter", &file), text);
    let other = docx(&[("xl/workbook.xml", "")]);
    assert!(error_of("a.xlsx", other, &limits()).starts_with("a ZIP without `word/document.xml`"));
}

/// Words of a PDF would be split or run together, so that no query finds them.
#[test]
fn pdf_glyphs_become_words_lines_and_pages() {
    let first = "[(Hel) -20 (lo) -400 (world,)] TJ 0 -12 Td (a hyphen-) Tj 0 -12 Td (ated line) Tj \
        0 -40 Td (Next) Tj 2 Tr 40 0 Td (bold) Tj 3 Tr 30 0 Td (hidden) Tj 0 Tr 0 -12 Td (twice) Tj \
        0.2 0 Td (twice) Tj 1 0 0 1 300 720 Tm (column) Tj 0 -12 Td (\\223caf\\351\\224) Tj";
    let file = pdf_showing(&[first, "(second) Tj", ""]);
    let text = parse("a.pdf", &file, &limits()).unwrap();
    let pages = [
        "Hello world,\na hyphenated line\n\nNext bold hidden\ntwice\n\ncolumn\n“café”",
        "second",
        "",
    ];
    assert_eq!(text, DocumentText::paged(&pages.map(str::to_owned), true));
    let error = error_of("a.pdf", pdf_showing(&[""]), &limits());
    assert!(error.starts_with("the PDF has no text layer"), "{error}");
    assert_eq!(error_of("a.pdf", "%PDF-1.7 and nothing", &limits()), "malformed PDF");
}

/// A page's image would not be shown, or be too large to load.
#[test]
fn pages_are_drawn() {
    let file = pdf_showing(&["(Hello) Tj", "(second) Tj"]);
    let jpeg = page_image(&file, 1, &limits()).unwrap().unwrap();
    assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    let side = |at: usize| u16::from_be_bytes([jpeg[frame + at], jpeg[frame + at + 1]]);
    assert_eq!((side(5), side(7)), (1599, 1236));
    let blank = page_image(&pdf_showing(&[""]), 0, &limits()).unwrap().unwrap();
    assert!(blank.len() < jpeg.len(), "nothing was drawn");
    assert_eq!(page_image(&file, 2, &limits()), Ok(None));
    assert_eq!(page_image(b"text", 0, &limits()), Ok(None));
}

/// A browser would show bytes as what they are not, or run what was stored as text.
#[test]
fn downloads_have_the_type_of_their_bytes() {
    let cases: [(&str, &[u8], &str); 8] = [
        ("a.txt", b"a", "text/plain; charset=utf-8"),
        ("a.txt", b"\xff\xfea\0", "text/plain; charset=utf-16"),
        ("a.md", b"a", "text/markdown; charset=utf-8"),
        ("a", b"<html>", "text/html; charset=utf-8"),
        ("a.csv", b"a", "text/csv; charset=utf-8"),
        ("a.txt", b"%PDF-1.7", "application/pdf"),
        ("a.png", b"\x89PNG\r\n", "application/octet-stream"),
        ("a.pdf", b"text", "application/octet-stream"),
    ];
    for (path, bytes, expected) in cases {
        assert_eq!(content_type(path, bytes, true), expected, "{path}");
    }
    assert_eq!(content_type("a.html", b"<html>", false), "text/plain; charset=utf-8");
    assert_eq!(
        content_type("a.docx", b"PK\x03\x04", true),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    );
}

/// One file would take all memory or a core for ever.
#[test]
fn limits_hold() {
    let small = ParseLimits { text_bytes: 100, pages: 2, expanded_bytes: 100_000, ..limits() };
    let long = "word ".repeat(30);
    let too_long = "more than `100` bytes of text; split the file";
    let document = format!("<w:document xmlns:w='w'><w:p><w:t>{long}</w:t></w:p></w:document>");
    assert_eq!(error_of("a.txt", &long, &small), too_long);
    assert_eq!(error_of("a.html", &long, &small), too_long);
    assert_eq!(error_of("a.csv", format!("{long}\n1\n2\n"), &small), too_long);
    assert_eq!(error_of("a.docx", docx(&[("word/document.xml", &document)]), &small), too_long);
    let pages = [&*format!("({long}) Tj"), "(a) Tj"];
    assert_eq!(error_of("a.pdf", pdf_showing(&pages), &small), too_long);
    let too_many = "more than `2` pages; split the file";
    assert_eq!(error_of("a.csv", "a\n1\n2\n3\n", &small), too_many);
    assert_eq!(error_of("a.pdf", pdf_showing(&["(a) Tj"; 3]), &small), too_many);

    let spaces = " ".repeat(1_000_000);
    let document = format!("<w:document>{spaces}</w:document>");
    let expands = "its parts unpack to more than `100000` bytes; split the file";
    assert_eq!(error_of("a.docx", docx(&[("word/document.xml", &document)]), &small), expands);
    for (filters, data) in packed(spaces.as_bytes()) {
        let content = stream(&format!("/Filter {filters}"), &data);
        let file = pdf_of(&[content], b"null".to_vec());
        assert_eq!(error_of("a.pdf", &file, &small), expands, "{filters}");
        assert_eq!(page_image(&file, 0, &small).unwrap_err().0, expands, "{filters}");
    }

    let image = "/Type /XObject /Subtype /Image /Width 1000 /Height 1000 /BitsPerComponent 1";
    let file = pdf_of(&[stream("", b"/X1 Do")], stream(image, b""));
    assert_eq!(page_image(&file, 0, &small).unwrap_err().0, expands);

    let none = ParseLimits { time: Duration::ZERO, ..limits() };
    for (path, bytes) in valid_files() {
        let outcome = parse(path, &bytes, &none);
        assert!(outcome.is_ok() == (path == "a.txt"), "{path}: {outcome:?}");
    }
}

/// The same bytes in all that a PDF may pack them in.
fn packed(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let deflated = |bytes: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let hex = |bytes: &[u8]| -> Vec<u8> {
        bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).chain(*b">").collect()
    };
    let lzw = weezl::encode::Encoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8).encode(bytes);
    let runs: Vec<u8> =
        bytes.chunks(128).flat_map(|run| [(257 - run.len()) as u8, run[0]]).collect();
    let flate = deflated(bytes);
    vec![
        ("/FlateDecode", flate.clone()),
        ("/#46lateDecode", flate.clone()),
        ("[/FlateDecode/FlateDecode]", deflated(&flate)),
        ("[ /ASCIIHexDecode /Fl ]", hex(&flate)),
        ("/LZWDecode", lzw.unwrap()),
        ("/RunLengthDecode", runs),
    ]
}

/// Nested without end, a file would overflow the stack and end the process.
#[test]
fn nesting_is_no_danger() {
    let depth = 100_000;
    assert_eq!(text_of("a.html", format!("{}deep", "<div>".repeat(depth))), "deep");
    let attributes: Vec<String> = (0..2000).map(|index| format!(" a{index}=b")).collect();
    let attributes = attributes.concat();
    assert_eq!(text_of("a.html", format!("<p{attributes}>text")), "text");
    let xml = format!("{}<w:p><w:t>deep</w:t></w:p>", "<w:x>".repeat(depth));
    assert!(parse("a.docx", &docx(&[("word/document.xml", &xml)]), &limits()).is_ok());

    let draws_itself = stream(
        "/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> \
         /XObject << /X1 4 0 R >> >>",
        b"BT /F1 10 Tf 72 720 Td (again) Tj ET /X1 Do",
    );
    let file = pdf_of(&[stream("", b"/X1 Do")], draws_itself);
    assert!(text_of("a.pdf", &file).starts_with("again"));
    assert!(page_image(&file, 0, &limits()).is_ok());
    for open in ["[", "<<", "(", "<< /A ", "q ", "BT "] {
        let content = stream("", format!("{} (a) Tj", open.repeat(depth)).as_bytes());
        let _ = parse("a.pdf", &pdf_of(&[content], open.repeat(depth).into_bytes()), &limits());
    }
    let cycle =
        [b"<< /Type /Catalog /Pages 2 0 R >>".as_slice(), b"<< /Type /Pages /Kids [2 0 R] >>"];
    assert!(parse("a.pdf", &pdf(&cycle.map(<[u8]>::to_vec)), &limits()).is_err());
}

fn valid_files() -> Vec<(&'static str, Vec<u8>)> {
    let xml = "<w:document xmlns:w='w'><w:p><w:t>some &amp; text</w:t></w:p></w:document>";
    vec![
        ("a.txt", b"some text".to_vec()),
        ("a.html", b"<html><p title='a'>some &amp; text<script>x</script>".to_vec()),
        ("a.csv", b"a,b\n1,\"2\n3\"\n".to_vec()),
        ("a.docx", docx(&[("word/document.xml", xml)])),
        ("a.pdf", pdf_showing(&["(some) Tj", "[(te) -20 (xt)] TJ"])),
    ]
}

fn malformed() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let files = valid_files();
    let any_bytes = proptest::collection::vec(any::<u8>(), 0..300);
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    let broken = (0..files.len(), any::<proptest::sample::Index>(), changes).prop_map(
        move |(file, cut, changes)| {
            let (path, mut bytes) = files[file].clone();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() * 2));
            (path, bytes)
        },
    );
    let endings = vec!["a", "a.txt", "a.md", "a.html", "a.csv", "a.docx", "a.pdf"];
    let start =
        proptest::sample::select(vec!["", "%PDF-1.7\n", "PK\x03\x04", "<html>", "\u{feff}"]);
    let arbitrary = (proptest::sample::select(endings), start, any_bytes)
        .prop_map(|(path, start, bytes)| (path, [start.as_bytes(), &bytes].concat()));
    prop_oneof![broken, arbitrary]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A damaged upload would take the server down, or its document would hold pages that are not there.
    #[test]
    fn malformed_files_are_errors((path, bytes) in malformed()) {
        let limits = ParseLimits { text_bytes: 1000, pages: 10, ..limits() };
        if let Ok(text) = parse(path, &bytes, &limits) {
            prop_assert!(text.text.len() <= 1000);
            let pages = text.pages.count();
            prop_assert!(pages.is_none_or(|pages| pages <= 10));
            let pages: Vec<&str> =
                (0..u64::from(pages.unwrap_or(1))).map(|page| text.page(page).unwrap()).collect();
            prop_assert_eq!(pages.join("\n"), text.text);
        }
        let _ = content_type(path, &bytes, true);
    }
}
