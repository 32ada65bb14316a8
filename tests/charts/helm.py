"""Runs helm on the charts."""

import functools
import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
HELM = os.environ.get("HELM", "helm")
# The API version of Kubernetes that rendering assumes; goldens must not depend on helm's own.
KUBERNETES = "1.36.0"


def helm(*arguments):
    command = [HELM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@functools.cache
def template(chart, *values, release=None, namespace="search", show_tests=True, sets=()):
    """What `helm template` writes."""
    arguments = ["template", release or chart, f"charts/{chart}", "--namespace", namespace, "--kube-version", KUBERNETES]
    for file in values:
        arguments += ["--values", file]
    for value in sets:
        arguments += ["--set", value]
    if not show_tests:
        arguments.append("--skip-tests")
    return helm(*arguments)


def render(chart, *values, **options):
    """The objects of a chart."""
    done = template(chart, *values, **options)
    if done.returncode:
        raise AssertionError(f"helm template {chart} {[str(file) for file in values]}:\n{done.stderr}")
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def pod_of(manifest):
    """The pod spec in an object, and the pod's labels; None if it makes no pods."""
    if manifest["kind"] == "Pod":
        return manifest["spec"], manifest["metadata"].get("labels", {})
    template = manifest["spec"].get("template") if manifest["kind"] in ("Deployment", "Job") else None
    return (template["spec"], template["metadata"]["labels"]) if template else None
