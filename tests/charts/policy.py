"""What must hold of every rendered object."""

from helm import pod_of

LABELS = {
    *(f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of", "version", "managed-by")),
    "helm.sh/chart",
}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


def restricted(spec):
    """Yields what the pod security level `restricted`, or good sense, forbids in a pod."""
    pod = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        if not VOLUMES.issuperset(volume.keys() - {"name"}):
            yield f"volume {volume} is of a kind that is not allowed"
    if "automountServiceAccountToken" not in spec:
        yield "automountServiceAccountToken is not said"
    for container in spec.get("initContainers", []) + spec["containers"]:
        own, name = container.get("securityContext", {}), container["name"]
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation is not false"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: capabilities are not dropped"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: readOnlyRootFilesystem is not true"
        if not {**pod, **own}.get("runAsNonRoot"):
            yield f"{name}: runAsNonRoot is not true"
        if {**pod, **own}.get("runAsUser") == 0:
            yield f"{name}: runAsUser is 0"
        if {**pod, **own}.get("seccompProfile") not in ({"type": "RuntimeDefault"}, {"type": "Localhost"}):
            yield f"{name}: no seccomp profile"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name}: hostPort"


def selects(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def selectors(manifest):
    """Yields the selectors of pods in an object."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Service":
            yield spec["selector"]
        case "Deployment":
            yield spec["selector"]["matchLabels"]
            for constraint in spec["template"]["spec"].get("topologySpreadConstraints", []):
                yield constraint["labelSelector"]["matchLabels"]
        case "PodDisruptionBudget" | "PodMonitor":
            yield spec["selector"]["matchLabels"]
        case "NetworkPolicy":
            yield spec["podSelector"]["matchLabels"]


def faults(manifests):
    """Yields what is wrong with the objects of a release."""
    pods = [(manifest, *pod_of(manifest)) for manifest in manifests if pod_of(manifest)]
    seen = set()
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        identity = (name, manifest["metadata"].get("namespace"))
        if identity in seen:
            yield f"{name} is there twice"
        seen.add(identity)
        missing = LABELS - manifest["metadata"].get("labels", {}).keys()
        if missing - ({"app.kubernetes.io/component"} if manifest["kind"] == "CustomResourceDefinition" else set()):
            yield f"{name} lacks the labels {sorted(missing)}"
        for selector in selectors(manifest):
            chosen = [maker for maker, _, labels in pods if selects(selector, labels)]
            if [maker["kind"] for maker in chosen] != ["Deployment"]:
                yield f"{name} selects {[maker['metadata']['name'] for maker in chosen]} by {selector}"
        if manifest["kind"] == "ServiceMonitor":
            selector = manifest["spec"]["selector"]["matchLabels"]
            services = [m for m in manifests if m["kind"] == "Service" and selects(selector, m["metadata"]["labels"])]
            ports = [port["name"] for service in services for port in service["spec"]["ports"]]
            if ports.count(manifest["spec"]["endpoints"][0]["port"]) != 1:
                yield f"{name} scrapes {len(services)} Services with the ports {ports}"
    for maker, spec, _ in pods:
        for fault in restricted(spec):
            yield f"{maker['kind']} {maker['metadata']['name']}: {fault}"
