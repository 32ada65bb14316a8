"""The charts on a cluster with nodes: from install to an answer, and through upgrades."""

import os
import sys
import time
import unittest

import callers
from api import wait_for
from releases import OPERATOR, SERVER, ReleaseTest

IMAGE = os.environ.get("RERANKER_TEST_IMAGE")
OPERATOR_IMAGE = os.environ.get("RERANKER_TEST_OPERATOR_IMAGE")
# Where the cluster's names are resolved.
DNS = os.environ.get("RERANKER_TEST_DNS", "")
SLICES = "/apis/discovery.k8s.io/v1/namespaces/charts-two/endpointslices"
OBJECT = "/apis/reranker.dev/v1alpha1/namespaces/charts-two/rerankerdeployments/rerank"


def image(reference):
    repository, _, tag = reference.rpartition(":")
    return f"image.repository={repository},image.tag={tag}"


@unittest.skipUnless(
    IMAGE and OPERATOR_IMAGE, "RERANKER_TEST_IMAGE or RERANKER_TEST_OPERATOR_IMAGE is not set: no pods were started"
)
class Pods(ReleaseTest):
    def test_from_install_to_uninstall(self):
        """The commands of the README do not lead to an answer; an upgrade takes away pods that serve."""
        small = f"{image(IMAGE)},resources.requests.cpu=100m"
        began = time.monotonic()
        self.helm("install", "operator", OPERATOR, "--take-ownership", "--wait", "--set", image(OPERATOR_IMAGE))
        self.helm("install", "rerank", SERVER, "--set", small, space="charts-two")
        wait_for(lambda: self.condition("Available") == "True", "the object is not available")
        available = time.monotonic() - began
        self.helm("test", "rerank", space="charts-two")
        print(f"\ninstalled to available: {available:.1f} s, to two answers: {time.monotonic() - began:.1f} s", file=sys.stderr)
        self.helm("test", "operator")

        first = self.pods()
        self.helm("upgrade", "rerank", SERVER, "--set", f"{small},autoscaling.minReplicas=2", space="charts-two")
        wait_for(lambda: self.get(OBJECT)["status"]["ready"] == "2/2", "no second pod")
        both = self.pods()
        self.assertLess(first, both)
        self.assert_that_callers_are_served()
        self.helm("upgrade", "operator", OPERATOR, "--wait", "--set", f"{image(OPERATOR_IMAGE)},log.format=text")
        self.assertEqual(self.pods(), both)
        self.helm("rollback", "rerank", "1", space="charts-two")

        plain = ("--wait", "--set", f"{small},operator.enabled=false")
        self.helm("install", "plain", SERVER, *plain, space="charts-two")
        self.helm("test", "plain", space="charts-two")

        for release, space in (("plain", "charts-two"), ("rerank", "charts-two"), ("operator", "charts-one")):
            self.helm("uninstall", release, space=space)
        self.assert_that_only_the_definition_is_left()

    def assert_that_callers_are_served(self):
        service = self.get("/api/v1/namespaces/charts-two/services/rerank")["spec"]["clusterIP"]
        self.assertEqual(callers.sdk_order(f"{service}:8080", "demo"), [0, 1])
        wait_for(lambda: len(self.endpoints()) == 2, "the headless Service has not both pods")
        admins = [f"{address}:9090" for address in self.endpoints()]
        name = "rerank-headless.charts-two.svc.cluster.local:50051"
        counts = callers.grpc_calls(f"dns://{DNS}/{name}", admins, 100)
        print(f"\n100 calls over gRPC by two pods: {counts}", file=sys.stderr)
        self.assertEqual(sum(counts), 100)
        self.assertTrue(all(40 <= count <= 60 for count in counts), counts)

    def endpoints(self):
        slices = self.get(f"{SLICES}?labelSelector=kubernetes.io/service-name=rerank-headless")["items"]
        found = [endpoint for part in slices for endpoint in part["endpoints"] or []]
        return [address for endpoint in found if endpoint["conditions"]["ready"] for address in endpoint["addresses"]]

    def condition(self, kind):
        conditions = self.get(OBJECT).get("status", {}).get("conditions", [])
        return next((condition["status"] for condition in conditions if condition["type"] == kind), None)

    def pods(self):
        path = "/api/v1/namespaces/charts-two/pods?labelSelector=app.kubernetes.io/component=server,app.kubernetes.io/instance=rerank"
        return {pod["metadata"]["name"] for pod in self.get(path)["items"]}
