//! The Lease: only its holder writes.
//!
//! A lease counts as free when it has not been renewed for its duration by this process's own clock, whatever times
//! are written in it; and as lost a third of its duration before anybody else may take it.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Error};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Time after which a lease that is not renewed is free.
const DURATION: Duration = Duration::from_secs(15);
/// Time between renewals.
const RENEWAL: Duration = Duration::from_secs(3);
/// Time after which a holder that could not renew stops.
const LOST: Duration = Duration::from_secs(10);

/// A claim on the lease `name`, in the name of `identity`.
pub struct Leadership {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// The lease as it was last seen, and since when it has been so.
    seen: Option<(Option<String>, Instant)>,
}

impl Leadership {
    /// A claim that is not made yet.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Waits until the lease is this process's.
    pub async fn acquire(&mut self) {
        loop {
            match self.claim().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "the lease cannot be claimed");
                }
            }
            tokio::time::sleep(RENEWAL).await;
        }
    }

    /// Renews the lease until `stop`; returns earlier if it is lost.
    pub async fn hold(&mut self, stop: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RENEWAL) => {}
            }
            let left = LOST.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left.max(Duration::from_millis(1)), self.claim()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.name, "another operator holds the lease");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.name, "the lease was not renewed");
                }
                Err(_) => tracing::warn!(lease = self.name, "the lease was not renewed in time"),
            }
            if renewed.elapsed() >= LOST {
                tracing::error!(lease = self.name, "the lease is lost");
                return;
            }
        }
    }

    /// Gives the lease back, so that another takes it at once.
    pub async fn release(&mut self) {
        let released = async {
            let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() == Some(&self.identity) {
                spec.holder_identity = None;
                self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(RENEWAL, released).await {
            tracing::warn!(%error, lease = self.name, "the lease was not given back");
        }
    }

    /// Takes or renews the lease if it may be; whether it is held now.
    async fn claim(&mut self) -> Result<bool, Error> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None, &now)),
            };
            return held(self.leases.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
        let since = self.seen.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        let is_mine = holder == Some(&self.identity);
        let is_free = holder.is_none_or(str::is_empty) || since.elapsed() >= DURATION;
        if !is_mine && !is_free {
            return Ok(false);
        }
        let acquired = lease.spec.take().filter(|_| is_mine).and_then(|spec| spec.acquire_time);
        lease.spec = Some(self.spec(acquired, &now));
        // The resource version makes this fail if another was quicker.
        held(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, acquired: Option<MicroTime>, now: &MicroTime) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now.clone()),
            ..LeaseSpec::default()
        }
    }
}

fn held(written: Result<Lease, Error>) -> Result<bool, Error> {
    match written {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}
