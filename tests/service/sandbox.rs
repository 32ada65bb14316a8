//! The least that a process may be given: any user, no home, a file system that is read-only but for the
//! cache and the data.

use crate::hub::{Imitation, TOKEN};
use anyhow::Result;
use reranker_tests::process::Process;
use reranker_tests::raw::{Answer, Connection};
use reranker_tests::until;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// Nobody's.
const USER: u32 = 65_534;

/// Becomes the server in a mount namespace of its own, where the folder `$0` holds the binary, the cache and
/// the data, and nothing but the latter two can be written.
const SANDBOX: &str = r#"
exec unshare --mount --propagation private sh -c '
    mount --bind "$0" "$0" && mount --bind "$0/cache" "$0/cache" &&
    mount --bind "$0/data" "$0/data" &&
    mount --bind "$1" "$0/reranker" && shift &&
    mount -o remount,bind,ro "$0" && mount -o remount,bind,ro / &&
    ! touch "$0/written" 2>&1 && ! touch /written 2>&1 &&
    exec env --unset=HOME setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
        --inh-caps=-all --bounding-set=-all "$0/reranker" "$@"
' "$0" "$@"
"#;

/// Whether namespaces and mounts are allowed here, or that they are not.
fn is_possible() -> bool {
    let script = "mount --bind / /mnt && setpriv --reuid=65534 --bounding-set=-all true";
    let tried = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", script])
        .output();
    let works = tried.is_ok_and(|output| output.status.success());
    if !works {
        eprintln!(
            "SKIPPED sandbox: a mount namespace and another user need root, unshare and setpriv"
        );
    }
    works
}

fn owner(path: &Path) -> Result<u32> {
    Ok(path.metadata()?.uid())
}

/// Clusters run containers as a user without a name on a read-only root; a server that writes anywhere but
/// in its cache and its data, or looks for a home, would not start there.
#[tokio::test(flavor = "multi_thread")]
async fn any_user_on_a_read_only_file_system_can_serve() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let hub = Imitation::start().await?;
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    File::create(folder.path().join("reranker"))?;
    let (cache, data) = (folder.path().join("cache"), folder.path().join("data"));
    for writable in [&cache, &data] {
        std::fs::create_dir(writable)?;
        std::os::unix::fs::chown(writable, Some(USER), Some(USER))?;
    }

    let (root, home) = (folder.path().display().to_string(), cache.display().to_string());
    let variables = [("HF_ENDPOINT", &hub.endpoint[..]), ("HF_HOME", &home), TOKEN];
    let data_dir = data.display().to_string();
    let flags = ["--model", "m=hf:org/model", "--data-dir", &data_dir];
    let process = Process::serve_in_shell(SANDBOX, &root, &flags, &variables)?.ready()?;
    assert_eq!(owner(Path::new(&format!("/proc/{}", process.id())))?, USER);
    assert_eq!(owner(&cache.join("hub"))?, USER, "the model is in the cache");

    let post = |path: &str, body: &str| -> Result<Answer> {
        Connection::open(&process.http)?.post_json(path, &[], body)
    };
    let body = r#"{"query":"q","documents":["a","b"]}"#;
    assert_eq!(post("/v1/models/rerank", body)?.status, 200);
    let added = post("/v1/collections/add-collection", r#"{"collection_name":"c"}"#)?;
    assert_eq!(added.status, 201);
    let body = r#"{"collection_name":"c","path":"a","content":{"type":"text","text":"otter"}}"#;
    assert_eq!(post("/v1/documents/add-document", body)?.status, 201);
    until("the document is found", async || {
        let query = r#"{"collection_name":"c","query":"otter","k":1}"#;
        let found = post("/v1/queries/top-snippets", query).and_then(|found| found.json());
        found.is_ok_and(|found| found["results"][0]["score"].as_f64() > Some(0.0))
    })
    .await;
    assert_eq!(owner(&data.join("store.sqlite"))?, USER);
    process.terminate()?;
    let (status, log) = process.end()?;
    assert!(status.success(), "{status}: {log}");
    Ok(())
}
