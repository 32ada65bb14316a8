//! Reads the load of a pod from its admin port.

use super::policy::Load;
use serde::Deserialize;
use std::fmt;
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
    loading: Option<Loading>,
}

/// How far the loading of a model is.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
struct Loading {
    model: String,
    step: String,
    done: u64,
    total: u64,
}

impl fmt::Display for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, step, done, total } = self;
        match (step.as_str(), total) {
            ("download", 0) => write!(f, "downloads `{model}`, {} MB so far", done / 1_000_000),
            ("download", _) => {
                let (percent, total) = (done * 100 / total, *total as f64 / 1e9);
                write!(f, "downloads `{model}`: {percent} % of {total:.1} GB")
            }
            ("layers", _) => write!(f, "loads `{model}`: {done} of {total} layers"),
            _ => write!(f, "warms up `{model}`"),
        }
    }
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

    /// Asks the pod at `address` for its load.
    ///
    /// # Errors
    /// If it does not answer in time, or not with a load.
    pub async fn read(&self, address: IpAddr, port: i32, tls: bool) -> Result<Answer, String> {
        self.ask(address, port, tls).await.map(|body| answer(&body))
    }

    /// What the pod at `address` is loading, as the end of a sentence; none: nothing, or it does not say.
    pub async fn loading(&self, address: IpAddr, port: i32, tls: bool) -> Option<String> {
        let body = self.ask(address, port, tls).await.ok()?;
        Some(body.loading?.to_string())
    }

    async fn ask(&self, address: IpAddr, port: i32, tls: bool) -> Result<Body, String> {
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
        serde_json::from_slice(&bytes).map_err(|error| format!("{url}: {error}"))
    }
}

fn answer(body: &Body) -> Answer {
    if body.draining {
        Answer::Draining
    } else {
        Answer::Load(Load {
            tokens: body.queued_tokens + body.inflight_tokens,
            tokens_per_second: body.tokens_per_second,
            busy: body.busy_ratio,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever waits for 3 GB would not know whether it goes on.
    #[test]
    fn loading_is_said_in_words() {
        for (loading, expected) in [
            (
                r#"{"model": "m", "step": "download", "done": 1200000000, "total": 3400000000}"#,
                "downloads `m`: 35 % of 3.4 GB",
            ),
            (
                r#"{"model": "m", "step": "download", "done": 5000000, "total": 0}"#,
                "downloads `m`, 5 MB so far",
            ),
            (
                r#"{"model": "m", "step": "layers", "done": 3, "total": 28}"#,
                "loads `m`: 3 of 28 layers",
            ),
            (r#"{"model": "m", "step": "warmup", "done": 0, "total": 0}"#, "warms up `m`"),
        ] {
            let loading: Loading = serde_json::from_str(loading).unwrap();
            assert_eq!(loading.to_string(), expected);
        }
    }
}
