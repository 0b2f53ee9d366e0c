"""The cuda engine: its kernel on the CPU's threads against the native engine, and what surrounds it."""

import shutil
import sys

import cuda_on_cpu
import numpy as np
import pytest
from test_native_bits import everything, make_cohort, make_images, start

from cnnzoo import kernel
from cnnzoo.config import Runtime
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Architecture
from cnnzoo.training.engines import cuda
from cnnzoo.training.engines.choice import EngineChoice, choose
from cnnzoo.training.engines.cuda import NAN, CudaEngine
from cnnzoo.training.engines.native import NativeEngine

needs_compiler = pytest.mark.skipif(
    kernel.unavailable_reason() is not None or shutil.which("g++") is None, reason="no native kernel or no g++"
)
SHAPES = [
    (Architecture(), 28, "adam", "relu", 0.7),
    (Architecture(num_units=5, num_layers=4), 32, "rmsprop", "tanh", 0.3),
    (Architecture(num_units=40, num_layers=2), 31, "sgd", "tanh", 0.0),  # kernels in global memory, images unaligned
]


@pytest.fixture(autouse=True)
def cpu_in_place_of_the_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cuda_on_cpu)


@needs_compiler
@pytest.mark.parametrize(("architecture", "side", "optimizer", "activation", "rate"), SHAPES)
def test_the_kernel_has_the_bits_of_the_native_engine(monkeypatch, architecture, side, optimizer, activation, rate):
    if architecture.num_units == 40:
        monkeypatch.setattr(cuda, "SHARED_BYTES", 56 << 10)
    cohort = make_cohort(architecture, side, optimizer, activation, rate)
    images, minibatches = make_images(30, side), np.random.default_rng(4).integers(0, 30, (3, 13))
    state = start(cohort)
    state["weights"][0, -1] = np.nan if activation == "relu" else 0  # a diverged network
    ours, theirs = CudaEngine(cohort), NativeEngine(cohort)
    for engine in (ours, theirs):
        engine.load_images(*images)
        engine.load_state(state)
        engine.train(minibatches[:1], first_step=0)
        engine.load_state(engine.state())
        engine.train(minibatches[1:], first_step=1)
    for got, want in zip(everything(ours, images), everything(theirs, images), strict=True):
        # Which NaN a sum of several gives is not defined on a CPU; from a GPU it is that of x86.
        want[np.isnan(want)] = NAN
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))
    with pytest.raises(ValueError, match="an index is not below the number of images"):
        ours.train(np.array([[30]]), first_step=3)
    with pytest.raises(ValueError, match="a label is not below the number of classes"):
        ours.evaluate(images[0], np.full(30, 10, np.uint8))


def test_kernels_leave_shared_memory_before_images_do():
    assert cuda.plan(Architecture(), 28) == cuda.Plan(group=4, kernels_shared=True)
    assert not cuda.plan(Architecture(num_units=64), 28).kernels_shared
    smaller = cuda.plan(Architecture(), 28, shared_bytes=99 << 10)  # compute capability 8.6
    assert smaller.kernels_shared
    assert smaller.group == 1


def test_a_network_that_no_multiprocessor_holds_is_refused_before_it_is_made():
    with pytest.raises(CnnzooError, match=r"512 units on 32x32 pixels needs .* KB of shared memory.*engine: batched"):
        EngineChoice("cuda", "cuda", 0).check(Architecture(num_units=512), 32)


def test_without_cupy_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(CnnzooError, match=r"CuPy is not installed.*pip install 'cnnzoo\[cuda\]'"):
        CudaEngine(make_cohort(Architecture(), 28, "sgd", "relu", 0.0))


def test_without_a_gpu_the_engine_says_so(monkeypatch):
    monkeypatch.setattr(cuda_on_cpu.cuda, "is_available", lambda: False)
    assert cuda.unavailable_reason() == "CuPy finds no CUDA device"


def test_a_gpu_gives_shards_of_the_native_arithmetic(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    choice = choose("cuda", Runtime(threads=0, device="cuda:1", resume_interval_s=60))
    assert (choice.name, choice.device, choice.arithmetic) == ("cuda", "cuda:1", "native")
    assert choice.numerics == NativeEngine.numerics
    assert EngineChoice("batched", "cuda", 0).arithmetic == "batched"
