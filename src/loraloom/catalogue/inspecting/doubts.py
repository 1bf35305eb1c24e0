"""What is doubtful about a file, in sentences: formats.md §2, the traps that metadata and shapes give away."""

from collections.abc import Iterator, Mapping, Sequence

from loraloom.catalogue.inspecting.inspection import Hashes, Training
from loraloom.catalogue.inspecting.modules import Held, types
from loraloom.catalogue.inspecting.numbers import Numbers
from loraloom.catalogue.inspecting.training import arguments
from loraloom.dialects.doubts import no_text

_LARGE = 16 * 2**20  # bytes of header; the largest real ones have 2 MB


def doubts(files: Sequence[Held], found: Numbers, training: Training) -> Iterator[str]:
    """What is read differently than it was trained, or can be."""
    metadata, kinds = files[0].header.metadata, {name for kind in types(files) for name in kind.split("+")}
    modules = [module for each in files for module in each.modules]
    entries = [entry for each in files for entry in each.header.entries.values()]
    args = arguments(metadata)
    yield from _dylora(metadata, args)
    for each in files:
        yield from no_text(each.header)
    if _yes(args.get("rs_lora", "")):
        if "lokr" in kinds and any(_whole(module.shapes) for module in modules):
            yield (
                "trained with rs_lora as LoKr with whole matrices: LyCORIS does not store the rank that its scale was made with, "
                "so the strength may be off; compare with the trainer's samples"
            )
        if "glora" in kinds:
            yield "trained with rs_lora as GLoRA: LyCORIS' own loader takes alpha/r, not alpha/√r, and so does this one"
    # Rotations have no rank, and their alpha is a limit: 0 is none.
    if found.ranks and found.alphas and found.alphas.least == found.alphas.most == 0 and not any("oft" in kind for kind in kinds):
        yield "every alpha is 0, so this network changes nothing"
    if found.ranks and training.rank.isdecimal() and not found.ranks.least <= int(training.rank) <= found.ranks.most:
        have = f"{found.ranks.least:g} to {found.ranks.most:g}"
        yield f"the metadata says rank {training.rank}, the tensors have {have}: it was resized or merged"
    if entries and not modules and not any(each.words or each.problem for each in files):
        yield "no tensor of it belongs to an adapter type that is known here: this may be a checkpoint, a VAE or an embedding"
    if (length := max(each.header.data_start for each in files)) > _LARGE:
        yield f"{length:,} bytes of header, far more than a network needs"
    if eights := sorted({entry.dtype for entry in entries if entry.dtype.startswith("F8")}):
        yield f"stored in {' and '.join(eights)}: 3 significant bits, made for small size and not to be trained or merged on"


def hash_doubt(hashes: Hashes) -> Iterator[str]:
    if hashes.agrees is False:
        both = f"{hashes.told[:12]} in the metadata, {hashes.autov3} in the file"
        yield f"its tensors are not those that sshs_model_hash was made of ({both}): it was changed afterwards"


def _dylora(metadata: Mapping[str, str], args: Mapping[str, str]) -> Iterator[str]:
    module, algo = metadata.get("ss_network_module", ""), args.get("algo", "")
    block = args.get("block_size") or args.get("unit") or ""
    if ("dylora" in module or "dylora" in algo) and block.isdecimal() and int(block) > 1:
        yield (
            f"trained as DyLoRA in blocks of {block} ranks: alpha/r is taken here, alpha/blocks was trained, "
            f"which is {block} times as much; try a higher strength"
        )


def _yes(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")


def _whole(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return {"lokr_w1", "lokr_w2"} <= shapes.keys()
