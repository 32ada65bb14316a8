//! Reads the load of a pod from its admin port.

use super::policy::Load;
use serde::Deserialize;
use std::net::IpAddr;
use std::time::Duration;

/// A pod that takes longer is as good as silent.
const PATIENCE: Duration = Duration::from_secs(1);

/// What `/load` says.
#[derive(Deserialize, Debug)]
struct Body {
    queued_tokens: u64,
    inflight_tokens: u64,
    tokens_per_second: f64,
    busy_ratio: f64,
    draining: bool,
}

/// What a pod said of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// How loaded it is.
    Load(Load),
    /// It takes no more requests.
    Draining,
}

/// Asks pods for their load.
#[derive(Clone, Debug)]
pub struct Signal {
    client: reqwest::Client,
}

impl Signal {
    /// A client for all pods.
    ///
    /// # Errors
    /// If there is no TLS.
    pub fn new() -> Result<Self, reqwest::Error> {
        // A pod's certificate has the Services' names and it is asked by its address, as by the kubelet's
        // probes; what it says is no secret.
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { client })
    }

    /// Asks the pod at `address`.
    ///
    /// # Errors
    /// If it does not answer in time, or not with a load.
    pub async fn read(&self, address: IpAddr, port: i32, tls: bool) -> Result<Answer, String> {
        let scheme = if tls { "https" } else { "http" };
        let host = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let url = format!("{scheme}://{host}:{port}/load");
        let answer =
            self.client.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        let bytes = match answer {
            Ok(answer) => answer.bytes().await,
            Err(error) => Err(error),
        };
        let bytes = bytes.map_err(|error| format!("{url}: {}", error.without_url()))?;
        parse(&bytes).map_err(|error| format!("{url}: {error}"))
    }
}

fn parse(bytes: &[u8]) -> Result<Answer, serde_json::Error> {
    let body: Body = serde_json::from_slice(bytes)?;
    Ok(if body.draining {
        Answer::Draining
    } else {
        Answer::Load(Load {
            tokens: body.queued_tokens + body.inflight_tokens,
            tokens_per_second: body.tokens_per_second,
            busy: body.busy_ratio,
        })
    })
}
