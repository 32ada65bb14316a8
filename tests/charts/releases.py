"""What tests of releases in a cluster share."""

import contextlib
import os
import unittest

from api import ApiServer, namespace, wait_for
from helm import helm

KUBECONFIG = os.environ.get("RERANKER_TEST_KUBECONFIG")
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rerankerdeployments.reranker.dev"
OPERATOR, SERVER = "charts/reranker-operator", "charts/reranker"


@unittest.skipUnless(KUBECONFIG, "RERANKER_TEST_KUBECONFIG is not set: nothing was installed")
class ReleaseTest(unittest.TestCase):
    """A test with two namespaces, which enforce the level `restricted`, and helm."""

    SPACES = ("charts-one", "charts-two")

    def setUp(self):
        self.server = ApiServer(KUBECONFIG)
        _, definition, _ = self.server.call("GET", DEFINITION)
        owner = definition.get("metadata", {}).get("annotations", {}).get("meta.helm.sh/release-namespace")
        if owner not in (None, *self.SPACES):
            self.skipTest(f"the definition belongs to a release in the namespace {owner}: nothing was installed")
        for name in self.SPACES:
            self.server.apply(namespace(name), None, dry_run=False)
            self.addCleanup(self.server.delete, namespace(name))

    def helm(self, command, release, *arguments, space="charts-one"):
        if command == "test":
            arguments += ("--logs",)
        done = helm(command, release, *arguments, "--namespace", space, "--kubeconfig", KUBECONFIG)
        self.assertEqual(done.returncode, 0, f"helm {command} {release}:\n{done.stdout}{done.stderr}")
        self.assertNotIn("would violate PodSecurity", done.stderr)
        if command == "install":
            self.addCleanup(helm, "uninstall", release, "--namespace", space, "--kubeconfig", KUBECONFIG)

    def get(self, path):
        status, answer, _ = self.server.call("GET", path)
        self.assertEqual(status, 200, answer)
        return answer

    def assert_that_only_the_definition_is_left(self):
        stays = ["CustomResourceDefinition rerankerdeployments.reranker.dev"]
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.left() == stays, "more is left")
        self.assertEqual(self.left(), stays)

    def left(self):
        """What releases of these charts have left."""
        found = set()
        groups = ["/api/v1"] + [f"/apis/{group['preferredVersion']['groupVersion']}" for group in self.get("/apis")["groups"]]
        for group in groups:
            for resource in self.get(group)["resources"]:
                if "list" not in resource["verbs"]:
                    continue
                path = f"{group}/{resource['name']}?labelSelector=app.kubernetes.io/managed-by=Helm,app.kubernetes.io/part-of=reranker"
                found |= {f"{resource['kind']} {item['metadata']['name']}" for item in self.get(path).get("items", [])}
        return sorted(found)
