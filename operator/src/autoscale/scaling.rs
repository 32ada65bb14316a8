//! The loop beside reconcile: looks at the load of each object's pods when it is due, decides, and writes the scale
//! subresource. Reconcile sees the new number as a changed spec, and the figures through [`Scaling::seen`].

use super::policy::{Load, Pod, Sample, Settings, decide};
use super::record::{Record, reason};
use super::signal::{Answer, Signal};
use super::window::{Change, Seconds};
use crate::crd::{AutoscalingMode, AutoscalingStatus, RerankerDeployment};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::resources::MANAGER;
use crate::status::Scaler;
use crate::validate::{Reranker, validate};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Objects whose pods are asked at the same time.
const CONCURRENCY: usize = 32;
/// Time between two looks for objects that are due.
const TICK: Duration = Duration::from_millis(500);
/// Before the process's start, so that what status remembers has a time too.
const ORIGIN: Seconds = 1e6;

/// An object, by namespace and name.
pub type Reference = ObjectRef<RerankerDeployment>;

/// The autoscaler of all objects.
pub struct Scaling {
    client: Client,
    signal: Signal,
    events: Events,
    metrics: Arc<Metrics>,
    pods: Store<v1::Pod>,
    started: Instant,
    known: Mutex<HashMap<Reference, Known>>,
    /// Objects whose status has something new to say.
    news: mpsc::Sender<Reference>,
}

/// What is known of an object.
struct Known {
    record: Record,
    due: Seconds,
    active: Option<Seconds>,
    /// Since when each pod has not been ready, and whether it waits for a node.
    waiting: HashMap<String, (bool, Seconds)>,
}

/// What reconcile shows.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What conditions say.
    pub scaler: Scaler,
    /// What status says; none: nothing new.
    pub status: Option<AutoscalingStatus>,
}

impl Scaling {
    /// An autoscaler that knows nothing yet.
    pub fn new(
        client: Client,
        signal: Signal,
        events: Events,
        metrics: Arc<Metrics>,
        pods: Store<v1::Pod>,
        news: mpsc::Sender<Reference>,
    ) -> Self {
        let (started, known) = (Instant::now(), Mutex::default());
        Self { client, signal, events, metrics, pods, started, known, news }
    }

    /// Looks at all objects when they are due; never ends.
    pub async fn run(&self, objects: Store<RerankerDeployment>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let objects = objects.state();
            self.forget(&objects);
            let due = objects.iter().filter_map(|object| Some((object, self.due(object)?)));
            stream::iter(due)
                .for_each_concurrent(CONCURRENCY, async |(object, reranker)| {
                    if let Err(error) = self.look(object, &reranker).await {
                        self.metrics.failed("scale");
                        tracing::warn!(%error, object = %Reference::from_obj(&**object), "not scaled");
                    }
                })
                .await;
        }
    }

    /// What is known of an object.
    pub fn seen(&self, reference: &Reference) -> Seen {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(reference).map_or_else(Seen::default, |known| Seen {
            scaler: known.record.scaler(),
            status: Some(known.record.shown().clone()),
        })
    }

    fn now(&self) -> Seconds {
        ORIGIN + self.started.elapsed().as_secs_f64()
    }

    fn forget(&self, objects: &[Arc<RerankerDeployment>]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|reference, _| {
            objects.iter().any(|object| Reference::from_obj(&**object) == *reference)
        });
    }

    /// The object, if it is one to scale and its time has come.
    fn due(&self, object: &Arc<RerankerDeployment>) -> Option<Reranker> {
        let spec = &object.spec;
        let is_ours =
            matches!(spec.autoscaling.mode, AutoscalingMode::Builtin | AutoscalingMode::Keda);
        if !is_ours || spec.paused || spec.stopped || object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let now = self.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(Reference::from_obj(&**object)).or_insert_with(|| {
            let old = object.status.as_ref().and_then(|status| status.autoscaling.as_ref());
            Known {
                record: Record::restore(old, now, Timestamp::now()),
                due: now,
                active: None,
                waiting: HashMap::new(),
            }
        });
        if now < known.due {
            return None;
        }
        known.due = now + f64::from(spec.autoscaling.sample_seconds);
        validate(object).ok()
    }

    async fn look(&self, object: &RerankerDeployment, reranker: &Reranker) -> Result<(), Error> {
        let reference = Reference::from_obj(object);
        let pods = self.pods_of(reranker);
        let (loads, silence) = self.read(reranker, &pods).await;
        let current = reranker.replicas.unwrap_or(reranker.bounds.min);
        let settings = Settings::of(reranker);
        let now = self.now();
        let decision = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(known) = known.get_mut(&reference) else { return Ok(()) };
            let sample = known.sample(&pods, &loads, now);
            let decision = decide(&settings, &mut known.record.history, &sample, now, current);
            known.record.decided(decision, silence);
            decision
        };
        let is_builtin = reranker.spec.autoscaling.mode == AutoscalingMode::Builtin;
        // An absent number is seeded by reconcile.
        if is_builtin && reranker.replicas.is_some_and(|replicas| replicas != decision.desired) {
            if decision.desired < current {
                self.price(reranker, &pods, &loads).await;
            }
            self.scale(reranker, decision.desired).await?;
            let why = reason(&decision);
            self.metrics.scaled(current, decision.desired);
            self.events.scaled(object, current, decision.desired, &why).await;
            let change = Change { at: now, from: current, to: decision.desired };
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get_mut(&reference) {
                known.record.changed(change, Timestamp::now(), why);
            }
        }
        self.show(reference, &settings, now);
        Ok(())
    }

    /// Tells reconcile if there is something to show.
    fn show(&self, reference: Reference, settings: &Settings, now: Seconds) {
        let window = f64::from(settings.behavior.scale_down.stabilization_window_seconds).max(60.0);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get_mut(&reference) else { return };
        let is_due = known.record.show(now, Timestamp::now(), window);
        // A full channel means that reconcile is behind: it will see the newest when it comes to it.
        if is_due && self.news.try_send(reference).is_err() {
            known.record.show_again();
        }
    }

    fn pods_of(&self, reranker: &Reranker) -> Vec<Arc<v1::Pod>> {
        let is_of = |pod: &Arc<v1::Pod>| {
            let labels = pod.labels();
            pod.metadata.deletion_timestamp.is_none()
                && pod.metadata.namespace.as_ref() == Some(&reranker.namespace)
                && labels.get("app.kubernetes.io/instance") == Some(&reranker.name)
                && labels.get("app.kubernetes.io/component").is_some_and(|it| it == "server")
        };
        self.pods.state().into_iter().filter(is_of).collect()
    }

    /// What pods that are not ready are loading, by name.
    pub async fn loading(&self, reranker: &Reranker, pods: &[v1::Pod]) -> BTreeMap<String, String> {
        let port = reranker.spec.server.admin_port;
        let tls = reranker.tls_secret().is_some();
        let asked = pods.iter().filter(|pod| !is_ready(pod)).map(async |pod| {
            let loading = self.signal.loading(address(pod)?, port, tls).await?;
            Some((pod.name_any(), loading))
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// The answers of the ready pods by name, and why the last silent one is so.
    async fn read(
        &self,
        reranker: &Reranker,
        pods: &[Arc<v1::Pod>],
    ) -> (HashMap<String, Option<Answer>>, Option<String>) {
        let port = reranker.spec.server.admin_port;
        let tls = reranker.tls_secret().is_some();
        let ready = pods.iter().filter(|pod| is_ready(pod));
        let asked = ready.map(async |pod| {
            let answer = match address(pod) {
                Some(address) => self.signal.read(address, port, tls).await,
                None => Err(format!("pod `{}` has no address", pod.name_any())),
            };
            (pod.name_any(), answer)
        });
        let mut silence = None;
        let mut answers = HashMap::new();
        for (name, answer) in futures::future::join_all(asked).await {
            let answer = answer.map_err(|error| silence = Some(error)).ok();
            answers.insert(name, answer);
        }
        (answers, silence)
    }

    /// Makes the pods with the least work the first to go.
    async fn price(
        &self,
        reranker: &Reranker,
        pods: &[Arc<v1::Pod>],
        loads: &HashMap<String, Option<Answer>>,
    ) {
        let api: Api<v1::Pod> = Api::namespaced(self.client.clone(), &reranker.namespace);
        for pod in pods {
            let Some(Some(Answer::Load(Load { tokens, .. }))) = loads.get(&pod.name_any()) else {
                continue;
            };
            let cost = i32::try_from(*tokens).unwrap_or(i32::MAX).to_string();
            let name = "controller.kubernetes.io/pod-deletion-cost";
            if pod.annotations().get(name).is_some_and(|before| *before == cost) {
                continue;
            }
            let patch = json!({"metadata": {"annotations": {name: cost}}});
            let patch = Patch::Merge(patch);
            // Without a price another pod goes, which drains as well.
            if let Err(error) = api.patch(&pod.name_any(), &PatchParams::default(), &patch).await {
                tracing::debug!(%error, pod = pod.name_any(), "not priced");
            }
        }
    }

    async fn scale(&self, reranker: &Reranker, replicas: i32) -> Result<(), Error> {
        let api: Api<RerankerDeployment> =
            Api::namespaced(self.client.clone(), &reranker.namespace);
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        api.patch_scale(&reranker.name, &params, &patch).await?;
        Ok(())
    }

    /// The last figures of an object, for whoever asks in KEDA's name; none: they are not known.
    pub fn figures(&self, reference: &Reference) -> Option<super::policy::Figures> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(reference)?.record.decision?.figures
    }
}

fn address(pod: &v1::Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn is_ready(pod: &v1::Pod) -> bool {
    has(pod, "Ready", "True")
}

fn has(pod: &v1::Pod, kind: &str, value: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == kind && it.status == value)
}

impl Known {
    fn sample(
        &mut self,
        pods: &[Arc<v1::Pod>],
        answers: &HashMap<String, Option<Answer>>,
        now: Seconds,
    ) -> Sample {
        self.waiting.retain(|uid, _| pods.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid)));
        let mut sample = Sample { known_rate: self.record.known_rate(), ..Sample::default() };
        let mut templates: Vec<&String> = Vec::new();
        for pod in pods {
            templates.extend(pod.labels().get("pod-template-hash"));
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            match answers.get(&pod.name_any()) {
                Some(Some(Answer::Draining)) => {}
                Some(answer) => {
                    self.waiting.remove(&uid);
                    self.active.get_or_insert(now);
                    sample.pods.push(Pod::Ready(match answer {
                        Some(Answer::Load(load)) => Some(*load),
                        _ => None,
                    }));
                }
                None => {
                    let is_unscheduled = has(pod, "PodScheduled", "False");
                    let entry = self.waiting.entry(uid).or_insert((is_unscheduled, now));
                    if entry.0 != is_unscheduled {
                        *entry = (is_unscheduled, now);
                    }
                    let waited = now - entry.1;
                    sample.pods.push(if is_unscheduled {
                        Pod::Unscheduled(waited)
                    } else {
                        Pod::Starting(waited)
                    });
                }
            }
        }
        templates.sort_unstable();
        templates.dedup();
        sample.is_rolling_out = templates.len() > 1;
        sample.active = self.active.map(|since| now - since);
        sample
    }
}
