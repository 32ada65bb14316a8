//! Load on served pods, made by the server's own `reranker bench`.

use crate::harness::World;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// How clients call.
#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

/// What `bench` says of a call that was about to use a connection when the server had closed that one to new calls. It
/// did not leave the client; clients with the usual retries send it over another connection.
const UNSENT: &str = "transport error: operation was canceled: connection closed";

/// Requests of clients of which none failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) answered: u64,
    pub(crate) unsent: u64,
}

impl std::ops::Add for Answered {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { answered: self.answered + other.answered, unsent: self.unsent + other.unsent }
    }
}

/// Clients that call until they are told to stop, killed when dropped.
pub(crate) struct Clients(Child);

impl Clients {
    /// Clients of the object's Service; `load` are flags of `reranker bench`.
    pub(crate) async fn start(world: &World, name: &str, protocol: Protocol, load: &str) -> Self {
        let service = world.api::<Service>().get(name).await.expect("is there");
        let address = service.spec.and_then(|spec| spec.cluster_ip).expect("an address");
        let (protocol, port) = match protocol {
            Protocol::Http => ("http", 8080),
            Protocol::Grpc => ("grpc", 50051),
        };
        let program = Path::new(env!("CARGO_BIN_EXE_reranker-operator")).with_file_name("reranker");
        let child = Command::new(program)
            .args(["bench", "--json", "--warmup-seconds", "0", "--duration-seconds", "3600"])
            .args(["--protocol", protocol, "--url", &format!("http://{address}:{port}")])
            .args(load.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`reranker` was built");
        Self(child)
    }

    /// Stops them and counts their requests, after checking that none failed.
    pub(crate) async fn stop(mut self) -> Answered {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().expect("kill is there");
        assert!(sent.success());
        let mut output = self.0.stdout.take().expect("is piped");
        let report: Value = tokio::task::spawn_blocking(move || {
            serde_json::from_reader(&mut output).expect("a report")
        })
        .await
        .expect("is read");
        let count = |kind: &str| report["requests"][kind].as_u64().expect("a number");
        let unsent = report["errors_by_reason"][UNSENT].as_u64().unwrap_or_default();
        let failed = count("refused") + count("timeouts") + count("errors") + count("not_sent");
        assert_eq!(failed, unsent, "{report:#}");
        Answered { answered: count("answered"), unsent }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
