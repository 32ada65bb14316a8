"""The charts in a cluster's API server: install, upgrade, rollback, uninstall, and what the operator's account may do.

No node is needed, so whether pods run is not seen here.
"""

import shutil
import tempfile
from pathlib import Path

import yaml
from helm import ROOT
from releases import DEFINITION, OPERATOR, SERVER, ReleaseTest


class Releases(ReleaseTest):
    def install_operators(self):
        """One of the whole cluster, one of its own namespace."""
        self.helm("install", "operator", OPERATOR, "--take-ownership")
        settings = ("--set", "crds.install=false,watchNamespaces={charts-two}")
        self.helm("install", "operator", OPERATOR, *settings, space="charts-two")

    def test_install_upgrade_rollback_uninstall(self):
        """A definition that never upgrades, pods replaced for nothing, things left behind."""
        self.install_operators()
        self.helm("install", "rerank", SERVER)
        self.helm("install", "rerank", SERVER, "--set", "operator.enabled=false", space="charts-two")
        deployment = "/apis/apps/v1/namespaces/charts-one/deployments/operator"
        before, original = self.get(deployment)["spec"], self.get(DEFINITION)["spec"]

        with tempfile.TemporaryDirectory() as folder:
            newer = Path(folder) / "reranker-operator"
            shutil.copytree(ROOT / OPERATOR, newer)
            file = newer / "files/crd.yaml"
            file.write_text(file.read_text().replace("description: Image of the server.", "description: Another image."))
            self.helm("upgrade", "operator", newer, "--set", "replicas=3")
        after, changed = self.get(deployment)["spec"], self.get(DEFINITION)["spec"]
        self.assertEqual(after["replicas"], 3)
        self.assertEqual(after["template"], before["template"])
        self.assertIn("Another image.", yaml.safe_dump(changed))

        self.helm("rollback", "operator", "1")
        self.assertEqual(self.get(deployment)["spec"]["replicas"], 2)
        self.assertEqual(self.get(DEFINITION)["spec"], original)

        for space in self.SPACES:
            for release in ("rerank", "operator"):
                self.helm("uninstall", release, space=space)
        self.assert_that_only_the_definition_is_left()

    def test_the_operators_account_may_do_its_work_and_no_more(self):
        """It would stumble over a missing permission, or have one that it does not need."""
        self.install_operators()
        rules = yaml.safe_load((ROOT / OPERATOR / "files/rules.yaml").read_text())["watched"]
        for rule in rules:
            for verb in rule["verbs"]:
                asked = (verb, rule["apiGroups"][0], rule["resources"][0])
                with self.subTest(asked=asked):
                    self.assertTrue(self.may("charts-one", "charts-two", *asked))
                    self.assertTrue(self.may("charts-two", "charts-two", *asked))
                    self.assertFalse(self.may("charts-two", "charts-one", *asked), "outside of its namespaces")
        for asked in (("get", "", "secrets"), ("list", "", "secrets"), ("create", "", "pods"), ("get", "", "nodes"),
                      ("create", "rbac.authorization.k8s.io", "rolebindings"), ("delete", "reranker.dev", "rerankerdeployments")):
            with self.subTest(asked=asked):
                self.assertFalse(self.may("charts-one", "charts-one", *asked))
        lease = ("get", "coordination.k8s.io", "leases")
        self.assertTrue(self.may("charts-one", "charts-one", *lease, name="reranker-operator"))
        self.assertFalse(self.may("charts-one", "charts-one", *lease, name="another"))
        self.assertFalse(self.may("charts-one", "charts-two", *lease, name="reranker-operator"))

    def may(self, account, space, verb, group, resource, name=""):
        resource, _, subresource = resource.partition("/")
        attributes = {"namespace": space, "verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name}
        user = f"system:serviceaccount:{account}:operator"
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "spec": {"user": user, "resourceAttributes": attributes}}
        status, answer, _ = self.server.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        self.assertEqual(status, 201, answer)
        return answer["status"]["allowed"]
