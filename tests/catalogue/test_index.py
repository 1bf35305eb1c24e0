"""Laws of the index: it only saves time. Without it, or with one that is damaged, locked or somebody else's, everything is the same."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from loraloom import dialects
from loraloom.catalogue import Catalogue
from loraloom.catalogue import catalogue as module


@pytest.fixture
def library(tmp_path, make_lora):
    folder = tmp_path / "loras"
    for seed, name in enumerate(("ink", "neon", "glass")):
        make_lora(folder / f"{name}.safetensors", seed=seed, metadata={"modelspec.trigger_phrase": f"word {name}"})
    (folder / "text.safetensors").write_text("only a text")
    return folder


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read, in order."""
    read = []
    for name in ("read_facts", "read_told"):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda item, *rest, original=original: read.append(item.name) or original(item, *rest))
    return read


def known(library, index):
    catalogue = Catalogue([library], index=index)
    catalogue.complete()
    return {item.name: catalogue.facts(item) for item in catalogue.items}


def rows(index):
    with closing(sqlite3.connect(index)) as connection:
        return connection.execute("SELECT path FROM files ORDER BY path").fetchall()


def test_a_file_is_read_once_in_all_processes(library, tmp_path, reads):
    index = tmp_path / "cache" / "deep" / "index.sqlite"
    first = known(library, index)
    assert sorted(reads) == ["glass", "ink", "neon", "text"]
    assert known(library, index) == first
    assert len(reads) == 4
    assert first["ink"].triggers == ("word ink",)
    assert "not a safetensors file" in first["text"].problem


def test_only_what_changed_is_read_anew(library, tmp_path, reads, make_lora):
    index = tmp_path / "index.sqlite"
    catalogue = Catalogue([library], index=index)
    catalogue.complete()
    reads.clear()
    (library / "ink.json").write_text('{"preferred weight": 0.4}')
    make_lora(library / "neon.safetensors", seed=9, rank=2)
    os.utime(library / "glass.safetensors", ns=(1, 1))
    catalogue.rescan()
    catalogue.complete()
    assert sorted(reads) == ["glass", "ink", "neon"]
    assert catalogue.facts(catalogue.find("ink")).strength == 0.4
    (library / "ink.json").unlink()
    catalogue.rescan()
    assert catalogue.facts(catalogue.find("ink")).strength is None


def test_files_that_are_gone_are_forgotten_and_those_of_other_folders_kept(library, tmp_path, make_lora):
    index, other = tmp_path / "index.sqlite", tmp_path / "loras-2"  # a name that begins like the other folder's
    make_lora(other / "x.safetensors")
    known(library, index)
    known(other, index)
    (library / "ink.safetensors").unlink()
    known(library, index)
    assert [os.fsdecode(path).rpartition("/")[2] for (path,) in rows(index)] == [
        "x.safetensors",
        "glass.safetensors",
        "neon.safetensors",
        "text.safetensors",
    ]


@pytest.mark.parametrize("cut", [40, 3000, 5000])
def test_a_damaged_index_is_thrown_away_and_made_anew(library, tmp_path, cut, reads):
    index = tmp_path / "index.sqlite"
    expected = known(library, index)
    content = index.read_bytes()
    index.write_bytes(content[:100] + b"\xff" * (len(content) - 100) if cut == 40 else content[:cut] + b"\0\xff" * 500)
    reads.clear()
    assert known(library, index) == expected
    assert len(reads) == 4
    known(library, index)  # the use that threw it away may have been the last of the one before
    reads.clear()
    assert known(library, index) == expected
    assert not reads


def test_facts_that_were_changed_on_the_disk_are_not_believed(library, tmp_path, reads):
    index = tmp_path / "index.sqlite"
    expected = known(library, index)
    content = index.read_bytes()
    assert content.count(b"word ink") == 2  # as a trigger and as a sure one
    index.write_bytes(content.replace(b"word ink", b"word inc"))
    reads.clear()
    assert known(library, index) == expected
    assert reads == ["ink"]


def test_what_is_not_ours_is_left_alone(library, tmp_path):
    text, database = tmp_path / "diary.txt", tmp_path / "other.sqlite"
    text.write_text("dear diary " * 1000)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE files (name TEXT)")
    for index in (text, database):
        before = index.read_bytes()
        catalogue = Catalogue([library], index=index)
        catalogue.complete()
        assert len(catalogue.search("word")) == 3
        assert str(index) in catalogue.index.problem
        assert index.read_bytes() == before


def test_an_index_that_cannot_be_written_or_is_locked_is_done_without(library, tmp_path, monkeypatch):
    monkeypatch.setattr("loraloom.catalogue.index._WAIT", 0.05)
    expected = known(library, None)
    (tmp_path / "file").touch()
    for index in (tmp_path / "file" / "index.sqlite", tmp_path):  # below a file, and a folder
        catalogue = Catalogue([library], index=index)
        assert {item.name: catalogue.facts(item) for item in catalogue.items} == expected
        assert "could not be used" in catalogue.index.problem
    index = tmp_path / "index.sqlite"
    known(library, index)
    with closing(sqlite3.connect(index)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        catalogue = Catalogue([library], index=index)
        assert {item.name: catalogue.facts(item) for item in catalogue.items} == expected
        assert "locked" in catalogue.index.problem
    assert known(library, index) == expected


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_index_in_a_folder_that_may_only_be_read_is_read(library, tmp_path, reads):
    folder = tmp_path / "cache"
    expected = known(library, folder / "index.sqlite")
    folder.chmod(0o500)
    (folder / "index.sqlite").chmod(0o400)
    reads.clear()
    assert known(library, folder / "index.sqlite") == expected
    assert not reads


def test_a_read_only_index_is_read(library, tmp_path, reads, monkeypatch):
    """SQLite's own way, which holds for root too."""
    index = tmp_path / "index.sqlite"
    expected = known(library, index)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **rest: connect(f"file:{path}?mode=ro", uri=True, **rest))
    reads.clear()
    assert known(library, index) == expected
    assert not reads
    (library / "new.safetensors").write_text("text")
    catalogue = Catalogue([library], index=index)
    catalogue.complete()
    assert len(catalogue.items) == 5
    assert "readonly" in catalogue.index.problem


def test_after_an_update_of_the_code_files_are_read_anew(library, tmp_path, reads, monkeypatch):
    index = tmp_path / "index.sqlite"
    expected = known(library, index)
    reads.clear()
    monkeypatch.setattr("loraloom.catalogue.index._reader", lambda: "another version")
    assert known(library, index) == expected
    assert len(reads) == 4


def test_a_file_that_the_system_did_not_let_us_read_is_tried_again(library, tmp_path, monkeypatch):
    index = tmp_path / "index.sqlite"
    with monkeypatch.context() as broken:
        broken.setattr("pathlib.Path.open", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        catalogue = Catalogue([library], index=index)
        assert "Too many open files" in catalogue.facts(catalogue.find("ink")).problem
    catalogue.rescan()
    assert catalogue.facts(catalogue.find("ink")).problem == ""
    assert known(library, index)["ink"].problem == ""


def test_processes_that_scan_at_once_all_see_everything(library, tmp_path, make_lora):
    for number in range(40):
        make_lora(library / "many" / f"{number}.safetensors", seed=number, rank=1)
    code = f"""
from pathlib import Path
from loraloom import dialects
from loraloom.catalogue import Catalogue
for _ in range(5):
    catalogue = Catalogue([Path({str(library)!r})], index=Path({str(tmp_path / "index.sqlite")!r}))
    catalogue.complete()
    assert len(catalogue.search("lora", family="nano")) == 43, len(catalogue.search("lora"))
print(catalogue.index.problem or "good")
"""
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.strip()) == (0, "good"), err
    assert len(rows(tmp_path / "index.sqlite")) == 44


def test_threads_see_the_old_scan_or_the_new_one(library, tmp_path, make_lora):
    catalogue = Catalogue([library], index=tmp_path / "index.sqlite")
    wrong, done = [], threading.Event()

    def look():
        while not done.is_set():
            found = {item.name for item in catalogue.search("word")}
            if found not in ({"ink", "neon", "glass"}, {"ink", "neon", "glass", "new"}):
                wrong.append(found)
            for item in catalogue.items:
                catalogue.facts(item, complete=False)
                catalogue.tag(item)

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    new = library / "new.safetensors"
    for _ in range(15):
        make_lora(new, metadata={"modelspec.trigger_phrase": "word new"})
        catalogue.rescan()
        new.unlink()
        catalogue.rescan()
    done.set()
    for watcher in watchers:
        watcher.join()
    assert not wrong


def test_a_file_is_read_again_when_the_config_beside_it_changes(library, tmp_path):
    """PEFT's config says how the tensors are meant: another one makes another network of the same bytes."""
    folder = dialects.write(dialects.read(library / "ink.safetensors"), library / "plain", "peft-folder")
    config = folder / "unet" / "adapter_config.json"
    whole = config.read_text()

    def seen(catalogue):
        item = next(item for item in catalogue.items if item.path.parent == config.parent)
        return item.identity, catalogue.facts(item).problem

    first = Catalogue([library], index=tmp_path / "index.sqlite")
    first.complete()
    before, problem = seen(first)
    assert problem == ""
    config.write_text("{")
    first.rescan()
    first.complete()
    for catalogue in (first, Catalogue([library], index=tmp_path / "index.sqlite")):
        catalogue.complete()
        identity, problem = seen(catalogue)
        assert identity != before
        assert "not what PEFT writes" in problem
    config.write_text(whole)
    first.rescan()
    first.complete()
    assert seen(first)[1] == ""
