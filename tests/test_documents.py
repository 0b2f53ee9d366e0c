"""The documents are true: links lead somewhere, paths and commands exist, code runs, every section is explained."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML
from typer.main import get_command

from cnnzoo.cli import app
from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from zoos import make_zoo

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "data/README.md", "models/README.md", "mlruns/README.md")
    for path in ROOT.glob(pattern)
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
EACH_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def params() -> dict:
    return YAML(typ="safe").load((ROOT / "params.yaml").read_text())


def test_the_documents_are_there():
    assert set(NAMES) == {
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "models/README.md", "mlruns/README.md"),
        *(f"docs/{name}.md" for name in ("cluster", "design", "guide", "performance", "results", "security")),
    }
    assert (ROOT / "CITATION.cff").exists()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@EACH_DOCUMENT
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@EACH_DOCUMENT
def test_source_files_that_are_named_exist(document):
    """Such as `src/cnnzoo/cli.py`, and those named from inside the package: `zoo/format.py`."""
    for path in re.findall(r"`((?:[\w.]+/)*[\w.]+\.(?:py|toml|yaml|png|md))`", document.read_text()):
        assert (ROOT / path).exists() or [*ROOT.glob(f"src/**/{path}"), *ROOT.glob(f"tests/**/{path}")], path
    for path in re.findall(r"`((?:src|tests|benchmarks|docs)/[\w./-]*)`", document.read_text()):
        assert (ROOT / path).exists(), path


@EACH_DOCUMENT
def test_targets_of_make_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for named in re.findall(r"(?:^|`)make ((?:[a-z]+ ?)+)(?=`|$|  )", document.read_text(), flags=re.MULTILINE):
        assert set(named.split()) <= targets, named


@EACH_DOCUMENT
def test_values_set_by_dvc_exp_run_are_parameters(document):
    for key in re.findall(r"-S '?\+?([\w.]+)=", document.read_text()):
        value = params()
        for name in key.split("."):
            assert name in value, f"{document.name}: `-S {key}` sets no parameter"
            value = value[name]


@EACH_DOCUMENT
def test_yaml_examples_are_valid_parameters(document):
    for block in blocks(document, "yaml"):
        Params.model_validate(params() | YAML(typ="safe").load(block))


@EACH_DOCUMENT
def test_commands_that_are_shown_exist_with_their_options(document):
    commands = get_command(app).commands
    for name, rest in re.findall(r"(?:^|`)\s*cnnzoo ([a-z-]+)([^`\n#]*)", document.read_text(), flags=re.MULTILINE):
        assert name in commands, f"{document.name}: cnnzoo {name}"
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, f"{document.name}: cnnzoo {name}{rest}"


def test_the_guide_explains_every_command_and_every_section_of_the_parameters():
    guide = (ROOT / "docs" / "guide.md").read_text()
    for command in get_command(app).commands:
        assert re.search(rf"cnnzoo {command}\b", guide), f"the guide does not show `cnnzoo {command}`"
    sections = re.findall(r"^\| `(\w+)` \| ", guide.split("### Inputs")[0], flags=re.MULTILINE)
    assert sections == list(params())


@pytest.mark.parametrize("document", ["README.md", "docs/design.md"])
def test_python_examples_run(document, tmp_path, monkeypatch):
    make_zoo(Artifacts(tmp_path), "mnist5k", networks=12)
    monkeypatch.chdir(tmp_path)
    examples = blocks(ROOT / document, "python")
    assert examples
    for example in examples:
        exec(compile(example, document, "exec"), {"__name__": "example"})


def test_commit_hook_and_workflow_call_the_targets_of_make():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == ["make lint types"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


@pytest.mark.parametrize("folder", ["data", "models", "mlruns"])
def test_git_keeps_the_page_of_a_folder_and_nothing_else(folder):
    def ignored(path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0

    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert not ignored(f"{folder}/README.md")
    assert ignored(f"{folder}/anything/else")
    assert ignored(f"{folder}/file.csv")
