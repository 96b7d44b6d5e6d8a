"""A store's path: read as people write it, absolute from then on, and tried before a start."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.errors import InputError
from raysweep.store.files import Store
from raysweep.store.folder import Folder
from raysweep.store.local_path import check_writable, local_path
from raysweep.store.resume import ResumeFolder

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1)


@given(st.lists(NAMES, min_size=1))
def test_a_path_and_its_uri_are_one_place(names):
    path = "/" + "/".join(names)
    assert local_path(path) == Path(path)
    for start in ("file://", "file://localhost", "FILE://", "file:"):
        assert local_path(start + quote(path)) == Path(path)


def test_a_path_is_that_of_the_moment_when_it_was_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    store, away = Store("results/mine"), Store("s3://bucket/mine")
    monkeypatch.chdir("other")
    assert store.folder.local == tmp_path / "results" / "mine"
    assert str(store.root) == "results/mine"
    assert store.report == tmp_path / "results" / "mine" / "report.html"
    assert away.report == tmp_path / "report.html"
    shared = ResumeFolder.shared("resume", store.folder)
    assert shared is not None
    assert shared.folder.local == (tmp_path / "resume").resolve()
    assert Store("~/a").folder.local == tmp_path / "home" / "a"
    assert Folder(Path("file:///a b")).local == Path("/a b")


def test_what_can_be_written_is_left_as_it_was(tmp_path):
    (tmp_path / "store" / "epochs").mkdir(parents=True)
    for place in ("store", "store/new/deeper", "new"):
        check_writable(tmp_path / place, "it")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "store", tmp_path / "store" / "epochs"]


def test_a_folder_whose_name_just_fits_is_used_and_one_byte_more_is_refused(tmp_path):
    check_writable(tmp_path / "new" / ("a" * 255), "it")
    with pytest.raises(InputError, match="has 256 bytes, and at most 255 are allowed"):
        check_writable(tmp_path / "new" / ("a" * 256), "it")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check_writable(tmp_path / "new", "it")
