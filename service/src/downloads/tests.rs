use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("is in range")
}

fn token(url: &str) -> &str {
    url.split_once("token=").expect("has a token").1
}

/// A client's cache would never be used, or links would die before the promised week.
#[test]
fn links_repeat_within_a_day_and_live_a_week() {
    let signer = UrlSigner::new(&Secret::random(), None);
    let download = Download::Document(Uuid::now_v7());
    let day = 20_000 * DAY;
    let url = |second| signer.url(download, "http://h:1", at(second));
    assert!(url(day).starts_with("http://h:1/v1/documents/get-document?token="));
    assert_eq!(url(day + 1), url(day + DAY));
    assert_ne!(url(day), url(day + 1));
    let first = url(day + 1);
    let check = |second| signer.check(token(&first), at(second));
    assert_eq!(check(day + 1), Some(Permit { download, seconds_left: (8 * DAY - 1) as u64 }));
    assert_eq!(check(day + 8 * DAY - 1), Some(Permit { download, seconds_left: 1 }));
    assert_eq!(check(day + 8 * DAY), None);
}

/// Links would point to where the server is not reached.
#[test]
fn the_public_address_goes_before_the_host() {
    let signer = UrlSigner::new(&Secret::random(), Some("https://a.example/api/"));
    let url = signer.url(Download::PageImage(Uuid::nil(), 3), "http://h:1", at(0));
    assert!(url.starts_with("https://a.example/api/v1/documents/get-page-image?token="), "{url}");
}

/// A restart would break every link that was given out, or others could read the secret.
#[test]
fn the_secret_outlives_the_process_and_is_the_owners() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Secret::open(folder.path());
    let first = open().expect("is made");
    assert_eq!(open().expect("is read").bytes(), first.bytes());
    assert_ne!(Secret::random().bytes(), first.bytes());
    let file = folder.path().join("url-secret");
    let mode = fs::metadata(&file).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    fs::write(&file, "short").expect("is written");
    let error = open().expect_err("is no secret").to_string();
    assert!(error.contains("has 5 bytes, not 32"), "{error}");
}

proptest! {
    /// Whoever has one link could read other documents.
    #[test]
    fn only_what_was_signed_is_permitted(
        id in any::<u128>(), page in any::<u32>(), position in 0..(PAYLOAD + SIGNATURE), bit in 0..8_u32,
    ) {
        let signer = UrlSigner::new(&Secret::random(), None);
        let id = Uuid::from_u128(id);
        for download in [Download::Document(id), Download::PageImage(id, page)] {
            let url = signer.url(download, "", at(0));
            let permit = signer.check(token(&url), at(0));
            prop_assert_eq!(permit.map(|permit| permit.download), Some(download));
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(token(&url)).expect("is base64");
            bytes[position] ^= 1_u8 << bit;
            prop_assert_eq!(signer.check(&BASE64_URL_SAFE_NO_PAD.encode(&bytes), at(0)), None);
            let cut = &token(&url)[..position];
            prop_assert_eq!(signer.check(cut, at(0)), None);
            let other = UrlSigner::new(&Secret::random(), None);
            prop_assert_eq!(other.check(token(&url), at(0)), None);
        }
    }

    /// Any text may come as a token.
    #[test]
    fn anything_else_is_refused(text in ".{0,120}") {
        let signer = UrlSigner::new(&Secret::random(), None);
        prop_assert_eq!(signer.check(&text, at(0)), None);
    }
}
