"""A stand-in for CuPy where there is no GPU: arrays are NumPy's, and the kernel is built for the CPU's own threads."""

import ctypes
import subprocess
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

SOURCE = Path(__file__).with_name("block_on_cpu.cpp")
COMPILE = ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", "-pthread", "-mfma", "-ffp-contract=off"]
SIZES = {"cnnzoo_shared_bytes": ctypes.c_int, "cnnzoo_scaled_size": ctypes.c_int}


class Device:
    def __init__(self, index):
        self.index = index
        self.attributes = {"MaxSharedMemoryPerBlockOptin": 227 << 10}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class RawModule:
    """Compiles the kernel for `threads` threads of the CPU."""

    threads = 3
    compile = COMPILE

    def __init__(self, code, options):
        kept = [option for option in options if option.startswith(("-D", "-I")) and "THREADS" not in option]
        built = Path(mkdtemp(prefix="cnnzoo-block-")) / "block.so"
        command = [*self.compile, *kept, f"-DTHREADS={self.threads}", str(SOURCE), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        self.library = ctypes.CDLL(str(built))

    def get_global(self, name):
        return ctypes.c_int.in_dll(self.library, name).value

    def get_function(self, name):
        return Kernel(self.library[name.removeprefix("cnnzoo_")])


class Kernel:
    max_dynamic_shared_size_bytes = 0

    def __init__(self, function):
        self.function = function

    def __call__(self, grid, block, arguments, shared_mem):
        assert shared_mem == self.max_dynamic_shared_size_bytes <= 227 << 10
        self.function(grid[0], *(self.pointer(argument) for argument in arguments))

    @staticmethod
    def pointer(argument):
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous
            return argument.ctypes.data_as(ctypes.c_void_p)
        return {"i": ctypes.c_int32, "u": ctypes.c_uint32}[argument.dtype.kind](int(argument))


class Stream:
    @staticmethod
    def synchronize():
        pass


class cuda:  # noqa: N801 - as CuPy calls it
    Device = Device

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def get_current_stream():
        return Stream


zeros = np.zeros
asarray = np.array  # a copy, as that to a device


def asnumpy(array):
    return array.copy()


def ndarray(shape, dtype, value):
    return np.full(shape, value, dtype)
