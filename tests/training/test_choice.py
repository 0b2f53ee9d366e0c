import os
import shutil
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch

from cnnzoo import kernel
from cnnzoo.config import load
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Architecture
from cnnzoo.training.engines import Cohort, choice, cuda, native
from cnnzoo.training.engines.batched import BatchedEngine
from cnnzoo.training.engines.choice import CLASSES, EngineChoice, choose
from cnnzoo.training.engines.native import NativeEngine
from cnnzoo.training.engines.reference import ReferenceEngine
from imports import ROOT

RUNTIME = load(ROOT / "params.yaml").runtime
needs_kernel = pytest.mark.skipif(kernel.unavailable_reason() is not None, reason="no kernel")


def runtime(device="auto", threads=0):
    return RUNTIME.model_copy(update={"device": device, "threads": threads})


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def without_kernel(monkeypatch):
    monkeypatch.setitem(sys.modules, kernel.EXTENSION, None)


def compiles_cpp(folder):
    """Tell whether this machine has a C++ compiler that works."""
    source = folder / "works.cpp"
    source.write_text("#include <vector>\nint main() { return static_cast<int>(std::vector<int>().size()); }\n")
    compilers = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    compiler = next((found for name in compilers if name and (found := shutil.which(name))), None)
    return (
        compiler is not None and subprocess.run([compiler, source, "-o", folder / "works"], check=False).returncode == 0
    )


def test_kernel_is_there_wherever_a_compiler_is(tmp_path):
    """An install that fell back to pure Python would skip every test of the kernel and pass without a word."""
    assert kernel.unavailable_reason() is None or not compiles_cpp(tmp_path)


@needs_kernel
def test_auto_takes_native_on_a_cpu_without_a_warning(without_gpu):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = choose("auto", runtime(threads=3))
    assert (choice.name, choice.device, choice.threads) == ("native", "cpu", 3)


def test_auto_takes_cuda_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "unavailable_reason", lambda: None)
    choice = choose("auto", runtime())
    assert (choice.name, choice.device) == ("cuda", "cuda")
    assert choose("auto", runtime("cuda:1")).device == "cuda:1"


def test_auto_takes_batched_on_a_gpu_without_cupy_and_warns_once_with_the_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "unavailable_reason", lambda: "CuPy is not installed")
    with pytest.warns(UserWarning, match=r"CuPy is not installed.*slower batched engine") as caught:
        choice = choose("auto", runtime())
    assert len(caught) == 1
    assert (choice.name, choice.device) == ("batched", "cuda")


def test_cuda_without_a_gpu_is_refused(without_gpu):
    with pytest.raises(CnnzooError, match=r"`train\.engine=cuda` is not available: it runs on an NVIDIA GPU"):
        choose("cuda", runtime())


def test_auto_takes_batched_where_the_kernel_is_missing_and_warns_once_with_the_reason(without_gpu, without_kernel):
    with pytest.warns(UserWarning, match=r"native kernel was not built.*slower batched engine") as caught:
        choice = choose("auto", runtime())
    assert len(caught) == 1
    assert (choice.name, choice.device) == ("batched", "cpu")


def test_native_that_is_missing_is_refused_with_the_alternatives(without_kernel):
    with pytest.raises(CnnzooError, match=r"`train\.engine=native` is not available: .*`auto`, `batched` or"):
        choose("native", runtime())


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_device_that_is_not_there_is_refused(without_gpu, device):
    with pytest.raises(CnnzooError, match=rf"`runtime\.device={device}`.*Use `auto` or `cpu`"):
        choose("batched", runtime(device))


def test_only_the_batched_engine_leaves_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose("reference", runtime("cuda")).device == "cpu"
    assert choose("batched", runtime("cuda")).device == "cuda"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reference", ReferenceEngine),
        ("batched", BatchedEngine),
        pytest.param("native", NativeEngine, marks=needs_kernel),
    ],
)
def test_choice_makes_its_engine_and_knows_its_numerics(without_gpu, name, kind):
    ones = np.full(3, 0.5)
    cohort = Cohort(Architecture(), 28, "sgd", "relu", ones, ones, ones, np.ones((3, 2), np.uint32))
    choice = choose(name, runtime("cpu"))
    engine = choice.make(cohort, minibatch=64)
    assert type(engine) is kind is CLASSES[name]
    assert (engine.name, engine.numerics) == (name, choice.numerics)
    assert engine.weights().shape == (3, 4970)


def small_cohort(networks=3):
    halves = np.full(networks, 0.5)
    return Cohort(Architecture(), 28, "sgd", "relu", halves, halves, halves, np.ones((networks, 2), np.uint32))


@needs_kernel
@pytest.mark.parametrize("threads", [1, 3])
def test_native_engine_works_on_as_many_threads_as_are_asked_for(without_gpu, threads):
    assert choose("native", runtime(threads=threads)).make(small_cohort(), minibatch=64).threads == threads


@needs_kernel
def test_auto_stays_on_the_cpu_if_that_is_asked_for_though_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    choice = choose("auto", runtime("cpu"))
    assert (choice.name, choice.device) == ("native", "cpu")


@pytest.mark.parametrize(("minibatch", "expected"), [(64, 8), (512, 1), (513, 1), (1, 512), (100, 5)])
def test_a_cpu_trains_512_images_at_once(monkeypatch, without_gpu, minibatch, expected):
    sizes = []
    monkeypatch.setattr(choice, "BatchedEngine", lambda cohort, device, stack_size: sizes.append(stack_size))
    choose("batched", runtime("cpu")).make(small_cohort(), minibatch)
    assert sizes == [expected]


@pytest.mark.parametrize(("free", "expected"), [(80e9, 512), (10e9, 64), (1e8, 1), (0, 1)])
def test_a_gpu_trains_as_many_networks_at_once_as_its_free_memory_holds(monkeypatch, free, expected):
    """512 images x 38,272 floats are 78 MB a network; 0.8 * 80 GB hold 816 of them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), int(80e9)))
    sizes = []
    monkeypatch.setattr(choice, "BatchedEngine", lambda cohort, device, stack_size: sizes.append(stack_size))
    ones = np.full(3, 0.5)
    cohort = Cohort(Architecture(), 28, "sgd", "relu", ones, ones, ones, np.ones((3, 2), np.uint32))
    choose("batched", runtime("cuda")).make(cohort, minibatch=512)
    assert sizes == [expected]


@needs_kernel
def test_narrow_networks_are_trained_side_by_side():
    native_engine, batched = EngineChoice("native", "cpu", 1), EngineChoice("batched", "cpu", 1)
    lanes = native_engine.side_by_side(Architecture(num_units=3), 28)
    assert lanes in {4, 8, 16}
    assert native_engine.side_by_side(Architecture(), 28) == 1
    assert native_engine.side_by_side(Architecture(num_units=32), 28) == 1
    assert batched.side_by_side(Architecture(num_units=3), 28) == 8


def test_the_peak_rate_is_that_of_all_threads(monkeypatch, without_gpu):
    """A thread that multiplies and adds 325,632,000 times a second puts 1,000 published networks' images through."""
    fake = types.SimpleNamespace(fma_peak=lambda seconds, threads: 2 * 325_632_000.0)
    monkeypatch.setattr(native, "extension", lambda: fake)
    monkeypatch.setattr(kernel, "unavailable_reason", lambda: None)
    for threads in (1, 3):
        assert choose("native", runtime(threads=threads)).peak_rate(Architecture(), 28) == 1000 * threads
    assert choose("batched", runtime()).peak_rate(Architecture(), 28) is None
