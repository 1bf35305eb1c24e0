"""What other programs make of the files that we write: one table of program, naming and form, measured by tools/interchange.

A form is what a program can tell apart: a type, or a part of one that some programs pass over. `forms` names those of an adapter,
`Reads.verdict` what becomes of it. docs/interchange.md is made of the same measurements; tests/test_interchange.py holds both to them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from loraloom.adapters import Adapter, Wrapper
from loraloom.bases import Base, Layer
from loraloom.dialects.base import Dialect
from loraloom.dialects.matching import by_name
from loraloom.dialects.stored import is_free
from loraloom.errors import NotSupported, SettingsError, suggestion
from loraloom.lorafile import LoraFile

Verdict = Literal["whole", "at 1", "wrong", "refused", "no"]  # "at 1": at no other strength; "refused": the whole file; "no": passed over
READ: frozenset[Verdict] = frozenset({"whole", "at 1"})


@dataclass(frozen=True)
class Reads:
    """What one program makes of one naming. A form that is in none of the sets is passed over."""

    tool: str
    title: str
    dialect: str
    whole: frozenset[str]
    at_1: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    refuses: bool = False  # whether one module that it does not read refuses the whole file
    modules: str = ""  # a pattern of the targets that it finds at all; all where it is empty
    why: Mapping[str, str] = field(default_factory=dict)  # of a form that is read wrong

    def verdict(self, form: str) -> Verdict:
        if form in self.whole:
            return "whole"
        if form in self.at_1:
            return "at 1"
        return "wrong" if form in self.wrong else "refused" if self.refuses else "no"

    def of(self, adapter: Adapter, layer: Layer) -> tuple[str, Verdict]:
        """The worst of the adapter's forms, and what becomes of it."""
        if self.modules and not re.search(self.modules, str(layer.target)):
            return "module", "no"
        order: tuple[Verdict, ...] = ("whole", "at 1", "no", "wrong", "refused")
        return max(((form, self.verdict(form)) for form in forms(adapter, layer)), key=lambda each: order.index(each[1]))


_ADDED = frozenset({"lora", "tucker", "loha", "loha tucker", "lokr", "full", "bias of full"})  # what has no need of W
_ROWS = {
    "dora": "divides by the norms of W instead of those of W with its change",
    "dora of another type": "divides by the norms of W instead of those of W with its change",
}
_COMFY = _ADDED | {"bias", "bias alone", "glora", "norm", "dora of columns"}
_COMFY_WRONG = frozenset({"dora", "dora of another type", "sparse"})
_ROTATIONS_WRONG = frozenset({"dora of a rotation", "oft constrained", "oft rescaled", "boft constrained"})
_LINEARS = r"\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])$"  # of text encoders
_SDNEXT = _ADDED | {"lokr tucker", "norm", "norm of a text encoder", "dora", "dora of columns", "dora of another type", "ia3"}

# The likeliest naming of a program first: it is taken where several do as well.
READS: tuple[Reads, ...] = (
    Reads(
        *("comfyui", "ComfyUI", "kohya"),
        whole=_COMFY,
        at_1=frozenset({"oft", "boft", "boft rescaled"}),
        wrong=_COMFY_WRONG | _ROTATIONS_WRONG,
        modules=rf"^unet\.|{_LINEARS}|^text_encoder_2\.text_projection$",
        why=_ROWS
        | {"oft constrained": "takes alpha for the limit instead of alpha times the outputs", "oft rescaled": "passes rescale over"},
    ),
    Reads(
        *("comfyui", "ComfyUI", "comfyui"),
        whole=_COMFY | {"norm of a text encoder", "lora of an embedding"},
        at_1=frozenset({"oft", "boft", "boft rescaled"}),
        wrong=_COMFY_WRONG - {"sparse"},
        why=_ROWS,
    ),
    Reads(
        *("forge", "Forge", "kohya"),
        whole=_COMFY,
        wrong=_COMFY_WRONG,
        modules=rf"^unet\.|{_LINEARS}|^text_encoder_2\.text_projection$",
        why=_ROWS,
    ),
    Reads(
        *("sdnext", "SD.Next", "kohya"),
        whole=_SDNEXT | {"dora of a rotation", "oft", "oft constrained"},
        wrong=frozenset({"bias", "oft rescaled", "sparse"}),
        why={"bias": "passes it over", "oft rescaled": "passes rescale over"},
    ),
    Reads(
        *("invokeai", "InvokeAI", "kohya"),
        whole=_ADDED | {"lokr tucker", "norm", "norm of a text encoder", "dora of columns", "ia3", "lora of an embedding"},
        wrong=frozenset({"bias", "dora", "sparse"}),
        refuses=True,
        why={"bias": "passes it over", "dora": "takes its norms for those of columns"},
    ),
    Reads(
        *("kohya", "sd-scripts", "kohya"),
        whole=frozenset({"lora"}),
        wrong=frozenset({"bias", "tucker", "dora", "dora of columns", "sparse"}),
        modules=r"^unet\..*(attentions|resnets|downsamplers|upsamplers)|\.(self_attn|mlp)\.",
        why={"bias": "passes it over", "tucker": "passes the core over", "dora": "passes the magnitude over"},
    ),
    Reads(
        *("diffusers", "diffusers", "peft"),
        whole=frozenset({"lora", "bias"}),
        at_1=frozenset({"dora"}),
        refuses=True,
    ),
    Reads(
        *("diffusers", "diffusers", "kohya"),
        whole=frozenset({"lora"}),
        wrong=frozenset({"dora", "dora of columns"}),
        refuses=True,
        why={"dora": "drops the magnitude", "dora of columns": "drops the magnitude"},
    ),
    Reads(
        *("peft", "PEFT", "peft-folder"),
        whole=frozenset({"lora", "bias", "loha", "loha tucker"}),
        at_1=frozenset({"dora", "lora of an embedding"}),
    ),
    Reads(
        *("lycoris", "LyCORIS", "kohya"),
        whole=_ADDED | {"glora", "norm", "norm of a text encoder", "oft", "oft constrained"},
        at_1=frozenset({"dora", "dora of another type", "oft rescaled", "boft", "boft constrained", "boft rescaled"}),
        wrong=frozenset({"bias", "dora of a rotation", "sparse"}),
        refuses=True,
        why={"bias": "passes it over"},
    ),
)
TOOLS: tuple[str, ...] = tuple(dict.fromkeys(reads.tool for reads in READS))
_CORES = {"lora_mid.weight": "tucker", "hada_t1": "loha tucker", "lokr_t2": "lokr tucker", "bm.weight": "glora tucker"}
_NAMES = {"oft-diag": "oft diag", "oft-onetrainer": "onetrainer oft"}


def forms(adapter: Adapter, layer: Layer) -> Iterator[str]:
    """The forms of an adapter of this layer, by the names of the table."""
    own = adapter.tensors()
    if layer.kind == "norm":
        yield "norm of a text encoder" if layer.place.is_text else "norm"
    elif "bias_indices" in own:
        yield "sparse"
    elif layer.kind == "embedding":
        yield f"{adapter.name} of an embedding"
    elif "dora_scale" in own:
        yield _dora(adapter, own.keys(), columns=own["dora_scale"].ndim > 1 and own["dora_scale"].shape[0] != layer.shape[0])
    elif "oft_blocks" in own:
        yield adapter.name + (" rescaled" if "rescale" in own else "" if is_free(own) else " constrained")
    elif adapter.name == "ia3":
        yield "ia3" if layer.kind == "linear" else "ia3 of a convolution"
    elif own.keys() == {"diff_b"}:
        yield "bias alone"
    else:
        yield next((name for suffix, name in _CORES.items() if suffix in own), _NAMES.get(adapter.name, adapter.name))
    if "diff_b" in own and len(own) > 1:
        yield "bias of full" if adapter.name == "full" else "bias"


def _dora(adapter: Adapter, suffixes: Iterable[str], *, columns: bool) -> str:
    inner = adapter.inner.name if isinstance(adapter, Wrapper) else ""
    if inner == "lora" and "lora_mid.weight" not in suffixes:
        return "dora of columns" if columns else "dora"
    return "dora of another type" if inner in ("lora", "loha", "lokr", "glora", "full") else "dora of a rotation"


def of_tool(tool: str) -> tuple[Reads, ...]:
    """The namings of a program; raises SettingsError, naming the nearest."""
    found = tuple(reads for reads in READS if reads.tool == tool)
    if not found:
        hint = suggestion(tool, TOOLS) or f"; known are {', '.join(TOOLS)}"
        raise SettingsError(f"no program named {tool!r} is in the table of who reads what{hint}")
    return found


def naming(tool: str | None, dialect: str) -> Dialect:
    """The naming of a file that is for a program, as far as that is known before it is made; else this dialect."""
    return by_name(of_tool(tool)[0].dialect if tool else dialect)


def likeliest(file: LoraFile, base: Base, tool: str) -> Reads:
    """The naming of which the program reads the most modules of this network as they are."""

    def left(reads: Reads) -> int:
        return sum(reads.of(adapter, base.by_target[target])[1] not in READ for target, adapter in file.adapters.items())

    return min(of_tool(tool), key=left)


def require(file: LoraFile, base: Base, reads: Reads) -> None:
    """Raises NotSupported for the first module that the program does not read as it is meant."""
    for target, adapter in file.adapters.items():
        if (reason := unread(reads, adapter, base.by_target[target])) is not None:
            raise NotSupported(f"{target}: {reason}; another type may be read, or another program's naming", fields=("type",))


def unread(reads: Reads, adapter: Adapter, layer: Layer) -> str | None:
    """Why the program does not read the adapter as it is meant; None if it does."""
    form, verdict = reads.of(adapter, layer)
    if verdict in READ:
        return None
    if form == "module":
        return f"{reads.title} finds no module of this name in {reads.dialect} naming"
    return f"{reads.title} does not read {form} as it is meant ({explained(reads, form, verdict)})"


def told(file: LoraFile, base: Base, reads: Reads) -> Iterator[str]:
    """A sentence for each form of the network that the program reads at strength 1 alone, or not at all as it is meant."""
    found = Counter(reads.of(adapter, base.by_target[target]) for target, adapter in file.adapters.items())
    for (form, verdict), count in found.items():
        if verdict == "at 1":
            yield f"{reads.title} reads {form} ({count} modules) as it is meant at strength 1, and otherwise at other strengths"
        elif verdict != "whole":
            yield f"{reads.title} does not read {form} ({count} modules) as it is meant: {explained(reads, form, verdict)}"


def explained(reads: Reads, form: str, verdict: Verdict) -> str:
    """What the program does instead."""
    if verdict == "wrong":
        return f"it {reads.why.get(form, 'makes another change of it')}"
    return "it refuses the whole file" if verdict == "refused" else "it passes it over"


def notes(file: LoraFile, base: Base, dialect: str) -> tuple[str, ...]:
    """What is surprising about who reads a network in this naming: LoRAs that diffusers refuses whole for a part of them."""
    if dialect != "kohya":
        return ()
    counts = Counter(form for target, adapter in file.adapters.items() for form in forms(adapter, base.by_target[target]))
    if not counts.keys() <= {"lora", "bias", "tucker"} or counts.keys() <= {"lora"}:
        return ()
    parts = " and ".join(
        f"a {what} on {counts[form]} modules" for form, what in (("bias", "bias"), ("tucker", "Tucker core")) if counts[form]
    )
    return (f"diffusers refuses the whole file in kohya naming for {parts}; written plain, without them, it reads it",)
