"""Run the tests of the native engine on other builds: `python tests/training/native_builds.py [BUILD ...]`.

Builds: `sanitize` (AddressSanitizer and UndefinedBehaviorSanitizer), `x86-64-v3` (AVX2), `x86-64` (SSE2, the portable
code path that NEON shares); without arguments all that this machine can run. Each is compiled in build/ and takes the
place of the installed kernel in a process of its own. Needs the build requirements (`pip install .[build]`). The exit
status is 0 if all pass.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = [ROOT / "tests/training/test_native.py", ROOT / "tests/training/test_native_bits.py"]
BUILDS = {
    "sanitize": ["-DCNNZOO_SANITIZE=ON"],
    "x86-64-v3": ["-DCNNZOO_ARCH=x86-64-v3"],
    "x86-64": ["-DCNNZOO_ARCH=x86-64"],
}

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


def main(names: list[str]) -> int:
    """Run the tests on each named build; return 1 if any fails."""
    if unknown := set(names) - set(BUILDS):
        print(f"unknown build {', '.join(sorted(unknown))}; choose from {', '.join(BUILDS)}")
        return 2
    runnable = [name for name in BUILDS if name == "sanitize" or platform.machine() in ("x86_64", "AMD64")]
    failed = []
    for name in names or runnable:
        print(f"=== {name}", flush=True)
        command = [sys.executable, "-c", RUN, compile_kernel(name), *TESTS]
        if subprocess.run(command, env=environment(name), cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all builds pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
