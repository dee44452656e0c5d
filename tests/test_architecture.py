"""The architecture as a test: imports point one way, heavy packages load late, the public names are these."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kyori

SRC = Path(kyori.__file__).parent

# What each part may import of the others. An arrow that is missing here is a decision, not an oversight:
# losses work in anybody's loop, training takes `validate` as a callable, reports know only values.
MAY_IMPORT = {
    "errors": set(),
    "optional": {"errors"},
    "files": set(),
    "threads": set(),
    "distributed": {"errors"},
    "distances": {"errors"},
    "relations": {"errors"},
    "vectors": {"errors", "files"},
    "results": {"errors", "files"},
    "neighbors": {"errors", "threads", "distances"},
    "index": {"errors", "optional", "files", "vectors", "distances", "neighbors"},
    "data": {"errors", "optional", "files"},
    "losses": {"errors", "distances", "relations", "distributed"},
    "models": {"errors", "optional", "files", "data"},
    "mining": {"errors", "files", "data", "models", "neighbors"},
    "linear": {"errors", "files", "losses", "models", "neighbors"},
    "training": {"errors", "optional", "files", "relations", "data", "losses", "models", "distributed"},
    "evaluation": {"errors", "optional", "files", "threads", "distances", "vectors", "results", "neighbors"},
    "report": {"errors", "optional", "files", "vectors", "results", "neighbors"},
    "runs": {
        "errors", "distributed", "optional", "files", "vectors", "results", "data", "losses", "models", "training",
        "evaluation", "report",
    },
    "recognition": {
        "errors", "optional", "files", "distances", "vectors", "results", "neighbors", "data", "models", "evaluation",
        "index", "runs", "report",
    },
    "estimator": {"errors", "data", "losses", "models", "training", "evaluation", "runs", "vectors", "neighbors"},
    "quality": {
        "errors", "optional", "files", "distances", "vectors", "neighbors", "data", "models", "training", "evaluation",
        "report", "runs",
    },
    "comparison": {
        "errors", "optional", "files", "vectors", "results", "neighbors",
        "data", "losses", "models", "linear", "training", "evaluation", "report", "runs",
    },
    "serving": {
        "errors", "optional", "vectors", "data", "models", "index", "recognition", "runs",
    },
    "exploring": {
        "errors", "optional", "distances", "vectors", "neighbors", "data", "report", "runs", "serving",
    },
    "exporting": {
        "errors", "optional", "files", "vectors", "neighbors", "data", "models", "evaluation", "report", "runs",
    },
}  # fmt: skip
ENTRY_POINTS = {"__init__", "__main__", "cli"}

# Optional packages, and core ones that cost time: never imported when a module is imported.
LATE = {"timm", "torchvision", "openTSNE", "tensorboard", "transformers", "faiss", "matplotlib.pyplot"}
LATE |= {
    "fsspec",
    "webdataset",
    "ray",
    "psycopg",
    "pymilvus",
    "igraph",
    "optuna",
    "fastapi",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "onnx",
}


def modules():
    return sorted(SRC.rglob("*.py"))


def part_of(path: Path) -> str:
    first = path.relative_to(SRC).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, *, top_level_only: bool = False):
    """Yield (dotted name, inside kyori or not) for every import, type-checking ones too."""
    package = ("kyori", *path.relative_to(SRC).parts[:-1])
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def test_every_part_has_its_place():
    parts = {part_of(path) for path in modules()} - ENTRY_POINTS
    assert parts == set(MAY_IMPORT), "a new part needs a line in MAY_IMPORT and in docs/architecture.md"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_one_way(path):
    part = part_of(path)
    if part in ENTRY_POINTS:
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("kyori.")} - {part}
    assert used <= MAY_IMPORT[part] | {"__version__"}, f"{part} must not import {used - MAY_IMPORT[part]}"


def test_the_table_has_no_circle():
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        free = {part for part, needs in MAY_IMPORT.items() if part not in done and needs <= done}
        assert free, f"a circle among {set(MAY_IMPORT) - done}"
        done |= free


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_optional_packages_are_imported_late(path):
    early = {name for name in imports(path, top_level_only=True) for late in LATE if name.startswith(late)}
    assert not early, f"import {early} where it is used, through optional.require"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_nothing_is_unpickled(path):
    text = path.read_text()
    assert "import pickle" not in text
    assert "torch.load" not in text
    assert "allow_pickle=True" not in text


def test_no_drawer_for_everything():
    names = {part for path in modules() for part in path.relative_to(SRC).with_suffix("").parts}
    assert not names & {"utils", "util", "common", "helpers", "misc", "interfaces", "registry"}


PUBLIC = {
    "Embedder", "MetricLearner", "RunConfig", "Source", "VectorTable", "compare", "data", "evaluate", "errors",
    "fit", "linear", "losses", "open_index", "open_run", "open_source", "quality", "__version__",
}  # fmt: skip


def test_public_names():
    assert set(kyori.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(kyori, name) is not None
    assert set(dir(kyori)) >= PUBLIC


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = kyori.nothing


def test_public_functions_are_not_hidden_by_modules():
    code = (
        "import kyori, kyori.evaluation, kyori.comparison, kyori.training\n"
        "assert callable(kyori.evaluate) and callable(kyori.compare) and callable(kyori.fit)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_is_light():
    """`import kyori` brings torch and NumPy only, prints nothing, and opens no file outside Python's own."""
    code = (
        "import sys, kyori\n"
        "heavy = {'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'PIL', 'typer', 'rich', 'pydantic', 'yaml',\n"
        "         'timm', 'torchvision', 'openTSNE', 'pandas'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
    assert run.stderr == ""


def test_help_does_not_load_torch():
    code = (
        "import sys\nfrom kyori.cli.main import run\nassert run(['--help']) == 0\n"
        "assert 'torch' not in sys.modules, 'the command line must answer --help at once'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_documented():
    for name in PUBLIC - {"__version__"}:
        assert (getattr(kyori, name).__doc__ or "").strip(), f"kyori.{name} has no docstring"
