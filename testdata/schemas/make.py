"""Makes the schemas beside it: those of the kinds that deploy/ uses, and what they refer to, without descriptions.

usage: make.py KUBERNETES KEDA
  KUBERNETES  kubernetes_validate/kubernetes-json-schema/v1.29.0-local-strict of the Python package kubernetes-validate 1.37.0 (Apache-2.0)
  KEDA        config/crd/bases/keda.sh_scaledobjects.yaml of KEDA 2.21 (Apache-2.0)
"""
import json, pathlib, sys, yaml

kubernetes, keda = map(pathlib.Path, sys.argv[1:])
here = pathlib.Path(__file__).parent
definitions = json.loads((kubernetes / "_definitions.json").read_text())["$defs"]
needed = {}


def bare(node):
    """The schema without its prose; what it refers to is taken along."""
    if isinstance(node, list):
        return [bare(n) for n in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        if name not in needed:
            needed[name] = None
            needed[name] = bare(definitions[name])
        return {"$ref": "definitions.json#/$defs/" + name}
    named = isinstance(node.get("properties"), dict)
    out = {k: bare(v) for k, v in node.items() if k not in ("description", "properties", "$id", "$schema") and not k.startswith("x-kubernetes-")}
    if named:
        out["properties"] = {k: bare(v) for k, v in node["properties"].items()}
    return out


def strict(node):
    """What a custom resource does not name is refused, as kubectl does."""
    if isinstance(node, list):
        return [strict(n) for n in node]
    if not isinstance(node, dict):
        return node
    out = {k: strict(v) for k, v in node.items()}
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
        out["additionalProperties"] = False
    return out


def write(name, schema):
    (here / (name + ".json")).write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


for kind in ("deployment-apps-v1", "statefulset-apps-v1", "service-v1", "configmap-v1"):
    write(kind, bare(json.loads((kubernetes / (kind + ".json")).read_text())))
write("definitions", {"$defs": needed})
crd = yaml.safe_load(keda.read_text())
for version in crd["spec"]["versions"]:
    schema = version["schema"]["openAPIV3Schema"]
    write("scaledobject-keda-" + version["name"], strict(bare(schema)))
