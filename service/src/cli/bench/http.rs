//! The hosted API's client side.

use super::payload::Payload;
use super::statistics::Outcome;
use super::{ApiKey, Options, chain};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Method, Request};
use serde::Deserialize;

/// Ready-made requests; each outstanding one has a connection of its own.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    requests: Vec<(Request, u64)>,
}

/// The one field of an answer that is counted.
#[derive(Deserialize)]
struct Answer {
    total_tokens: u64,
}

impl Http {
    /// # Errors
    /// A sentence about what is wrong with the options.
    pub(super) fn new(options: &Options, payloads: &[Payload]) -> Result<Self, String> {
        let mut builder = Client::builder()
            .user_agent(super::USER_AGENT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .pool_max_idle_per_host(options.plan.max_outstanding);
        if let Some(pem) = &options.tls_ca {
            let certificates = Certificate::from_pem_bundle(pem).map_err(|error| chain(&error))?;
            builder = builder.tls_certs_only(certificates);
        } else if options.url.starts_with("http://") {
            // The system's are not needed, and an image may have none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| chain(&error))?;
        let base = options.url.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let requests = payloads.iter().map(|payload| {
            let mut request = client
                .request(Method::POST, format!("{base}/v1/models/rerank"))
                .header(CONTENT_TYPE, "application/json")
                .header("x-stainless-read-timeout", options.plan.timeout.as_secs_f64().to_string())
                .body(serde_json::to_vec(payload).map_err(|error| error.to_string())?);
            if let Some(ApiKey(key)) = &options.api_key {
                let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                    .map_err(|_| "the API key has characters that no header can carry")?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let request = request.build().map_err(|error| chain(&error))?;
            Ok((request, payload.documents.len() as u64))
        });
        let requests = requests.collect::<Result<Vec<_>, String>>()?;
        Ok(Self { client, requests })
    }

    /// Sends one of the requests, in turn.
    pub(super) async fn send(&self, index: usize) -> Outcome {
        let (request, documents) = &self.requests[index % self.requests.len()];
        let request = request.try_clone().expect("the body is in memory");
        let answer = async {
            let response = self.client.execute(request).await?;
            let status = response.status();
            Ok((status, response.bytes().await?))
        };
        match answer.await {
            Ok((status, body)) if status.is_success() => match serde_json::from_slice(&body) {
                Ok(Answer { total_tokens }) => {
                    Outcome::Answered { documents: *documents, tokens: total_tokens }
                }
                Err(_) => Outcome::Failed("an answer without `total_tokens`".to_owned()),
            },
            Ok((status, _)) => Outcome::Refused(status.as_str().to_owned()),
            Err(error) => {
                let error: reqwest::Error = error;
                Outcome::Failed(chain(&error.without_url()))
            }
        }
    }
}
