"""A missing cluster, or a missing Ray, is reported before any work starts."""

import importlib.util
import re
import socket
import threading

import pytest

from cnnzoo.cluster.ray_backend import connected, require_ray
from cnnzoo.core.errors import CnnzooError
from cnnzoo.stages.search import search
from cnnzoo.stages.train import train
from small_project import ALPHA, SmallProject
from trainings import tiny_params

RUNTIME = tiny_params().runtime


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def address_of(server) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def refused(monkeypatch, address: str) -> str:
    """Return the message of an address that cannot be connected to."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("cnnzoo.cluster.ray_backend.CONNECT_S", 0.2)
    with pytest.raises(CnnzooError) as caught, connected(RUNTIME):
        pass
    return str(caught.value)


def test_a_closed_port_is_named(monkeypatch, server):
    address = address_of(server)
    server.close()
    message = refused(monkeypatch, address)
    assert f"no Ray cluster answers at RAY_ADDRESS={address} (" in message
    assert "ray start --head" in message


def test_a_server_that_never_answers_is_named(monkeypatch, server):
    message = refused(monkeypatch, address_of(server))
    assert f"no Ray cluster answers at RAY_ADDRESS={address_of(server)} (" in message


def test_a_server_of_another_kind_is_named(monkeypatch, server):
    def answer():
        connection, _ = server.accept()
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    message = refused(monkeypatch, address_of(server))
    assert f"RAY_ADDRESS={address_of(server)} (what listens there is not Ray)" in message


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999999"])
def test_nonsense_is_named(monkeypatch, address):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", _no_network)
        assert f"RAY_ADDRESS={address} (" in refused(monkeypatch, address)


def _no_network(*_):
    raise OSError("no such place")


def test_rays_client_protocol_is_refused_with_what_to_do(monkeypatch):
    assert "RAY_ADDRESS=ray://head:10001: Ray's client protocol" in refused(monkeypatch, "ray://head:10001")


@pytest.fixture
def _without_ray(monkeypatch):
    true = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else true(name, *rest))


INSTALL = "`runtime.executor: ray` needs Ray, which is not installed here. Install it with `pip install"


@pytest.mark.usefixtures("_without_ray")
def test_without_ray_it_is_told_how_to_install_it():
    with pytest.raises(CnnzooError, match=re.escape(INSTALL)):
        require_ray()


@pytest.mark.slow
@pytest.mark.usefixtures("_without_ray")
@pytest.mark.parametrize("stage", [train, search])
def test_stages_tell_it_before_any_work(stage, tmp_path):
    project = SmallProject.make(tmp_path / "project", {"runtime.executor": "ray"})
    project.run("recipes", ALPHA)
    before = project.files()
    with pytest.raises(CnnzooError, match=re.escape(INSTALL)):
        project.run(stage.__name__, ALPHA)
    assert project.files() == before
