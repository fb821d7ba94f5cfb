"""The house itself: its rooms, its doors, and what its README promises."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from examples import blocks, check, expected_lines, public

import equilibrax as eqb
from equilibrax._checks import see

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "equilibrax"
ROOMS = ["_types", "_checks", "_extras", "_files", "_progress", "_described", "_devices", "_workers", "_batching", "_settings", "_resumable", "networks", "fixed_points", "families", "analysis", "sampling", "approximation",
         "metrics", "results", "figures", "commands"]  # fmt: skip
"""In the order of the data's way: a room imports from earlier ones only."""

PUBLIC = {
    "AbstractDynamics", "AbstractInputs", "AbstractMap", "Approximation", "Evidence", "FeedForward", "FixedPointError",
    "FixedPoints", "Flow", "Gaussian", "LeakyRNN", "LiveSamples", "Outcome", "RateNetwork",
    "SampleStore", "Samples", "UniformCube", "WilsonCowan", "analyse", "approximate", "as_map", "basins", "blocks",
    "convolution", "distill", "error_bound", "enumerate_fixed_points", "evaluate", "export_onnx", "export_stablehlo",
    "find_cycles", "find_fixed_points", "find_slow_points", "follow_branch", "from_cell", "from_graph", "hopfield",
    "is_unique", "linearise", "load_approximation", "load_cell", "load_model", "low_rank", "mixture_line", "open_samples", "partitioned",
    "power_law", "random_ei", "ring", "sample_fixed_points", "sample_to_store", "save_model",
    "settle_sequence", "settled_event", "sigmoid", "sparse", "supralinear", "sweep", "tanh", "threshold_linear", "train",
    "train_many", "two_neuron",
}  # fmt: skip

METRICS = {
    "DecisionBoundary", "ErrorBound", "Evaluation", "NoiseRejection", "competition",
    "decision_boundary", "jackknife", "mutual_information", "noise_rejection",
    "normalised_error", "partition_sums", "switch_point", "unsettled_behaviour", "winner",
    "winner_agreement",
}  # fmt: skip

RESULTS = {
    "Analysis", "Basins", "Branch", "Cycles", "Enumeration", "Linearisation", "PointKind", "SlowPoints", "SpecialPoint", "Sweep", "Training",
    "Trainings", "Verified",
}  # fmt: skip

FIGURES = {
    "BLUE", "GREEN", "GREY", "ORANGE", "OUTCOMES", "PURPLE", "RED", "SKY", "YELLOW", "architectures",
    "basins", "branch", "cycle", "decision_boundaries", "decision_boundary", "error_against", "error_map", "hysteresis", "misclassified",
    "mixture_response", "noise_rejection", "outcome_map", "outcomes", "phase_plane", "save",
    "slow_points", "solve_against_forward", "spectrum", "training_curves", "tuning",
}  # fmt: skip


def test_public_names():
    assert set(public(eqb)) == PUBLIC
    assert len(PUBLIC) <= 63, "the top level is for what a user reaches for first"
    assert set(public(eqb.metrics)) == METRICS
    assert set(public(eqb.results)) == RESULTS
    assert set(public(eqb.figures)) == FIGURES
    assert re.fullmatch(r"\d+\.\d+\.\d+", eqb.__version__)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("phase_plane", "'; pictures are in `figures`: figures.phase_plane"),
        ("winner", "'; metrics are in `metrics`: metrics.winner"),
        ("Sweep", "'; classes of results are in `results`: results.Sweep"),
        (
            "decision_boundary",
            "'; metrics are in `metrics`: metrics.decision_boundary"
            "; pictures are in `figures`: figures.decision_boundary",
        ),
        ("phase_plain", "'"),
    ],
)
def test_a_name_that_is_looked_for_in_the_wrong_place_is_answered_with_its_place(name, hint):
    with pytest.raises(AttributeError, match=re.escape(f"no attribute '{name}{hint}") + "$"):
        getattr(eqb, name)


def imports(path):
    """Modules of this package that a file imports, as paths relative to it."""
    package = path.relative_to(PACKAGE).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = (*base, *(node.module.split(".") if node.module else ()))
            yield from [(*module, a.name) for a in node.names] if not node.module else [module]


def test_imports_point_one_way():
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room == "__init__":
            continue
        for target in imports(path):
            assert ROOMS.index(target[0]) <= ROOMS.index(room), f"{path} imports {target}"


def test_no_import_circle_within_a_room():
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).with_suffix("").parts
        graph[name] = {t for t in imports(path) if t[0] == name[0] and len(t) > 1}
    finished, path = set(), []

    def visit(module):
        assert module not in path, f"circle: {path}"
        if module not in finished:
            path.append(module)
            for target in graph.get(module, ()):
                visit(target)
            finished.add(path.pop())

    for module in graph:
        visit(module)


def test_the_map_of_the_house_names_every_file():
    """In CONTRIBUTING.md, each file under its room, with a purpose."""
    named, folders = set(), []
    for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines():
        entry = re.match(r"^(?: {6}| {8}| {10})(\w+\.py|\w+/) {2,}(.+)", line)
        if entry:
            depth = (len(line) - len(line.lstrip())) // 2 - 3
            folders[depth:] = [entry[1]]
            named.add("".join(folders))
    named = {name for name in named if name.endswith(".py")}
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert named == {file for file in files if not file.endswith("__init__.py")}


def test_importing_needs_the_core_alone_and_initialises_no_device():
    extras = (
        "tyro",
        "tqdm",
        "matplotlib",
        "pyarrow",
        "safetensors",
        "scipy",
        "filelock",
        "orbax",
        "panel",
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extras}))\n"
        "import equilibrax; from jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_one_version():
    """`pyproject.toml` says it; what else must state it agrees."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    [cited] = re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    [locked] = [p["version"] for p in packages if p["name"] == "equilibrax"]
    assert eqb.__version__ == version == cited == locked
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


README = (ROOT / "README.md").read_text()


def test_the_readme_and_ci_run_the_same_test_command():
    commands = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    script = (ROOT / ".ci" / "run").read_text()
    test_command = commands[1].strip()
    assert "pytest" in test_command
    assert test_command in script


@pytest.mark.parametrize("example", blocks(README))
def test_examples_of_the_readme(example, tmp_path):
    """Each in its own process, in single precision as a reader would run it."""
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert expected_lines(example)
    check(example, done.stdout)


def test_the_pages_that_errors_refer_to_exist():
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    named = set(re.findall(r'"((?:how-to|explanation)/\w+)"', source))
    assert len(named) > 5
    assert not [page for page in named if not (ROOT / "docs" / f"{page}.md").exists()]
    assert see("how-to/cells") == " See docs/how-to/cells.md."
