//! Watches of what belongs to objects: which of them to look at again.
//!
//! Only metadata is read. Each of them has pauses of its own after an error: a restart of the API server ends all
//! watches, and pauses that they shared would add up to minutes.

use crate::autoscale::scaling::Reference;
use crate::resources::MANAGER;
use futures::future;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The API of a kind in the namespace, or in all.
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The objects whose children or pods have changed.
pub fn changes(client: &Client, namespace: Option<&str>) -> impl Stream<Item = Reference> + use<> {
    stream::select_all([
        children::<Deployment>(client, namespace),
        children::<Service>(client, namespace),
        children::<ServiceAccount>(client, namespace),
        children::<PersistentVolumeClaim>(client, namespace),
        children::<Job>(client, namespace),
        children::<PodDisruptionBudget>(client, namespace),
        children::<NetworkPolicy>(client, namespace),
        children::<Ingress>(client, namespace),
        children::<HorizontalPodAutoscaler>(client, namespace),
        watch::<Pod>(client, namespace, "app.kubernetes.io/name=reranker", of_pod),
    ])
}

fn children<K>(client: &Client, namespace: Option<&str>) -> BoxStream<'static, Reference>
where
    K: Watched + 'static,
{
    let labels = format!("app.kubernetes.io/managed-by={MANAGER}");
    watch::<K>(client, namespace, &labels, owner)
}

/// A kind that can be watched.
trait Watched:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug + Send
{
}

impl<K> Watched for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
{
}

fn watch<K>(
    client: &Client,
    namespace: Option<&str>,
    labels: &str,
    object: fn(&ObjectMeta) -> Option<Reference>,
) -> BoxStream<'static, Reference>
where
    K: Watched + 'static,
{
    let api = scoped::<PartialObjectMeta<K>>(client, namespace);
    watcher(api, watcher::Config::default().labels(labels))
        .default_backoff()
        .touched_objects()
        .filter_map(move |seen| {
            future::ready(match seen {
                Ok(seen) => object(&seen.metadata),
                Err(error) => {
                    tracing::warn!(%error, kind = %K::kind(&()), "a watch failed");
                    None
                }
            })
        })
        .boxed()
}

fn owner(child: &ObjectMeta) -> Option<Reference> {
    let mut owners = child.owner_references.iter().flatten();
    owners.find_map(|owner| Reference::from_owner_ref(child.namespace.as_deref(), owner, ()))
}

fn of_pod(pod: &ObjectMeta) -> Option<Reference> {
    let name = pod.labels.as_ref()?.get("app.kubernetes.io/instance")?;
    Some(Reference::new(name).within(pod.namespace.as_deref()?))
}
