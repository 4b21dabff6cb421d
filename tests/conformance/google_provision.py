#!/usr/bin/env python3
"""Google's own REST clients (`aiplatform_v1`, `run_v2`) and `google-auth`, run against our double of Vertex AI and Cloud Run: what
the double accepts and answers is what those clients send and understand. Then `chandler provision` makes endpoints there, and
Google's clients read what it made.

    google_provision.py target/release/cloud-double target/release/chandler
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from google.api_core import exceptions
from google.auth import credentials as auth
from google.auth.compute_engine import _metadata
from google.auth.transport.requests import Request
from google.cloud import aiplatform_v1 as vertex
from google.cloud import run_v2 as run
from google.iam.v1 import iam_policy_pb2
from google.oauth2 import credentials as user
from google.protobuf import duration_pb2, field_mask_pb2

TOKEN = "ya29.token-of-the-double"
PARENT = "projects/a-project/locations/europe-west4"
IMAGE = "europe-west4-docker.pkg.dev/a-project/images/chandler:cpu"


class Bearer(auth.Credentials):
    def refresh(self, _):
        self.token = TOKEN


def refused(kind, work):
    try:
        work()
    except kind as error:
        return error
    sys.exit(f"{kind.__name__} was expected")


def done(operation):
    """The client's own polling, only faster."""
    return operation.result(timeout=30)


@contextmanager
def process(command, **options):
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield child
    finally:
        child.stdin.close()
        child.terminate()
        child.wait(timeout=20)


def clients(url):
    options = {"credentials": Bearer(), "transport": "rest", "client_options": {"api_endpoint": url}}
    vertex_clients = [kind(**options) for kind in (vertex.ModelServiceClient, vertex.EndpointServiceClient, vertex.PredictionServiceClient)]
    return *vertex_clients, run.ServicesClient(**options)


def check_logins(url):
    """google-auth takes its tokens from the double's login and metadata servers."""
    one = user.Credentials(None, refresh_token="r", token_uri=f"{url}/token", client_id="c", client_secret="s")
    one.refresh(Request())
    assert one.token == TOKEN, one.token
    host = _metadata._GCE_METADATA_HOST
    _metadata._GCE_METADATA_HOST = url.removeprefix("http://")
    try:
        token, _ = _metadata.get_service_account_token(Request())
        assert token == TOKEN, token
    finally:
        _metadata._GCE_METADATA_HOST = host


def container(**more):
    return vertex.ModelContainerSpec(
        image_uri=IMAGE, ports=[vertex.Port(container_port=8080)], health_route="/isalive", predict_route="/predict",
        env=[vertex.EnvVar(name="A", value="b")], deployment_timeout=duration_pb2.Duration(seconds=600), shared_memory_size_mb=64,
        startup_probe=vertex.Probe(http_get=vertex.Probe.HttpGetAction(path="/isalive", port=8080), period_seconds=10, timeout_seconds=10),
        **more,
    )


def check_vertex(models, endpoints, predictions):
    labels = {"managed-by": "somebody"}
    model = vertex.Model(display_name="one", container_spec=container(), labels=labels)
    uploaded = done(models.upload_model(request={"parent": PARENT, "model": model, "model_id": "one"}))
    assert uploaded.model == f"{PARENT}/models/one" and uploaded.model_version_id == "1", uploaded
    refused(exceptions.Conflict, lambda: models.upload_model(request={"parent": PARENT, "model": model, "model_id": "one"}))
    both = vertex.Model(display_name="one", container_spec=container(invoke_route_prefix="/*"))
    refused(exceptions.BadRequest, lambda: models.upload_model(parent=PARENT, model=both))
    second = vertex.Model(display_name="one", container_spec=container(), version_aliases=["default"])
    uploaded = done(models.upload_model(request={"parent": PARENT, "model": second, "parent_model": uploaded.model}))
    assert uploaded.model_version_id == "2"
    assert models.get_model(name=uploaded.model).version_id == "2"
    assert models.get_model(name=f"{uploaded.model}@1").version_id == "1"

    wanted = vertex.Endpoint(
        display_name="one", labels=labels, dedicated_endpoint_enabled=True,
        client_connection_config=vertex.ClientConnectionConfig(inference_timeout=duration_pb2.Duration(seconds=600)),
    )
    made = done(endpoints.create_endpoint(request={"parent": PARENT, "endpoint": wanted, "endpoint_id": "one"}))
    assert made.name == f"{PARENT}/endpoints/one", made
    numbered = done(endpoints.create_endpoint(parent=PARENT, endpoint=vertex.Endpoint(display_name="two")))
    listed = list(endpoints.list_endpoints(request={"parent": PARENT, "filter": "labels.managed-by=somebody"}))
    assert [one.name for one in listed] == [made.name], listed
    assert len(list(endpoints.list_endpoints(parent=PARENT))) == 2
    done(endpoints.delete_endpoint(name=numbered.name))

    spec = vertex.MachineSpec(machine_type="g2-standard-12", accelerator_type=vertex.AcceleratorType.NVIDIA_L4, accelerator_count=1)
    resources = vertex.DedicatedResources(machine_spec=spec, min_replica_count=1, max_replica_count=2)
    deployed = vertex.DeployedModel(model=f"{uploaded.model}@2", display_name="one", dedicated_resources=resources)
    missing = vertex.DeployedModel(model=f"{PARENT}/models/none", dedicated_resources=resources)
    refused(exceptions.NotFound, lambda: endpoints.deploy_model(endpoint=made.name, deployed_model=missing))
    result = done(endpoints.deploy_model(endpoint=made.name, deployed_model=deployed, traffic_split={"0": 100}))
    there = endpoints.get_endpoint(name=made.name)
    assert there.dedicated_endpoint_dns and dict(there.traffic_split) == {result.deployed_model.id: 100}, there
    assert there.deployed_models[0].model_version_id == "2" and there.deployed_models[0].status.available_replica_count == 1
    assert there.deployed_models[0].dedicated_resources.machine_spec.accelerator_type == vertex.AcceleratorType.NVIDIA_L4

    answer = predictions.predict(endpoint=made.name, instances=[{"prompt": "the capital of France"}], parameters={"max_tokens": 4})
    assert answer.predictions and answer.deployed_model_id == result.deployed_model.id, answer

    change = vertex.DeployedModel(id=result.deployed_model.id, dedicated_resources=vertex.DedicatedResources(min_replica_count=2, max_replica_count=3))
    mask = field_mask_pb2.FieldMask(paths=["dedicated_resources.min_replica_count", "dedicated_resources.max_replica_count"])
    done(endpoints.mutate_deployed_model(endpoint=made.name, deployed_model=change, update_mask=mask))
    assert endpoints.get_endpoint(name=made.name).deployed_models[0].dedicated_resources.max_replica_count == 3
    labelled = vertex.Endpoint(name=made.name, labels={"a": "b"})
    assert dict(endpoints.update_endpoint(endpoint=labelled, update_mask=field_mask_pb2.FieldMask(paths=["labels"])).labels) == {"a": "b"}
    slower = vertex.Endpoint(name=made.name, client_connection_config=vertex.ClientConnectionConfig(inference_timeout=duration_pb2.Duration(seconds=900)))
    longer = done(endpoints.update_endpoint_long_running(endpoint=slower))
    assert longer.client_connection_config.inference_timeout.seconds == 900, longer

    refused(exceptions.BadRequest, lambda: endpoints.delete_endpoint(name=made.name))
    refused(exceptions.BadRequest, lambda: models.delete_model(name=uploaded.model))
    done(endpoints.undeploy_model(endpoint=made.name, deployed_model_id=result.deployed_model.id))
    under_way = endpoints.list_operations({"name": made.name}).operations
    assert under_way and all(one.done for one in under_way), under_way
    done(endpoints.delete_endpoint(name=made.name))
    done(models.delete_model(name=uploaded.model))
    refused(exceptions.NotFound, lambda: endpoints.get_endpoint(name=made.name))
    refused(exceptions.NotFound, lambda: models.get_model(name=uploaded.model))


def service(**more):
    probe = run.Probe(http_get=run.HTTPGetAction(path="/isalive", port=8080), period_seconds=10, timeout_seconds=5, failure_threshold=30)
    limits = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"}
    one = run.Container(
        image=IMAGE, ports=[run.ContainerPort(container_port=8080)], env=[run.EnvVar(name="A", value="b")], startup_probe=probe,
        resources=run.ResourceRequirements(limits=limits, cpu_idle=False, startup_cpu_boost=True),
    )
    template = run.RevisionTemplate(
        containers=[one], scaling=run.RevisionScaling(min_instance_count=0, max_instance_count=2), gpu_zonal_redundancy_disabled=True,
        node_selector=run.NodeSelector(accelerator="nvidia-l4"), timeout=duration_pb2.Duration(seconds=300),
        max_instance_request_concurrency=8, execution_environment=run.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2,
    )
    return run.Service(template=template, ingress=run.IngressTraffic.INGRESS_TRAFFIC_ALL, **more)


def check_run(services):
    create = {"parent": PARENT, "service_id": "one"}
    made = done(services.create_service(request={**create, "service": service(labels={"managed-by": "somebody"})}))
    assert made.terminal_condition.state == run.Condition.State.CONDITION_SUCCEEDED and made.uri and not made.reconciling, made
    assert made.ingress == run.IngressTraffic.INGRESS_TRAFFIC_ALL and made.observed_generation == 1
    refused(exceptions.Conflict, lambda: services.create_service(request={**create, "service": service()}))
    redundant = service()
    redundant.template.gpu_zonal_redundancy_disabled = False
    refused(exceptions.BadRequest, lambda: services.create_service(request={"parent": PARENT, "service_id": "two", "service": redundant}))
    assert refused(Exception, lambda: urllib.request.urlopen(made.uri + "/isalive")).code == 403
    policy = services.get_iam_policy(iam_policy_pb2.GetIamPolicyRequest(resource=made.name))
    stale = iam_policy_pb2.SetIamPolicyRequest(resource=made.name, policy={"etag": b"stale"})
    refused(exceptions.Conflict, lambda: services.set_iam_policy(stale))
    binding = {"role": "roles/run.invoker", "members": ["allUsers"]}
    services.set_iam_policy(iam_policy_pb2.SetIamPolicyRequest(resource=made.name, policy={"etag": policy.etag, "bindings": [binding]}))
    assert urllib.request.urlopen(made.uri + "/isalive").status == 200
    changed = service(name=made.name)
    changed.template.scaling.max_instance_count = 3
    after = done(services.update_service(request={"service": changed, "update_mask": {"paths": ["template"]}}))
    assert after.template.scaling.max_instance_count == 3 and after.labels["managed-by"] == "somebody", after
    assert [one.name for one in services.list_services(parent=PARENT)] == [made.name]
    done(services.delete_service(name=made.name))
    refused(exceptions.NotFound, lambda: services.get_service(name=made.name))


def check_ours(program, url, models, endpoints, services):
    """What `chandler` makes, Google's clients read."""
    with tempfile.TemporaryDirectory() as folder:
        login = Path(folder) / "login.json"
        login.write_text(json.dumps({
            "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r", "token_uri": f"{url}/token",
            "quota_project_id": "a-project",
        }))
        environment = {
            "PATH": os.environ["PATH"], "HOME": folder, "GOOGLE_APPLICATION_CREDENTIALS": str(login), "CHANDLER_PROVISION_PACE": "0.02",
            "GOOGLE_CLOUD_REGION": "europe-west4",
        }

        def ours(*line):
            done = subprocess.run([program, *line], env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{line}: {done.stdout}\n{done.stderr}"
            return done.stdout

        line = ["mock", "--image", IMAGE, "--api", url, "--json", "--gpu", "none", "--wait"]
        ours("provision", "vertex", *line, "--name", "mine", "--min-workers", "1")
        there = endpoints.get_endpoint(name=f"{PARENT}/endpoints/mine")
        assert there.labels["managed-by"] == "chandler" and there.client_connection_config.inference_timeout.seconds == 300, there
        model = models.get_model(name=f"{PARENT}/models/mine")
        assert model.container_spec.predict_route == "/predict" and model.container_spec.startup_probe.http_get.path == "/isalive", model
        ours("endpoints", "delete", "mine")
        refused(exceptions.NotFound, lambda: endpoints.get_endpoint(name=there.name))

        ours("provision", "cloudrun", *line, "--name", "yours", "--public", "--max-workers", "3")
        there = services.get_service(name=f"{PARENT}/services/yours")
        assert there.template.scaling.max_instance_count == 3 and not there.template.containers[0].resources.cpu_idle, there
        assert there.template.containers[0].startup_probe.http_get.path == "/isalive", there
        ours("endpoints", "delete", "yours")
        refused(exceptions.NotFound, lambda: services.get_service(name=there.name))


def ready(port):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/isalive", timeout=2).status == 200:
                return
        except OSError:
            time.sleep(0.05)
    sys.exit("the worker is not ready")


def main():
    double, program = sys.argv[1:3]
    from socket import socket

    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [program, "serve", "--model", "mock", "--host", "127.0.0.1", "--port", str(port)]
    with process(serve, stderr=subprocess.DEVNULL), process([double, "google", "--looks", "0", "--worker", f"127.0.0.1:{port}"]) as cloud:
        url = cloud.stdout.readline().strip()
        ready(port)
        models, endpoints, predictions, services = clients(url)
        check_logins(url)
        check_vertex(models, endpoints, predictions)
        check_run(services)
        check_ours(program, url, models, endpoints, services)
    print("Google's clients agree with the double of Vertex AI and Cloud Run, and read there what chandler makes")


if __name__ == "__main__":
    main()
