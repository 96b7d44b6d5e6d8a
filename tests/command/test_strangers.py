"""The command line as a stranger uses it: each mistake is one line and exit code 2, and nothing is
made."""

import os
import subprocess
import sys

import pytest

from raysweep.cli import run_command_line

CURVES = "trial_id,epoch,val_accuracy\n" + "".join(f"a,{e},0.{50 + e}\n" for e in range(1, 9))


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        run_command_line([str(argument) for argument in arguments])
    _, err = capsys.readouterr()
    assert left.value.code == 2, err
    return err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what people point at by mistake."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    for suffix in ("yaml", "csv", "parquet", "jsonl"):
        (tmp_path / f"binary.{suffix}").write_bytes(bytes(range(255, -1, -1)))
        (tmp_path / f"empty.{suffix}").touch()
        os.mkfifo(tmp_path / f"pipe.{suffix}")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "misspelt.csv").write_text(CURVES.replace("val_accuracy", "val_accurcay"))
    (tmp_path / "curves.csv").write_text(CURVES)
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(7)\n")
    (tmp_path / "fails.py").write_text(
        "from raysweep.tasks import Task\n"
        "def load(folder): return open(folder / 'no\\nsuch')\n"
        "task = Task(load, None)\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "digits", "--set", "probes.ema_halflife=1"], ["did you mean 'ema_half_life'?"]),
        (["run", "digits", "--set", "probes.ema_half_life=-1"], ["ema_half_life = -1", "than 0"]),
        (["run", "digits", "--set", "base.epochs=1e9"], ["base.epochs = 1000000000.0", "integer"]),
        (["run", "digits", "--set", "base.epochs=10000000"], ["= 10000000", " 1000000"]),
        (["run", "digits", "--set", "base.depth=100000"], ["base.depth = 100000", "1000"]),
        (["run", "digits", "--set", "seeds=1000000000"], ["at most 1,000,000 seeds"]),
        (["run", "digits", "--set", "name=a/b"], ["name = 'a/b'", "allowed: letters"]),
        (["run", "digits", "--set", "name=.."], ["name = '..'", "allowed: letters"]),
        (["run", "digits", "--set", "data=~nobody-here"], ["there is no folder"]),
        (["run", "digits", "--set", "task=exits:task"], ["importing it failed: SystemExit"]),
        (
            ["run", "digits", "--set", "task=fails:task", "--set", "data=folder"],
            ["load() failed: FileNotFoundError", "fails.py, line 2"],
        ),
        (["run", "digits", "--seeds", "-3"], ["--seeds '-3'"]),
        (["run", "digits", "--seeds", "+99999999999"], ["--seeds '+99999999999'"]),
        (["run", "folder"], ["'folder' is neither a recipe nor a file"]),
        (["run", "folder.yaml"], ["folder.yaml is no file"]),
        (["run", "binary"], ["can't be read as a sweep file"]),
        (["run", "binary.yaml"], ["can't be read as a sweep file"]),
        (["run", "empty.yaml"], ["a sweep file holds a mapping, not NoneType"]),
        (["run", "list.yaml"], ["a sweep file holds a mapping, not list"]),
        (["run", "pipe"], ["neither a recipe nor a file"]),
        (["run", "pipe.yaml"], ["pipe.yaml is no file"]),
        (["run", "a" * 300], ["neither a recipe nor a file"]),
        (["run", "a" * 300 + ".yaml"], ["there is no file"]),
        (["run", "--store", "binary"], ["store binary can't be written", "binary is no folder"]),
        (["run", "--store", "binary/in/it"], ["binary is no folder"]),
        (["run", "--dry-run", "--store", "binary"], ["binary is no folder"]),
        (["run", "--dry-run", "--store", "a" * 300], ["has 300 bytes, and at most 255"]),
        (["run", "--dry-run", "--store", f"new/{'ä' * 128}"], ["has 256 bytes"]),
        (["run", "--dry-run", "--store", "/".join(["abcdefg"] * 520)], ["at most 4096"]),
        (["run", "--dry-run", "--store", "nowhere"], ["nowhere is a link to nothing"]),
        (["run", "--dry-run", "--store", "circle/a"], ["circle", "symbolic links"]),
        (["run", "--dry-run", "--store", "/proc/raysweep"], ["can't be written: /proc"]),
        (["run", "--dry-run", "--store", "file://elsewhere/a"], ["file:///folder"]),
        (["run", "--dry-run", "--store", "~nobody-here/a"], ["no home folder ~nobody-here"]),
        (["run", "--dry-run", "--store", ""], ["'' is no folder's name"]),
        (["run", "--dry-run", "--store", "a\nb"], ["'a\\nb' is no folder's name"]),
        (["run", "--dry-run", "--store", "a\0b"], ["'a\\x00b' is no folder's name"]),
        (["run", "--dry-run", "--store", "a\udcffb"], ["is no folder's name"]),
        (["status", "a" * 300], ["can't be read: File name too long"]),
        (["status", "circle"], ["can't be read: Too many levels"]),
        (["status", "a\0b"], ["is no folder's name"]),
        (["report", "a" * 300], ["can't be read: File name too long"]),
        (["report", "circle"], ["can't be read: Too many levels"]),
        (["report", "~nobody-here/a.csv"], ["no home folder ~nobody-here"]),
        (["run", "--address", "ray"], ["no Ray cluster answers"]),
        (["status", "binary"], ["no store at binary"]),
        (["status", "folder"], ["no store at folder"]),
        (["status", "pipe"], ["no store at pipe"]),
        (["report", "folder"], ["is no store", "holds no logs"]),
        (["report", "misspelt.csv"], ["val_accurcay", "--column val_accuracy=NAME"]),
        (["report", "binary.csv"], ["binary.csv holds no log"]),
        (["report", "binary.parquet"], ["binary.parquet holds no log"]),
        (["report", "binary.jsonl"], ["binary.jsonl holds no log"]),
        (["report", "empty.csv"], ["empty.csv is empty"]),
        (["report", "empty.parquet"], ["empty.parquet is empty"]),
        (["report", "pipe.csv"], ["no file at pipe.csv"]),
        (["report", "pipe.parquet"], ["no file at pipe.parquet"]),
        (["report", "curves.csv", "--column", "val_loss=no"], ["no column 'no'"]),
        (["report", "curves.csv", "--config", "no"], ["column 'no' can't be a hyperparameter"]),
        (["report", "curves.csv", "--out", "no/such/page.html"], ["can't be written to no/such"]),
        (["report", "curves.csv", "--out", "folder"], ["can't be written to folder"]),
        (["recipes", "../../etc/passwd"], ["neither a recipe"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_and_makes_nothing(capsys, here, arguments, parts):
    before = sorted(here.rglob("*"))
    err = refused(capsys, *arguments)
    *table, line = err.splitlines()
    assert line.startswith("raysweep: ")
    # A log's error stands under the table of what was understood of it.
    assert not table or (arguments[0] == "report" and table[-1].startswith("wrong? --column"))
    for part in parts:
        assert part in line
    after = [path for path in sorted(here.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(capsys, here):
    for name in ("list.yaml", "curves.csv"):
        (here / name).chmod(0)
    assert "list.yaml can't be read" in refused(capsys, "run", "list.yaml")
    assert "curves.csv can't be read" in refused(capsys, "report", "curves.csv")


def test_bytes_that_are_no_text_on_the_command_line_are_refused_readably(tmp_path):
    command = [
        sys.executable,
        "-m",
        "raysweep.main",
        "run",
        "digits",
        "--set",
        b"name=\xff\x1b[31m",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode == 2
    assert b"\x1b" not in run.stderr
    assert run.stderr.count(b"\n") == 1
