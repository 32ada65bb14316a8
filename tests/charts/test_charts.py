"""The charts: what good values become, what bad ones are told, and that nothing in them is out of date."""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import yaml
from api import ApiServer, define, namespace, service_account
from helm import ROOT, helm, render, template
from policy import CLUSTER_SCOPED, faults

HERE = Path(__file__).parent
CHARTS = ("reranker-operator", "reranker")
GENERATE = "RERANKER_GENERATE" in os.environ


def cases(folder, chart):
    return sorted((HERE / folder / chart).glob("*.yaml"))


def without_empty(value):
    """Leaves out empty lists, objects and texts, which say nothing."""
    if isinstance(value, dict):
        kept = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in ({}, [], None, "")}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


class Charts(unittest.TestCase):
    maxDiff = None

    def test_lint(self):
        """An installer's first look."""
        for chart in CHARTS:
            for values in cases("good", chart):
                done = helm("lint", "--strict", f"charts/{chart}", "--values", values)
                with self.subTest(chart=chart, values=values.stem):
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    self.assertIn("0 chart(s) failed", done.stdout)
                    self.assertNotIn("WARNING", done.stdout)

    def test_bad_values_are_told_what_is_wrong(self):
        """A mistake would reach the cluster, or its author would not learn of it."""
        for chart in CHARTS:
            for values in cases("bad", chart):
                expected = [line[3:] for line in values.read_text().splitlines() if line.startswith("#> ")]
                done = template(chart, values)
                with self.subTest(chart=chart, values=values.stem):
                    self.assertNotEqual(done.returncode, 0, "it was accepted")
                    self.assertEqual(messages(done.stderr), expected, done.stderr)

    def test_every_rule_has_bad_values(self):
        """A rule that nothing breaks may be one that never holds."""
        for chart in CHARTS:
            rules = (ROOT / "charts" / chart / "templates/rules.yaml").read_text()
            texts = re.findall(r'(?:^    |fail |printf )\(?(?:printf )?"(?:\\n)?([^"]{20,})"', rules, re.MULTILINE)
            self.assertGreater(len(texts), 1)
            told = "\n".join(values.read_text() for values in cases("bad", chart)) + RELEASE_MESSAGES
            for text in texts:
                with self.subTest(chart=chart, rule=text):
                    self.assertRegex(told, "%s".join(map(re.escape, text.split("%s"))).replace("%s", ".*"))

    def test_names_of_releases(self):
        """They become names of Services."""
        done = template("reranker", release="9lives")
        self.assertIn("the release's name `9lives` becomes the name of Services", done.stderr)
        done = template("reranker-operator", release="an.operator")
        self.assertIn("the release's name `an.operator` becomes the name of a Service", done.stderr)
        self.assertEqual(template("reranker", release="9lives", sets=("name=cat",)).returncode, 0)

    def test_objects_are_sound(self):
        """Pods that a namespace with the level `restricted` refuses, selectors that find nothing or too much."""
        for chart in CHARTS:
            for values in cases("good", chart):
                with self.subTest(chart=chart, values=values.stem):
                    self.assertEqual(list(faults(render(chart, values))), [])

    def test_two_releases_share_nothing(self):
        """Installing it twice would fail, or the second would take over the first's objects."""
        for chart, sets in (("reranker-operator", ("crds.install=false",)), ("reranker", ()), ("reranker", ("operator.enabled=false",))):
            names = [
                {
                    (m["kind"], m["metadata"].get("namespace", "" if m["kind"] in CLUSTER_SCOPED else namespace), m["metadata"]["name"])
                    for m in render(chart, namespace=namespace, sets=sets)
                }
                for namespace in ("one", "two")
            ]
            self.assertFalse(names[0] & names[1])

    def test_goldens(self):
        """A change of what is installed that nobody meant."""
        for chart in CHARTS:
            for values in cases("good", chart):
                golden = HERE / "golden" / chart / f"{values.stem}.yaml"
                manifests = [m for m in render(chart, values) if m["kind"] != "CustomResourceDefinition"]
                for manifest in manifests:
                    if manifest["metadata"]["name"].endswith("-dashboard"):
                        manifest["data"] = sorted(manifest["data"])
                text = yaml.safe_dump_all(manifests, sort_keys=True, width=120)
                if GENERATE:
                    golden.parent.mkdir(parents=True, exist_ok=True)
                    golden.write_text(text)
                with self.subTest(chart=chart, values=values.stem):
                    self.assertEqual(text, golden.read_text(), "run `make charts RERANKER_GENERATE=1` if this is meant")

    def test_plain_pods_are_the_operators(self):
        """Whoever takes the operator in later, or out, would serve with other settings."""
        goldens = ROOT / "operator/src/resources/golden"
        self.assertEqual([file.name for file in cases("parity", ".")], sorted(file.name for file in goldens.glob("*.yaml")))
        for values in cases("parity", "."):
            theirs = {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all((goldens / values.name).read_text())}
            ours = render("reranker", values, release="small", show_tests=False, sets=("operator.enabled=false",))
            for manifest in ours:
                kind, name = manifest["kind"], manifest["metadata"]["name"]
                with self.subTest(case=values.stem, kind=kind, name=name):
                    expected = comparable(theirs.pop((kind, name)))
                    self.assertEqual(comparable(manifest), expected)
            # What only an operator can do.
            self.assertLessEqual({kind for kind, _ in theirs}, {"Job", "ScaledObject", "PersistentVolumeClaim"})

    def test_settings_of_the_operator_are_the_objects_fields(self):
        """Values and fields with the same name would mean different things."""
        schema = yaml.safe_load((ROOT / "charts/reranker-operator/files/crd.yaml").read_text())
        spec = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        values = yaml.safe_load((ROOT / "charts/reranker/values.yaml").read_text())
        own = {"models", "image.repository", "accelerator.type", "resources", "operator", "dashboard", "test"}
        for path, value in leaves(values):
            if own & {path[0], ".".join(path)}:
                continue
            field = spec
            for key in path:
                field = field["properties"][key]
            with self.subTest(value=".".join(path)):
                self.assertEqual(value, field.get("default", value))

    def test_values_and_schemas_name_the_same(self):
        """A value that the schema refuses, or that no comment describes."""
        for chart in CHARTS:
            folder = ROOT / "charts" / chart
            documented = {row.split("`")[1] for row in (folder / "README.md").read_text().splitlines() if row.startswith("| `")}
            schema = yaml.safe_load((folder / "values.schema.json").read_text())
            for path in properties(schema):
                with self.subTest(chart=chart, value=".".join(path)):
                    self.assertTrue({".".join(path[: end + 1]) for end in range(len(path))} & documented or path == ("global",))

    def test_generated_files(self):
        done = subprocess.run(
            [sys.executable, ROOT / "charts/generate.py", "--check"], capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_api_server_takes_them(self):
        """What helm renders and no cluster accepts."""
        if not (kubeconfig := os.environ.get("RERANKER_TEST_KUBECONFIG")):
            self.skipTest("RERANKER_TEST_KUBECONFIG is not set: nothing was sent to an API server")
        server = ApiServer(kubeconfig)
        space = namespace("charts-test")
        server.apply(space, None, dry_run=False)
        define(server)
        missing, sent = set(), 0
        try:
            for chart in CHARTS:
                for values in cases("good", chart):
                    for manifest in render(chart, values):
                        if "namespace" in manifest["metadata"]:
                            manifest["metadata"]["namespace"] = "charts-test"
                        if account := manifest["kind"] == "Pod" and manifest["spec"].get("serviceAccountName"):
                            server.apply(service_account(account), "charts-test", dry_run=False)
                        if not server.plural(manifest):
                            missing.add(manifest["kind"])
                            continue
                        with self.subTest(chart=chart, values=values.stem, kind=manifest["kind"]):
                            server.apply(manifest, "charts-test")
                            sent += 1
        finally:
            server.delete(space)
        print(f"\n{sent} objects taken by the API server; it does not have the kinds {sorted(missing)}", file=sys.stderr)


RELEASE_MESSAGES = """
the release's name `9lives` becomes the name of Services: set `name`, at most 40 lower case letters, digits and dashes
the release's name `an.operator` becomes the name of a Service: use lower case letters, digits and dashes
"""


def messages(stderr):
    """The lines that name a mistake, without helm's own around them."""
    lines = [line.removeprefix("- ").strip() for line in stderr.strip().splitlines()]
    ours = [line for line in lines if not re.match(r"Error: |level=|reranker(-operator)?:$|Use --debug|$", line)]
    return ours


def comparable(manifest):
    """What operator and chart must agree on."""
    spec = manifest.get("spec", {})
    kind = manifest["kind"]
    if kind == "Deployment":
        spec.pop("replicas", None)
    if kind == "HorizontalPodAutoscaler":
        spec.pop("scaleTargetRef")
    if kind == "NetworkPolicy":
        # The operator's own way in, and that of the chart's tests.
        for rule in spec["ingress"]:
            own = ("app.kubernetes.io/component: test", "app.kubernetes.io/name: reranker-operator")
            rule["from"] = [peer for peer in rule.get("from", []) if not any(text in yaml.safe_dump(peer) for text in own)]
        spec["ingress"] = [rule for rule in spec["ingress"] if rule["ports"][0]["port"] != 9090 or rule["from"]]
    return without_empty({"spec": spec, "automountServiceAccountToken": manifest.get("automountServiceAccountToken")})


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def properties(schema, path=()):
    if schema.get("properties"):
        for name, item in schema["properties"].items():
            yield from properties(item, (*path, name))
    else:
        yield path
