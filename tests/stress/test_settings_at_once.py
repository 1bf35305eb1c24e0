"""Settings changed at once by clients of a server and by other programs: what was answered is in the file, none is lost.

Sixty changes in `make test`, a thousand in `make test-long`.
"""

import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from live import TIMEOUT, running

from loraloom.settings import Settings
from loraloom.web.service import Service

# Each has one setting for itself and reads what it has set: another one's change must not take it back.
OTHER = """
import sys, tomllib
from loraloom.settings import Settings
from loraloom.settingsfile import settings_file
lost = 0
for number in range(int(sys.argv[1])):
    Settings.save({"output_folder": f"/pictures/{number}"})
    lost += tomllib.loads(settings_file().read_text())["output_folder"] != f"/pictures/{number}"
print(lost)
"""


@pytest.mark.parametrize("changes", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_no_change_is_lost(changes, tmp_path, monkeypatch):
    file = tmp_path / "settings.toml"
    monkeypatch.setenv("LORALOOM_SETTINGS", str(file))
    each = changes // 4
    with running(Service(Settings())) as server:

        def change(name, values):
            lost = 0
            for number in range(each):
                value = values[number % len(values)]
                answer = requests.patch(f"{server.address}/api/v1/settings", json={name: value}, timeout=TIMEOUT)
                told = answer.status_code == 200 and answer.json()["values"][name] == value
                lost += not told or tomllib.loads(file.read_text())[name] != value
            return lost

        other = subprocess.Popen([sys.executable, "-c", OTHER, str(each)], stdout=subprocess.PIPE, text=True)
        with ThreadPoolExecutor(3) as clients:
            asked = {"default_strength": [0.25, 0.5, 0.75], "auto_apply_triggers": [1, 2, 3, 4, 5], "loader": ["native", "auto"]}
            lost = list(clients.map(change, asked, asked.values()))
        lost.append(int(other.communicate(timeout=TIMEOUT)[0]))
        assert set(asked) | {"output_folder"} == tomllib.loads(file.read_text()).keys()
    print(f"{4 * each} changes of 4 settings by 3 clients and another program at once; lost: {sum(lost)}")
    assert lost == [0, 0, 0, 0]
