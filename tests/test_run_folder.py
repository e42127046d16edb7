"""A run folder is one record: read whole, strictly, and from anywhere."""

import json
import multiprocessing
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.files import replacing
from mtlcli.runs.comparison import compare, read_reference
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import held, is_unused, make_run_folder
from mtlcli.runs.names import find
from mtlcli.runs.record import Record
from mtlcli.runs.results import Results, read_results
from mtlcli.runs.run import Run, same_pictures
from tests.made_runs import HALF, TASKS

SHIPPED = Path(__file__).parents[1] / "weights" / "nyud_small"
DIRECTIONS = {"semseg": True, "depth": False, "normals": False, "edge": True}
Maker = Callable[..., Path]


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def test_a_run_is_what_its_files_say(make_run: Maker) -> None:
    run = Run.read(make_run("one", iterations=40))
    assert (run.name, run.config.iterations, run.iteration) == ("one", 40, 40)
    assert run.is_finished
    assert run.main == TASKS
    assert run.lacks == ()
    assert not Run.read(make_run("two", iterations=41)).is_finished
    bare = Run.read(make_run("three", None, log=False))
    assert (bare.results, bare.main, bare.iteration) == (None, {}, 0)
    assert len(bare.lacks) == 1


def test_the_records_of_an_older_version_are_read_and_written_alike() -> None:
    run = Run.read(SHIPPED)
    assert run.results is not None
    records = {"config.json": run.record.to_json(), "results.json": run.results.to_json()}
    for file, record in records.items():
        said, found = json.loads((SHIPPED / file).read_text()), json.loads(json.dumps(record))
        inner = [(said.pop(name, {}), found.get(name, {})) for name in ("dataset", "config")]
        for part, whole in (*inner, (said, found)):
            assert {key: whole[key] for key in part} == part  # newer ones say more


def test_a_record_from_before_an_option_was_there_has_its_default() -> None:
    later = ("zoom", "warmup", "schedule", "clip", "ema", "backbone_lr_factor", "freeze_backbone",
             "val_every", "patience", "mean", "deviation")  # fmt: skip
    said = json.loads((SHIPPED / "config.json").read_text())["config"]
    now = RunConfig.from_json(said)
    old = RunConfig.from_json({name: value for name, value in said.items() if name not in later})
    usual = {field.name: field.default for field in fields(RunConfig)}
    assert {name: getattr(old, name) for name in later} == {name: usual[name] for name in later}
    kept = [name for name in said if name not in later]
    assert [getattr(old, name) for name in kept] == [getattr(now, name) for name in kept]


def test_what_has_no_value_is_null_in_the_file_and_nan_in_the_record(make_run: Maker) -> None:
    file = make_run("one") / "results.json"
    edit(file, lambda r: r["main"].update(depth=None))
    found = read_results(file)
    assert str(found.main["depth"]) == "nan"
    assert found.to_json()["main"]["depth"] is None
    assert Results.from_json(found.to_json()).to_json() == found.to_json()


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("run.json", lambda r: r.pop("config"), "lacks 'config'"),
        ("run.json", lambda r: r.pop("dataset"), "lacks 'dataset'"),
        ("run.json", lambda r: r["config"].update(unheard_of=1), "unheard_of"),
        ("run.json", lambda r: r["config"].update(lr=-1), "--lr must be positive"),
        ("run.json", lambda r: r.update(config=[]), "config"),
        ("results.json", lambda r: r.pop("main"), "lacks 'main'"),
        ("results.json", lambda r: r.update(main=3), "no scores"),
        ("results.json", lambda r: r["scores"].update(depth=None), "no scores"),
    ],
)
def test_what_is_wrong_with_a_record_is_said_with_its_file(
    make_run: Maker, file: str, change: Callable, said: str
) -> None:
    folder = make_run("one")
    edit(folder / file, change)
    with pytest.raises(InputError) as error:
        Run.read(folder)
    assert str(folder / file) in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{\n", "[1]\n", "{}\n"])
def test_a_damaged_log_is_lacking_and_nothing_else(make_run: Maker, content: str) -> None:
    folder = make_run("one")
    (folder / "log.jsonl").write_text(content)
    run = Run.read(folder)
    assert (len(run.log), run.main, run.iteration) == (0, TASKS, 0)
    assert "log.jsonl cannot be read" in run.lacks[0]


def test_every_field_of_a_record_survives_its_file() -> None:
    config = RunConfig(tasks=("depth",), size=(64, 96), settings={"steps": 2})
    record = Record(
        config=config, dataset=Info(title="x"), training_images=3, versions={"mtl": "1"}
    )
    read = Record.from_json(json.loads(json.dumps(record.to_json())))
    assert asdict(read) == asdict(record)
    assert "imported_from" not in read.to_json()


def test_runs_are_found_at_any_depth_or_down_to_one(tmp_path: Path) -> None:
    for place in ("b/last.pt", "a/run.json", "a/x/y/run.json", "no/other.pt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    found = [folder.relative_to(tmp_path).as_posix() for folder in find(tmp_path)]
    assert found == ["a", "a/x/y", "b"]
    assert [folder.name for folder in find(tmp_path, depth=2)] == ["a", "b"]


def test_eval_and_report_agree_on_which_pictures_are_the_same(make_run: Maker) -> None:
    """Where scores carry no fingerprint, pictures are told by what the runs were trained on."""
    one = make_run("one", file={"fingerprint": "a"})
    other = make_run("other", HALF, file={"fingerprint": "b"})
    alike = make_run("alike", HALF, file={"fingerprint": "a"})
    runs = {folder: Run.read(folder) for folder in (one, other, alike)}
    assert not same_pictures(runs[one], runs[other])
    assert same_pictures(runs[one], runs[alike])
    apart = compare(runs[one], DIRECTIONS, read_reference(other))
    assert apart.gain is None
    assert "of another file" in apart.caution
    assert compare(runs[one], DIRECTIONS, read_reference(alike)).gain == pytest.approx(75)


def test_a_gain_over_published_scores_says_on_how_few_pictures_it_rests(
    make_run: Maker, mtl
) -> None:
    few, all_of_them = make_run("few", scored={"images": 3}), make_run("all")
    assert "(indicative: 3 of 654 pictures)" in mtl("report", few, "--markdown").out
    assert "indicative" not in mtl("report", all_of_them, "--latex").out


def test_what_departs_from_a_recipe_is_named_in_tables(make_run: Maker, mtl) -> None:
    folder = make_run("one", crop=(32, 48), weighting="dwa", holdout=0.25)
    edit(folder / "run.json", lambda r: r.update(training_images=40))
    for form in ("--markdown", "--latex"):
        text = mtl("report", folder, form).out
        for said in ("size 64 96 (recipe: 425 560)", "crop 32 48", "weighting dwa", "holdout 0.25"):
            assert said in text
        assert "training_images 40 (recipe: 795)" in text


def test_a_name_that_another_process_has_just_taken_is_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the folder had appeared after it was looked for."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(Path, "exists", lambda self, **_: False)
    assert make_run_folder(tmp_path / "run", fixed=False) == tmp_path / "run_2"
    (tmp_path / "run" / "run.json").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        make_run_folder(tmp_path / "run", fixed=True)
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(InputError, match="Cannot create"):
        make_run_folder(tmp_path / "gone" / "run", fixed=False)


def test_two_that_write_one_file_at_once_leave_one_of_the_two_whole(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with replacing(path) as one, replacing(path) as other:
        one.write(b"one")
        other.write(b"other, longer")
    assert path.read_bytes() == b"one"
    with suppress(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_nobody_trains_in_a_folder_where_another_does(base: Path, mtl) -> None:
    before = {p.name: p.read_bytes() for p in base.iterdir()}
    with held(base):
        answer = mtl("train", "--resume", base, "--iterations", 5, "--workers", 0)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "Another process trains in" in answer.err
        assert {p.name: p.read_bytes() for p in base.iterdir()} == before
    with held(base):
        pass


def test_two_that_begin_in_one_empty_folder_do_not_mix(home: Path, mtl) -> None:
    """The other one holds it, and has not written its run.json yet."""
    (home / "run").mkdir()
    with held(home / "run"):
        answer = mtl("train", "--dataset", "rooms", "--init", "random", "--system", "multi_task",
                     "--backbone", "resnet18_half", "--device", "cpu", "--out", "run")  # fmt: skip
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "Another process trains in run" in answer.err
        assert [p.name for p in (home / "run").iterdir()] == ["log.jsonl"]
    assert make_run_folder(home / "run", fixed=True) == home / "run"


def test_a_process_that_outlives_the_run_it_was_made_by_does_not_hold_it(base: Path) -> None:
    """As those of a loader do for some seconds, when the run was killed."""
    ready, done = multiprocessing.Event(), multiprocessing.Event()
    child = multiprocessing.get_context("fork").Process(
        target=lambda: (ready.set(), done.wait(60)), daemon=True
    )
    with held(base):
        child.start()
        assert ready.wait(60)
        with pytest.raises(InputError), held(base):
            pass
    with held(base):
        pass
    done.set()
    child.join()


def test_what_a_killed_run_was_writing_is_litter(base: Path, tmp_path: Path) -> None:
    unfinished = []
    for path in (base / "last.pt", base / "best.pt", tmp_path / "new" / "run.json"):
        path.parent.mkdir(exist_ok=True)
        with suppress(ZeroDivisionError), replacing(path) as file:
            file.write(b"half")
            copy = Path(str(file.name) + "x")
            shutil.copyfile(file.name, copy)
            raise ZeroDivisionError
        unfinished.append(copy.rename(str(copy)[:-1]))  # as a kill leaves it
    assert is_unused(tmp_path / "new")
    with held(base):
        assert [path.exists() for path in unfinished] == [False, False, True]
