"""Run the tests of the native engine on other builds: `python tests/training/native_builds.py [BUILD ...]`.

Builds: `sanitize` (AddressSanitizer and UndefinedBehaviorSanitizer), `x86-64-v3` (AVX2), `x86-64` (SSE2), `clang` and,
without Python, `neon`; without arguments all that this machine can make and run. Each is compiled in build/ and takes
the place of the installed kernel in a process of its own. Needs the build requirements (`pip install .[build]`).

`neon` is native_bits.cpp, compiled for 64-bit ARM and run by qemu (Debian: g++-aarch64-linux-gnu, qemu-user): its
digest must be DIGEST. `program` is the same for the oldest processor of this machine's kind. The exit status is 0 if
all pass.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = [
    ROOT / name
    for name in ("tests/training/test_native.py", "tests/training/test_native_bits.py", "tests/network/test_forward.py")
]
BUILDS = {
    "sanitize": ["-DCNNZOO_SANITIZE=ON"],
    "x86-64-v3": ["-DCNNZOO_ARCH=x86-64-v3"],
    "x86-64": ["-DCNNZOO_ARCH=x86-64"],
    "clang": ["-DCMAKE_CXX_COMPILER=clang++"],
}
PROGRAMS = {"program": (os.environ.get("CXX", "c++"), []), "neon": ("aarch64-linux-gnu-g++", ["qemu-aarch64"])}
"""Compilers of native_bits.cpp, and what runs what they make."""
DIGEST = "db66d1fdeee1e355e95f9a15c29c0166489db06b8fac126f13910c60100a28ce"
"""SHA-256 of what native_bits.cpp prints, for NativeEngine.numerics 3."""
FLAGS = ["-std=c++17", "-O2", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-Wno-psabi"]
"""What CMakeLists.txt sets for the arithmetic, and no notes on calling conventions; for any processor of its kind."""

# Puts the built kernel where `import cnnzoo.kernel._native` finds it, then runs the tests.
RUN = """
import importlib.util, sys
import pytest
spec = importlib.util.spec_from_file_location("cnnzoo.kernel._native", sys.argv[1])
sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(f"kernel: {module.__file__} ({module.instruction_set})", flush=True)
sys.exit(pytest.main(["-p", "no:cacheprovider", "--durations=1", *sys.argv[2:]]))
"""


def compile_kernel(name: str) -> Path:
    """Return the path of the extension, built with the options of a build."""
    folder = ROOT / "build" / f"native-{name}"
    configure = ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"]
    subprocess.run([*configure, *BUILDS[name]], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder], check=True, stdout=subprocess.DEVNULL)
    (extension,) = folder.glob("_native*.so")
    return extension


def environment(name: str) -> dict[str, str]:
    """Return the environment of the tests: the sanitizer's runtime must be loaded before Python."""
    variables = dict(os.environ)
    if name == "sanitize":
        # libstdc++ too: otherwise the sanitizer does not find the function that throws, and ends the process.
        preloaded = " ".join(_compilers_file(library) for library in ("libasan.so", "libstdc++.so"))
        # Python itself leaks what it keeps until the end.
        variables |= {"LD_PRELOAD": preloaded, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return variables


def _compilers_file(name: str) -> str:
    command = [os.environ.get("CXX", "c++"), f"-print-file-name={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def passes(name: str) -> bool:
    """Compile a build and run the tests on it."""
    if name in PROGRAMS:
        return program_digest(name) == DIGEST
    command = [sys.executable, "-c", RUN, compile_kernel(name), *TESTS]
    return subprocess.run(command, env=environment(name), cwd=ROOT, check=False).returncode == 0


def program_digest(name: str) -> str:
    """Return the SHA-256 of what native_bits.cpp prints, compiled without CMake for the named processor."""
    compiler, emulator = PROGRAMS[name]
    kernel, folder = ROOT / "src/cnnzoo/kernel/csrc", ROOT / "build" / f"native-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    files = ["engine", "layout", "reference", "tiled", "interleaved", "fixed"]
    sources = [ROOT / "tests/training/native_bits.cpp", *(kernel / f"{file}.cpp" for file in files)]
    compile_all = [compiler, *FLAGS, f"-I{kernel}", "-static", "-pthread", *sources, "-o", folder / "native_bits"]
    subprocess.run(compile_all, check=True)
    printed = subprocess.run([*emulator, folder / "native_bits"], check=True, stdout=subprocess.PIPE).stdout
    return hashlib.sha256(printed).hexdigest()


def runnable(name: str) -> bool:
    """Whether this machine can make and run a build."""
    if name in PROGRAMS:
        compiler, emulator = PROGRAMS[name]
        return all(shutil.which(command) for command in (compiler, *emulator))
    if name == "clang":
        return shutil.which("clang++") is not None
    return name == "sanitize" or platform.machine() in ("x86_64", "AMD64")


def main(names: list[str]) -> int:
    """Run the tests on each named build; return 1 if any fails."""
    known = [*BUILDS, *PROGRAMS]
    if unknown := set(names) - set(known):
        print(f"unknown build {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
        return 2
    failed = []
    for name in names or filter(runnable, known):
        print(f"=== {name}", flush=True)
        if not passes(name):
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all builds pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
