"""What commands write goes where it may, and where it may not is said before any work."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlcli.formats import export
from mtlcli.runs import checkpoint, names, results

NAME = Path(names.SHIPPED)


@pytest.fixture
def package(home: Path, monkeypatch: pytest.MonkeyPatch, save_network: Callable) -> Path:
    """Where a network comes with the package, outside of $MTL_HOME."""
    own = save_network(home / "installed" / NAME / "last.pt")
    monkeypatch.setattr(names, "find_shipped", lambda: own)
    return own


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_the_shipped_network_is_exported_into_the_working_folder(
    package: Path, suffix: str
) -> None:
    for named in (NAME, package, package.parent):
        assert export.default_path(named, suffix) == NAME.with_suffix(suffix)


def test_another_network_is_exported_beside_its_checkpoint(
    package: Path, home: Path, save_network: Callable
) -> None:
    own = save_network(home / "weights" / "run" / "best.pt")
    assert export.default_path(own, ".onnx") == own.with_suffix(".onnx")


def test_nothing_is_written_into_the_package(package: Path, home: Path, mtl) -> None:
    before = list(package.parent.iterdir())
    exported = mtl("export", NAME, "--format", "pt2", "--quiet")
    assert exported.code == 0, exported.err
    assert (home / "nyud_small.pt2").is_file()
    assert list(package.parent.iterdir()) == before


def test_scores_of_the_shipped_network_go_into_weights(package: Path, home: Path) -> None:
    folder = home / "weights" / NAME
    assert results.place_results(NAME, None) == folder / "results.json"
    results.require_writable(NAME)
    assert not folder.exists()
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"images": 654}))
    assert results.place_results(package, 3) == folder / "results_first3.json"
    assert results.place_results(package, None) == folder / "results.json"


def test_scores_do_not_replace_the_file_of_another_program(
    base: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    for others in ('{"accuracy": 1}', "[1, 2]"):
        (base / "results.json").write_text(others)
        answer = mtl("eval", base, "--limit", 1)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert f"{base}/results.json" in answer.err
        assert (base / "results.json").read_text() == others
    (base / "results.json").write_text('{"main": ')  # cut short
    assert mtl("eval", base, "--limit", 1, "--workers", 0, "--quiet").code == 0


def test_a_refused_eval_leaves_nothing_behind(package: Path, home: Path, mtl) -> None:
    assert mtl("eval", NAME, "--split", "tst").code == 2
    assert not (home / "weights").exists()


def test_a_place_that_takes_no_scores_is_told_before_the_work(
    package: Path, home: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "load", lambda *_: pytest.fail("the work began"))
    (home / "weights").write_text("a file")
    answer = mtl("eval", NAME)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert f"Cannot write the scores into {home}/weights/nyud_small (" in answer.err
    assert "set MTL_HOME to a folder of yours" in answer.err

    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(results, "TemporaryFile", refuse)
    run = (package.parent).rename(home / "run")
    answer = mtl("eval", run)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert f"{run} (Permission denied): evaluate a copy of the run." in answer.err
