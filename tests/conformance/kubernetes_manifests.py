#!/usr/bin/env python3
"""Every variant of the documents that `chandler provision kubernetes --yaml` prints, against schemas that are not ours: Kubernetes'
own (kubernetes-validate, strict: an unknown field is an error), KEDA's (cloudcoil's models of its CRDs) and KServe's (the models
of its SDK; what its predictor has of a pod is checked as a pod).

    kubernetes_manifests.py target/release/chandler
"""

import importlib
import os
import subprocess
import sys
import tempfile
import types
from importlib import metadata
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda

# The oldest that is still maintained in most clouds, and the newest that the schemas know.
VERSIONS = ("1.33.0", kubernetes_validate.latest_version())
ALWAYS = {"NetworkPolicy"}
WORKERS = ALWAYS | {"Service", "Deployment"}

# What is asked for, and which kinds have to come of it.
VARIANTS = {
    "one worker": ([], WORKERS | {"PersistentVolumeClaim"}),
    "secrets": (["--secret", "HF_TOKEN", "--secret", "CHANDLER_API_KEYS", "--yaml-secrets"], WORKERS | {"PersistentVolumeClaim", "Secret"}),
    "several by cpu": (["--min-workers", "1", "--max-workers", "4"], WORKERS | {"PodDisruptionBudget", "HorizontalPodAutoscaler"}),
    "several, always": (["--max-workers", "2", "--autoscale", "off", "--cache", "pvc", "--storage-class", "nfs"], WORKERS | {"PersistentVolumeClaim", "PodDisruptionBudget"}),
    "by queue": (
        ["--max-workers", "3", "--autoscale", "queue", "--prometheus", "http://prometheus:9090", "--wake-query", "sum(rate(x[1m]))"],
        WORKERS | {"PodDisruptionBudget", "ScaledObject"},
    ),
    "a gpu": (["--gpu", "l4", "--runtime-class", "nvidia"], WORKERS | {"PersistentVolumeClaim"}),
    "some gpu": (["--gpu", "l4,a100-40gb"], WORKERS | {"PersistentVolumeClaim"}),
    "outside": (
        ["--service", "loadbalancer", "--ingress", "models.example.com", "--ingress-class", "nginx", "--node-selector", "pool=a", "--cache", "hostpath=/w",
         "--pull-secret", "registry", "--service-account", "reader", "--cpu-millis", "1500", "--memory-mib", "3000"],
        WORKERS | {"Ingress"},
    ),
    "a claim of theirs": (["--service", "nodeport", "--cache", "claim=weights", "--open-network"], WORKERS - ALWAYS),
    "kserve": (["--kserve", "--max-workers", "3", "--min-workers", "1"], ALWAYS | {"InferenceService"}),
}


def documents(program, flags, folder):
    environment = {"PATH": os.environ["PATH"], "HOME": folder, "HF_TOKEN": "hf_token", "CHANDLER_API_KEYS": "key", "CHANDLER_IMAGE": "registry.example/chandler:{kind}"}
    printed = [] if "--yaml-secrets" in flags else ["--yaml"]
    command = [program, "provision", "kubernetes", "demo", *printed, *flags]
    if "--gpu" not in flags:
        command += ["--gpu", "none"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"{' '.join(flags)} ended with {done.returncode}: {done.stderr}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def unknown(given, kept, path=""):
    """What of a document its model did not take."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{path}.{key}"
            else:
                yield from unknown(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(given, kept)):
            yield from unknown(one, other, f"{path}[{index}]")


def check_keda(document):
    read = keda.ScaledObject.model_validate(document).model_dump(mode="json", by_alias=True, exclude_none=True)
    left = list(unknown(document["spec"], read["spec"], "spec"))
    if left:
        sys.exit(f"KEDA's ScaledObject has no {left}")


def kserve_model(name):
    """A model of KServe's SDK, without the rest of it, which wants a server's dependencies."""
    if "kserve" not in sys.modules:
        root = Path(metadata.distribution("kserve").locate_file("kserve"))
        for package, place in (("kserve", root), ("kserve.models", root / "models")):
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(place)]
    return importlib.import_module(f"kserve.models.{name}")


def check_kserve(document, version):
    service = kserve_model("v1beta1_inference_service").V1beta1InferenceService
    spec = kserve_model("v1beta1_predictor_spec").V1beta1PredictorSpec
    if left := set(document) - set(service.attribute_map.values()):
        sys.exit(f"KServe's InferenceService has no {left}")
    predictor = document["spec"]["predictor"]
    kinds = {spec.attribute_map[name]: kind for name, kind in spec.openapi_types.items()}
    if left := set(predictor) - set(kinds):
        sys.exit(f"KServe's predictor has no {left}")
    python = {"int": int, "str": str, "bool": bool, "dict(str, str)": dict}
    for field, value in predictor.items():
        wanted = python.get(kinds[field])
        if wanted and type(value) is not wanted:
            sys.exit(f"KServe's predictor.{field} is {kinds[field]}, not {value!r}")
    # The rest of it is a pod's specification: checked as one.
    own = {"minReplicas", "maxReplicas", "timeout", "labels", "annotations", "deploymentStrategy", "scaleMetric", "scaleTarget"}
    pod = {field: value for field, value in predictor.items() if field not in own}
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, version, strict=True)
    workers = {"selector": {"matchLabels": {"a": "b"}}, "strategy": predictor["deploymentStrategy"], "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}
    kubernetes_validate.validate({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": workers}, version, strict=True)


def main():
    program = sys.argv[1]
    # A validator that lets everything pass would show nothing.
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": [{"port": 80}]}}
    try:
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)
    except kubernetes_validate.ValidationError:
        pass
    else:
        sys.exit("kubernetes-validate lets an unknown field pass")
    checked = 0
    with tempfile.TemporaryDirectory() as folder:
        for what, (flags, kinds) in VARIANTS.items():
            printed = documents(program, flags, folder)
            found = {document["kind"] for document in printed}
            if found != kinds:
                sys.exit(f"{what}: {sorted(found)} came, not {sorted(kinds)}")
            for document in printed:
                for version in VERSIONS:
                    match document["kind"]:
                        case "ScaledObject":
                            check_keda(document)
                        case "InferenceService":
                            check_kserve(document, version)
                        case _:
                            kubernetes_validate.validate(document, version, strict=True)
                checked += 1
    print(f"{checked} documents of {len(VARIANTS)} variants are as Kubernetes {' and '.join(VERSIONS)}, KEDA and KServe want them")


if __name__ == "__main__":
    main()
