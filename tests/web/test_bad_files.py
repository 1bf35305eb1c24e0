"""One bad file of the library does not take the others from a client: both APIs list all of them, the bad ones with their reason."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "contract"))  # broken.py

from broken import put

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
BAD = {
    "core": ({f"{K}.lora_down.weight": ("F32", (4, 16)), f"{K}.lora_up.weight": ("F32", (16, 4)), f"{K}.lora_mid.weight": ("F32", ())}, {}),
    "deep": ({"x": ("U8", (1,))}, {"ss_datasets": "[" * 900 + "]" * 900}),
    "half a character": ({"x": ("U8", (1,))}, {"modelspec.title": "\ud800"}),
    "steering": ({"\x1b[2J\u202e.lora_up.weight": ("F32", (1,))}, {"modelspec.title": "\x1b]52;c;eA==\x07"}),
}


def test_every_file_is_listed(server, make_lora, lora_folder):
    make_lora(lora_folder / "good.safetensors")
    for name, (file, metadata) in BAD.items():
        put(lora_folder / f"{name}.safetensors", file, metadata)
    (lora_folder / "page.safetensors").write_text("<!doctype html><title>404</title>")
    server.post("/api/v1/networks/refresh")
    found = server.get("/api/v1/networks").json()["networks"]
    problems = {each["name"]: each["problem"] for each in found if not each["folder"]}
    assert problems.keys() >= {"good", "page", *BAD}
    assert problems.pop("good") == ""
    assert all(problems.values())
    assert all(server.get(f"/api/v1/networks/{each['id']}").status_code == 200 for each in found)
    assert {each["name"] for each in server.get("/sdapi/v1/loras").json()} >= {"good", "page", *BAD}
