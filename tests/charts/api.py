"""Server-side dry runs against the API server of a kubeconfig."""

import base64
import json
import os
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from helm import render


class ApiServer:
    """Speaks to the API server of a kubeconfig's current context, by client certificate or token."""

    def __init__(self, kubeconfig):
        config = yaml.safe_load(Path(kubeconfig).read_text())
        named = lambda kind, name: next(item for item in config[kind + "s"] if item["name"] == name)[kind]
        context = named("context", config["current-context"])
        cluster, user = named("cluster", context["cluster"]), named("user", context["user"])
        self.url = cluster["server"].rstrip("/")
        self.headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        self.tls = ssl.create_default_context(cafile=_file(cluster, "certificate-authority"))
        if certificate := _file(user, "client-certificate"):
            self.tls.load_cert_chain(certificate, _file(user, "client-key"))
        self.resources = {}

    def call(self, method, path, body=None, content="application/json"):
        """Status, answer and warnings."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.headers, "Content-Type": content, "Accept": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=30) as answer:
                return answer.status, json.load(answer), answer.headers.get_all("Warning", [])
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            is_status = "json" in error.headers.get("Content-Type", "")
            return error.code, json.loads(text) if is_status else {"message": text}, []

    def plural(self, manifest):
        """The resource of an object's kind and whether it is in a namespace; None if the server has no such kind."""
        group = manifest["apiVersion"]
        if group not in self.resources:
            _, answer, _ = self.call("GET", f"/{'apis' if '/' in group else 'api'}/{group}")
            self.resources[group] = {
                resource["kind"]: (resource["name"], resource["namespaced"])
                for resource in answer.get("resources", [])
                if "/" not in resource["name"]
            }
        return self.resources[group].get(manifest["kind"])

    def path(self, manifest, namespace):
        group, (plural, namespaced) = manifest["apiVersion"], self.plural(manifest)
        inside = f"/namespaces/{manifest['metadata'].get('namespace', namespace)}" if namespaced else ""
        return f"/{'apis' if '/' in group else 'api'}/{group}{inside}/{plural}/{manifest['metadata']['name']}"

    def apply(self, manifest, namespace, dry_run=True, manager="charts-test"):
        """Applies an object; raises what the server says against it, warnings included."""
        query = f"?fieldManager={manager}&force=true&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        status, answer, warnings = self.call(
            "PATCH", self.path(manifest, namespace) + query, manifest, "application/apply-patch+yaml"
        )
        if status >= 300 or warnings:
            raise AssertionError(f"{manifest['kind']} {manifest['metadata']['name']}: {answer.get('message')} {warnings}")

    def delete(self, manifest):
        """Deletes an object and waits until it is gone."""
        path = self.path(manifest, None)
        self.call("DELETE", path)
        wait_for(lambda: self.call("GET", path)[0] == 404, f"{path} is still there")


def wait_for(condition, complaint, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{complaint} after {seconds} s")
        time.sleep(0.1)


def _file(settings, name):
    if data := settings.get(f"{name}-data"):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(base64.b64decode(data))
        return file.name
    return settings.get(name) and os.path.expanduser(settings[name])


def define(server):
    """Installs the definition if the cluster has none, and waits until it is served. It stays, as the chart's does."""
    served = lambda: server.call("GET", "/apis/reranker.dev/v1alpha1/rerankerdeployments")[0] == 200
    if not served():
        definition = next(m for m in render("reranker-operator") if m["kind"] == "CustomResourceDefinition")
        # As a release would, so that one may take it over.
        server.apply(definition, None, dry_run=False, manager="helm")
    wait_for(served, "the definition is not served")


def service_account(name):
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def namespace(name):
    label = "pod-security.kubernetes.io/"
    labels = {label + "enforce": "restricted", label + "warn": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
