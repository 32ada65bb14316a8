//! Why a pod does not serve, in the words of who knows: the scheduler, the kubelet, the server's last log line.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use std::collections::BTreeMap;

/// Why a pod does not serve; a later one is nearer to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is on its way.
    Starting,
    /// The process runs and is not ready.
    ModelLoading,
    /// No node fits.
    Unschedulable,
    /// No node has a device left.
    InsufficientGpu,
    /// A Secret, `ConfigMap` or claim is missing.
    ConfigMissing,
    /// The image cannot be had.
    ImagePullFailed,
    /// The process ends again and again.
    CrashLooping,
}

impl Cause {
    /// The reason of a condition.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Starting => "PodStarting",
            Self::ModelLoading => "ModelLoading",
            Self::Unschedulable => "Unschedulable",
            Self::InsufficientGpu => "InsufficientGPU",
            Self::ConfigMissing => "ConfigMissing",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::CrashLooping => "CrashLooping",
        }
    }
}

/// Why a pod does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The kind of reason.
    pub cause: Cause,
    /// What was said about it.
    pub message: String,
}

/// Whether the pod serves.
pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

fn condition<'a>(pod: &'a Pod, name: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == name)
}

/// Why `pod` does not serve; none: it does. `resource` is the device that it asks for, `loading` what pods say of
/// themselves.
pub fn diagnose(
    pod: &Pod,
    resource: &str,
    loading: &BTreeMap<String, String>,
) -> Option<Diagnosis> {
    if is_ready(pod) {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if let Some(message) = unscheduled(pod) {
        // The scheduler's sentence; "Insufficient cpu" is not a lack of devices.
        let lacks_device = message.contains(&format!("Insufficient {resource}"));
        let cause = if lacks_device { Cause::InsufficientGpu } else { Cause::Unschedulable };
        return Some(Diagnosis { cause, message: format!("pod `{name}`: {message}") });
    }
    let status = pod.status.as_ref();
    let containers = status.map(|status| {
        let initial = status.init_container_statuses.iter().flatten();
        initial.chain(status.container_statuses.iter().flatten())
    });
    let worst = containers.into_iter().flatten().filter_map(diagnose_container);
    let worst = worst.max_by_key(|(cause, _)| *cause);
    let (cause, message) = match (worst, loading.get(name)) {
        (None, _) => (Cause::Starting, "is starting".to_owned()),
        (Some((Cause::ModelLoading, _)), Some(loading)) => (Cause::ModelLoading, loading.clone()),
        (Some(worst), _) => worst,
    };
    Some(Diagnosis { cause, message: format!("pod `{name}`: {message}") })
}

fn unscheduled(pod: &Pod) -> Option<&str> {
    let condition = condition(pod, "PodScheduled")?;
    (condition.status == "False")
        .then(|| condition.message.as_deref().unwrap_or("waits for a node"))
}

fn diagnose_container(container: &ContainerStatus) -> Option<(Cause, String)> {
    if container.ready {
        return None;
    }
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if let Some(waiting) = &state.waiting {
        let message = waiting.message.clone().unwrap_or_default();
        return match waiting.reason.as_deref()? {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                Some((Cause::ImagePullFailed, message))
            }
            "CreateContainerConfigError" => Some((Cause::ConfigMissing, message)),
            "CrashLoopBackOff" => Some((Cause::CrashLooping, ended(container, last))),
            _ if last.is_some() => Some((Cause::CrashLooping, ended(container, last))),
            _ => None,
        };
    }
    if let Some(terminated) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
        return Some((Cause::CrashLooping, ended(container, Some(terminated))));
    }
    if state.running.is_some() {
        return Some(match last {
            // A process that was ended from outside, or did as it was told, is not at fault.
            Some(last) if last.exit_code != 0 => {
                (Cause::CrashLooping, ended(container, Some(last)))
            }
            _ => (
                Cause::ModelLoading,
                "runs and is not ready: it downloads or loads its model".to_owned(),
            ),
        });
    }
    None
}

/// How the container ended: its last line, else its exit code.
fn ended(
    container: &ContainerStatus,
    last: Option<&k8s_openapi::api::core::v1::ContainerStateTerminated>,
) -> String {
    let restarts = container.restart_count;
    let Some(last) = last else { return format!("ends at start, {restarts} restarts") };
    let line = last
        .message
        .as_deref()
        .unwrap_or_default()
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty());
    let reason = last.reason.as_deref().unwrap_or("Error");
    match line {
        Some(line) => format!("ended with code {} ({reason}): {}", last.exit_code, line.trim()),
        None => format!("ended with code {} ({reason})", last.exit_code),
    }
}
