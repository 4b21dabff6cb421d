#!/usr/bin/env python3
"""The official client of docker's engine, run against our double of it: what the double accepts and answers is what that client
sends and understands.

    docker_engine.py target/release/cloud-double target/release/chandler
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import docker
import docker.errors

IMAGE = "registry.example/chandler"


def refused(kind, work):
    try:
        work()
    except kind as error:
        return error
    sys.exit(f"{kind.__name__} was expected")


def main():
    double, program = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "docker.sock"
        command = [double, "docker", str(socket), "--program", program, "--registry", f"{IMAGE}:cpu"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        url = process.stdout.readline().strip()
        try:
            check(docker.DockerClient(base_url=url, version="1.41"))
        finally:
            process.stdin.close()
            process.wait(timeout=10)
    print("docker's client agrees with the double of its engine")


def check(client):
    assert client.ping()
    refused(docker.errors.ImageNotFound, lambda: client.api.inspect_image(f"{IMAGE}:cpu"))
    for line in client.api.pull(IMAGE, tag="cpu", stream=True, decode=True):
        assert "error" not in line, line
    told = list(client.api.pull(IMAGE, tag="none", stream=True, decode=True))
    assert any("error" in line for line in told), told
    client.volumes.create("chandler-cache", labels={"managed-by": "chandler"})
    host = client.api.create_host_config(
        binds=["chandler-cache:/cache"],
        port_bindings={"8080/tcp": ("127.0.0.1", None)},
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        restart_policy={"Name": "unless-stopped"},
    )
    labels = {"managed-by": "chandler", "chandler-deployment": "one"}
    # What this client adds by itself and we never send is not the double's business.
    body = {
        "Image": f"{IMAGE}:cpu",
        "Env": ["CHANDLER_MODEL=mock"],
        "Labels": labels,
        "ExposedPorts": {"8080/tcp": {}},
        "HostConfig": {key: value for key, value in host.items() if key != "NetworkMode"},
    }
    container = client.api.create_container_from_config(body, name="one")["Id"]
    conflict = refused(docker.errors.APIError, lambda: client.api.create_container_from_config(body, name="one"))
    assert conflict.status_code == 409, conflict
    wrong = refused(docker.errors.APIError, lambda: client.api.create_container_from_config({**body, "Imag": 1}, name="two"))
    assert wrong.status_code == 400, wrong
    client.api.start(container)
    client.api.start(container)
    seen = client.containers.get("one")
    assert seen.status == "running" and seen.labels == labels, seen.attrs
    port = int(seen.ports["8080/tcp"][0]["HostPort"])
    assert port > 0
    end = time.monotonic() + 20
    while b"listening" not in client.api.logs(container):
        assert time.monotonic() < end, client.api.logs(container)
        time.sleep(0.1)
    listed = client.containers.list(all=True, filters={"label": ["managed-by=chandler"]})
    assert [one.name for one in listed] == ["one"], listed
    assert client.containers.list(all=True, filters={"label": ["managed-by=nobody"]}) == []
    client.api.stop(container, timeout=5)
    assert client.containers.get("one").status == "exited"
    client.api.remove_container(container, force=True)
    refused(docker.errors.NotFound, lambda: client.containers.get("one"))


if __name__ == "__main__":
    main()
