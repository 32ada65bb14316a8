#!/usr/bin/env python3
"""Writes what follows from other files of the charts: the tables of values in their READMEs, from the comments of
values.yaml, and the values schema of the chart `reranker`, from the definition of RerankerDeployment.

    generate.py           writes them
    generate.py --check   says which of them are out of date; exit code 1 if any is
"""

import json
import re
import sys
from pathlib import Path

import yaml

CHARTS = Path(__file__).parent
BEGIN, END = "<!-- values: written by `make generate` -->\n", "<!-- end of values -->\n"
NAMES = {"type": "object", "additionalProperties": {"type": "string"}}

# Values of the chart `reranker` that are no fields of a RerankerDeployment.
OWN = {
    "operator": {"enabled": {"type": "boolean"}},
    "name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"},
    "dashboard": {"enabled": {"type": "boolean"}, "labels": NAMES, "annotations": NAMES},
    "test": {"apiKeySecretRef": {"name": {"type": "string", "minLength": 1}, "key": {"type": "string", "minLength": 1}}},
    # Helm hands it to every chart that is part of another.
    "global": {"type": "object"},
}


def closed(properties):
    """An object with these properties and no other; a dictionary without a type is one too."""
    schemas = {
        name: schema if "type" in schema else closed(schema) for name, schema in properties.items()
    }
    return {"type": "object", "additionalProperties": False, "properties": schemas}


def from_openapi(schema):
    """A schema of a definition, as JSON Schema that refuses what it does not name."""
    kept = ("type", "description", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "maxProperties")
    result = {key: schema[key] for key in kept if key in schema}
    for key in ("minimum", "maximum"):
        if key in schema:
            result[key] = int(schema[key])
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    if "items" in schema:
        result["items"] = from_openapi(schema["items"])
    if "properties" in schema:
        result["additionalProperties"] = False
        result["properties"] = {name: from_openapi(property) for name, property in schema["properties"].items()}
        if "required" in schema:
            result["required"] = schema["required"]
    elif isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = from_openapi(schema["additionalProperties"])
    return result


def reranker_schema():
    definition = yaml.safe_load((CHARTS / "reranker-operator/files/crd.yaml").read_text())
    version = definition["spec"]["versions"][0]
    schema = from_openapi(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"] |= closed(OWN)["properties"]
    del schema["description"]
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def rows(text):
    """Yields path, default and description of every value of a values.yaml.

    The comment above a key describes it and all below it; a key without a comment is described by those in it. A line
    `#key: value` is a setting without a default.
    """
    path, comment, described = [], [], None
    for line in text.splitlines():
        found = re.match(r"( *)(#?)([A-Za-z]+):(.*)$", line)
        indent = len(line) - len(line.lstrip())
        if line.strip().startswith("# "):
            if described is None or indent <= described:
                comment.append(line.strip()[2:])
        elif not line.strip():
            comment = []
        elif found:
            if described is not None and indent > described:
                continue
            path = path[: indent // 2] + [found[3]]
            described = indent if comment else None
            if comment:
                yield ".".join(path), bool(found[2]), " ".join(comment)
            elif found[4].strip():
                sys.exit(f"values.yaml: `{'.'.join(path)}` has no comment above it: describe it there")
            comment = []


def table(chart):
    text = (CHARTS / chart / "values.yaml").read_text()
    values = yaml.safe_load(text)
    lines = ["| value | default | what it is |", "| --- | --- | --- |"]
    for path, optional, description in rows(text):
        default = ""
        if not optional:
            value = values
            for key in path.split("."):
                value = value[key]
            default = f"`{json.dumps(value, ensure_ascii=False)}`"
        lines.append(f"| `{path}` | {default} | {description} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def readme(chart):
    text = (CHARTS / chart / "README.md").read_text()
    head, rest = text.split(BEGIN)
    return head + BEGIN + table(chart) + END + rest.split(END)[1]


def main():
    made = {
        "reranker/values.schema.json": reranker_schema(),
        "reranker/README.md": readme("reranker"),
        "reranker-operator/README.md": readme("reranker-operator"),
    }
    stale = False
    for name, text in made.items():
        path = CHARTS / name
        if path.exists() and path.read_text() == text:
            continue
        if sys.argv[1:] == ["--check"]:
            print(f"charts/{name} is out of date: run `make generate`", file=sys.stderr)
            stale = True
        else:
            path.write_text(text)
    sys.exit(stale)


if __name__ == "__main__":
    main()
