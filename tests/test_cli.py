"""The command line: `reproduce` in a process of its own and in single precision, the rest here."""

import errno
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import equilibrax as eqb
from equilibrax.commands import cli

PNG = b"\x89PNG\r\n\x1a\n"


def run(*args, cwd, **environment):
    command = [sys.executable, "-m", "equilibrax.commands.cli", *map(str, args)]
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    done = run(
        "reproduce", "--out", "results", "--inputs", 3000, "--test-inputs", 2000, "--widths", 5, 8,
        "--restarts", 4, "--steps", 500, cwd=folder, XDG_CACHE_HOME=str(folder / "cache"), JAX_COMPILATION_CACHE_DIR="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def test_reproduce_writes_three_pictures_a_report_and_the_weights(reproduced):
    folder, done = reproduced
    assert sorted(os.listdir(folder)) == ["cache", "results"]
    assert os.listdir(folder / "cache" / "equilibrax"), "compiled programs are kept"
    assert sorted(os.listdir(folder / "results")) == [
        "fig1_architectures.png", "fig2_mixture.png", "fig3_decision.png", "model.safetensors",
        "report.json",
    ]  # fmt: skip
    for name in ("fig1_architectures", "fig2_mixture", "fig3_decision"):
        content = (folder / "results" / f"{name}.png").read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 20_000
    report = json.loads((folder / "results" / "report.json").read_text())
    for name, row in report["recurrent"].items():
        share = name not in ("gain", "offset") and not name.startswith("abscissa")
        # 5,000 inputs: five standard errors of a share.
        assert row["measured"] == pytest.approx(row["oracle"], abs=0.036 if share else 1e-3), name
    assert report["counts"]["STABLE"] == 5000
    assert [row["hidden"] for row in report["approximations"]] == [5, 8]
    assert report["hardware"]["platform"] == "cpu"
    assert "winner" in done.stdout
    # Not a terminal: no progress bar, and nothing else on the standard error.
    assert "settling" not in done.stderr
    assert eqb.load_model(folder / "results" / "model.safetensors").hidden_size == 5


def test_reproduce_refuses_a_folder_with_something_in_it(reproduced):
    folder, _ = reproduced
    before = {
        f: (folder / "results" / f).stat().st_mtime_ns for f in os.listdir(folder / "results")
    }
    done = run("reproduce", "--out", "results", cwd=folder)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("equilibrax: results exists and is not empty; ")
    assert "--force" in line
    after = {f: (folder / "results" / f).stat().st_mtime_ns for f in os.listdir(folder / "results")}
    assert before == after


def test_sample_train_evaluate(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = ["sample", "--out", "pairs", "--inputs", "600", "network:two-neuron"]
    cli.main(sample)
    assert "600 inputs: 600 STABLE" in capsys.readouterr().out
    cli.main(sample)
    assert "600 pairs are in pairs" in capsys.readouterr().out
    cli.main(["train", "--samples", "pairs", "--out", "m", "--restarts", "2", "--steps", "300"])
    trained = capsys.readouterr().out
    assert "test inputs        120" in trained
    assert "winner agreement" in trained
    error = float(re.search(r"normalised error +([\d.]+)", trained)[1])
    assert ("more hidden units" in trained) == (error > 0.1)
    cli.main(["sample", "--out", "ring", "--inputs", "300", "network:ring", "--network.n", "12"])
    few = ["--hidden", "2", "--restarts", "1", "--steps", "100"]
    cli.main(["train", "--samples", "ring", "--out", "r", *few])
    assert "lower the error most: --hidden 8; then --steps" in capsys.readouterr().out
    cli.main(["evaluate", "--model", "m", "--samples", "pairs"])
    found = eqb.evaluate(eqb.load_model("m"), eqb.open_samples("pairs")[:])
    told = capsys.readouterr().out
    assert f"normalised error   {float(found.normalised_error):.4f}" in told
    assert told.endswith("the samples that it was trained on: it does less well on others\n")
    cli.main(["sample", "--out", "others", "--inputs", "300", "--seed", "1", "network:two-neuron"])
    capsys.readouterr()
    cli.main(["evaluate", "--model", "m", "--samples", "others"])
    assert "trained on" not in capsys.readouterr().out
    cli.main(["export", "--model", "m", "--onnx", "m.onnx", "--stablehlo", "m.bin"])
    assert "m.bin is written" in capsys.readouterr().out
    assert os.path.getsize("m.onnx") > 200
    for words in (["--onnx", "m.onnx"], []):
        with pytest.raises(SystemExit) as caught:
            cli.main(["export", "--model", "m", *words])
        assert caught.value.code == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("equilibrax: m.onnx exists")
    assert told[1] == "equilibrax: name a file with --onnx, --stablehlo, or both"
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SystemExit) as caught:
        cli.main(["export", "--model", "m", "--onnx", "other.onnx"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("equilibrax: ONNX needs onnx: pip install")
    stream = ["train", "--samples", "pairs", "--out", "s", "--stream", "--steps", "300"]
    cli.main([*stream, "--checkpoints", "steps", "--every", "100"])
    assert "mean squared error of the last 100 batches" in capsys.readouterr().out
    assert eqb.load_model("s").hidden_size == 2
    assert sorted(os.listdir("steps/steps")) == ["200", "300"]


def test_another_run_does_not_continue_a_store(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = ["sample", "--out", "pairs", "--inputs"]
    cli.main([*sample, "300", "network:two-neuron"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        cli.main([*sample, "301", "network:two-neuron"])
    assert caught.value.code == 2
    what = "equilibrax: pairs was made with other settings: draws is 300 there, 301 here."
    assert capsys.readouterr().err.strip() == what


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as caught:
        cli.main(["sample", "--out", "pairs", "--inputs", "600", "network:two-neuron"])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("equilibrax: No space left on device")


def test_options_may_follow_the_network(tmp_path):
    before = ["--inputs", "7", "--processes", "2"]
    network = ["network:ring", "--network.n", "12"]
    expected = cli.parse(["sample", "--out", "x", *before, *network])
    assert cli.parse(["sample", "--out", "x", *network, *before]) == expected
    assert (expected.inputs, expected.network.n, expected.cluster.processes) == (7, 12, 2)


def test_networks_of_the_command_line(tmp_path):
    np.save(tmp_path / "w.npy", np.eye(3) / 2)
    kinds = {
        ("network:partitioned", "--network.w-ii", "0"): eqb.partitioned(w_ii=0.0),
        ("network:ring", "--network.n", "7"): eqb.ring(7),
        ("network:random-ei", "--network.n", "9"): eqb.random_ei(9, key=jax.random.key(4)),
        ("network:file", "--network.path", str(tmp_path / "w.npy")): eqb.RateNetwork(np.eye(3) / 2),
    }
    for words, expected in kinds.items():
        command = cli.parse(["sample", "--out", "x", *words])
        np.testing.assert_array_equal(
            command.network.build(jax.random.key(4)).weights, expected.weights
        )


MISTAKES = {
    "no command": [],
    "unknown option": ["sample", "--out", "a", "--bogus"],
    "not a number": ["sample", "--out", "a", "--inputs", "many"],
    "no output": ["sample"],
    "no draws": ["sample", "--out", "a", "--inputs", "0"],
    "bounds": ["sample", "--out", "a", "--low", "1", "--high", "-1"],
    "tolerance": ["sample", "--out", "a", "--rtol", "-1"],
    "no weights": ["sample", "--out", "a", "network:file", "--network.path", "none.npy"],
    "not weights": ["sample", "--out", "a", "network:file", "--network.path", "text"],
    "unwritable": ["sample", "--out", "no/such/folder/a"],
    "existing file": ["sample", "--out", "text"],
    "no samples": ["train", "--samples", "none", "--out", "a"],
    "not samples": ["train", "--samples", "text", "--out", "a"],
    "no model": ["evaluate", "--model", "none", "--samples", "none"],
    "no steps": ["reproduce", "--out", "a", "--steps", "0"],
    "file as folder": ["reproduce", "--out", "text"],
    "no sizes": ["benchmark", "--out", "a", "--sizes", "0"],
    "empty weights": ["sample", "--out", "a", "network:file", "--network.path", "empty.npy"],
    "an archive": ["sample", "--out", "a", "network:file", "--network.path", "archive.npy"],
    "huge seed": ["sample", "--out", "a", "--seed", str(2**80)],
    "a folder of another kind": ["sample", "--out", "folder"],
    "nothing to repair": ["sample", "--out", "absent", "--repair"],
    "half a cluster": ["sample", "--out", "a", "--processes", "2"],
    "shard size": ["sample", "--out", "a", "--shard-size", "1000"],
    "checkpoints in memory": ["train", "--samples", "a", "--out", "b", "--checkpoints", "c"],
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_two(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("not what you think")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "archive.npy").write_bytes(b"PK\x03\x04 but no archive")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "text").write_text("not what you think")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(SystemExit) as caught:
        cli.main(MISTAKES[case])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("equilibrax: ")
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "text").read_text() == "not what you think"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--n", "20000"], "no option --n; did you mean --network.n or --join or --t1 or --inputs?"),
        (["sample", "--out", "a", "--drws", "3"], "no option --drws; did you mean --draws"),
        (["train", "--sample", "a"], "no option --sample; did you mean --samples or"),
        (["train", "--samples", "a", "--out", "b", "--zzz"], "no option --zzz ("),
        (["sample", "--out", "a", "ring"], "no network ring; did you mean network:ring?"),
        (["sample", "--out", "a", "network:rng"], "no network network:rng; did you mean network:ring"),
        (["sample", "--out", "a", "network:ring", "--input", "3"], "no option --input; did you mean --inputs"),
        (
            ["train", "--samples", "a", "--out", "b", "--steps", "many"],
            "--steps: invalid literal for int() with base 10: 'many' (",
        ),
        (["sampel"], "no command sampel; did you mean sample?"),
        (["sample"], "Missing from equilibrax sample: --out PATH"),
    ],
)  # fmt: skip
def test_an_unknown_word_is_named_with_those_most_like_it_and_where_help_is(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    command = f"equilibrax {words[0]}" if words[0] in cli.COMMANDS else "equilibrax"
    assert said in told
    assert told.endswith(f" (`{command} --help` lists all)\n")
    assert len(told) < 200


def test_counts_of_inputs_are_inputs_and_draws_is_understood(tmp_path):
    for option in ("--inputs", "--draws"):
        assert cli.parse(["sample", "--out", "a", option, "7"]).inputs == 7


@pytest.mark.parametrize(
    "command", [[], ["reproduce"], ["sample"], ["train"], ["evaluate"], ["benchmark"]]
)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "usage: equilibrax" in text
    assert "default" in text or command in ([], ["evaluate"])


def test_benchmark(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["benchmark", "--out", "b", "--sizes", "1", "40", "--neurons", "2", "--repeats", "2"])
    assert "settle us" in capsys.readouterr().out
    assert (tmp_path / "b" / "solve_vs_forward_cpu.png").read_bytes().startswith(PNG)
    result = json.loads((tmp_path / "b" / "solve_vs_forward_cpu.json").read_text())
    assert [(cell["n"], cell["batch"]) for cell in result["cells"]] == [(2, 1), (2, 40)]
    for cell in result["cells"]:
        assert cell["stable"] == 1.0
        assert len(cell["solve"]["runs_s"]) == 2
        assert cell["ratio"] == cell["solve"]["median_s"] / cell["forward"]["median_s"]
        assert not cell["solve"]["extrapolated"]


def test_benchmark_marks_what_it_extrapolates():
    from equilibrax.commands.benchmark import solve_vs_forward

    cells = solve_vs_forward((1, 40, 80), (2,), repeats=1, limit_s=1e-9, key=jax.random.key(0))
    assert [cell["solve"]["extrapolated"] for cell in cells] == [False, True, True]
    assert cells[2]["solve"]["median_s"] == pytest.approx(80 * cells[0]["solve"]["median_s"])
