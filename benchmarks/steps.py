"""One step of the denoiser with k networks beside it, against none.  `python -m benchmarks.steps [--base sd1|sdxl] [--quick] [--check]`

A base at full size, latents 16×16 unless told otherwise, k networks of rank 16 on the UNet's attention layers. Peer: PEFT with the same
networks. Every denoiser below is the same weights in modules of its own, so that all are attached at once and every round runs
each of them once, in random order: a ratio is always of two times of the same round. Writes benchmarks/results/steps.md and
docs/images/steps.png; other bases and devices have pages of their own.
"""

import copy
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, addmm_flop

from benchmarks.fullsize import FULL_SIZES, FullSize, open_base, save_base, save_network
from benchmarks.measured import Clock, clock_of, machine, options, span, table, write_result
from benchmarks.peers import Peft, silence
from loraloom.dialects import read
from loraloom.engine import Engine
from loraloom.engine.live import live_modules, weight_of
from loraloom.lorafile import LoraFile, Mix
from loraloom.schedule import Schedule
from loraloom.strength import Strength

COUNTS = (1, 2, 4, 8, 16)
RANK, STRENGTH = 16, 0.1
ALLOWED = {1: 0.05, 8: 0.12}  # above the null ratio's own bound
QUIET = 1.05  # a null bound above it says that the machine was busy with other things
STEP_LIMIT, MIXED_LIMIT = 0.002, 1.15
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "steps.png"
Seconds = Mapping[str, Sequence[float]]  # by what was run, one for each round


@dataclass(frozen=True)
class Scene:
    """What a step is a step of."""

    full: FullSize
    side: int  # of the latents
    device: str

    def run(self, pipeline: Any, batch: int = 1) -> Tensor:
        """One call of the denoiser on seeded noise."""
        generator, width = torch.Generator().manual_seed(0), self.full.unet["cross_attention_dim"]

        def noise(*shape: int) -> Tensor:
            return torch.randn(batch, *shape, generator=generator).to(self.device, self.full.dtype)

        added = {"text_embeds": noise(1280), "time_ids": noise(6)} if self.full.family == "sdxl" else None
        latents, text = noise(4, self.side, self.side), noise(77, width)
        with torch.no_grad():
            sample: Tensor = pipeline.unet(latents, 500, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False)[0]
        return sample

    @property
    def title(self) -> str:
        return f"{self.full.base.title}, {str(self.full.dtype).removeprefix('torch.')}, latents {self.side}×{self.side}"


def twin(pipeline: Any) -> Any:
    """The same weights in modules of its own, in a pipeline of its own."""
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    shared = {id(tensor): tensor for part in parts.values() for tensor in (*part.parameters(), *part.buffers())}
    copies = {name: copy.deepcopy(part, shared) for name, part in parts.items()}
    options = {"requires_safety_checker": False} if "safety_checker" in pipeline.components else {}
    made = type(pipeline)(**{**pipeline.components, **copies}, **options)
    made._guidance_scale = 1.0  # what a run of the pipeline would set: no second half of guidance in the batch
    return made


def mix(files: Sequence[LoraFile]) -> Mix:
    return Mix(tuple((file, Strength.of(STRENGTH)) for file in files))


def timed(scene: Scene, denoisers: Mapping[str, Any], rounds: int, clock: Clock, batch: int = 1) -> Seconds:
    """Every denoiser once in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in denoisers}
    dice, order = random.Random(0), list(denoisers)
    for turn in range(rounds + 1):
        dice.shuffle(order)
        for name in order:
            started = clock()
            scene.run(denoisers[name], batch)
            if turn:
                seconds[name].append(clock() - started)
    return seconds


def ratio(seconds: Seconds, name: str, other: str) -> tuple[float, float]:
    """Median ratio of the rounds, and the upper end of its one-sided 95 % interval (bootstrap, 4,000 draws)."""
    ratios = np.array(seconds[name]) / np.array(seconds[other])
    draws = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
    return float(np.median(ratios)), float(np.quantile(np.median(draws, axis=1), 0.95))


def flops(scene: Scene, pipeline: Any) -> int:
    """Of one step. The counter knows addmm, and the branches write theirs in place."""
    counted = partial(addmm_flop)  # as in the counter's own table: it adds the shapes
    counted._get_raw = True  # type: ignore[attr-defined]
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: counted}) as counter:
        scene.run(pipeline)
    return int(counter.get_total_flops())


def own_flops(scene: Scene, pipeline: Any, files: Sequence[LoraFile]) -> int:
    """What the ranks cost by themselves: 2·rank·(in + out) for each position that their layer computes."""
    modules, positions, handles = live_modules(pipeline, scene.full.base), {}, []
    for target in files[0].adapters:

        def count(layer: nn.Module, _: Any, y: Tensor, target: Any = target) -> None:
            positions[target] = y.numel() // len(weight_of(layer))

        handles.append(modules[target].register_forward_hook(count))
    scene.run(pipeline)
    for handle in handles:
        handle.remove()
    weights = {target: weight_of(modules[target]) for target in positions}
    return sum(
        2 * RANK * (weights[target][0].numel() + len(weights[target])) * positions[target] for file in files for target in file.adapters
    )


def step_cost(scene: Scene, pipeline: Any, files: Sequence[LoraFile], clock: Clock, steps: int = 50) -> float:
    """Median seconds of `Engine.step` where every network's strength is another one at each step."""
    engine, found = Engine(pipeline, scene.full.base), []
    moving = Mix(tuple((file, Strength(Schedule.ramp(0, STRENGTH))) for file in files))
    with engine.attached(moving, steps=steps):
        for step in range(2, steps + 1):
            started = clock()
            engine.step(step)
            found.append(clock() - started)
    return float(np.median(found))


def by_count(
    scene: Scene, pipeline: Any, paths: Sequence[Path], rounds: int, counts: Sequence[int], clock: Clock
) -> tuple[list[str], list[str], Seconds]:
    """The table over k, what is missed, and the seconds behind it."""
    files = [read(path, scene.full.base) for path in paths]
    with ExitStack() as live:
        denoisers = {"plain": pipeline, "null": twin(pipeline)}
        for count in counts:
            ours, theirs = twin(pipeline), twin(pipeline)
            live.enter_context(Engine(ours, scene.full.base).attached(mix(files[:count]), mode="branch"))
            peft = Peft(theirs, ())
            for path in paths[:count]:
                peft.load(path)
            theirs.set_adapters([path.stem for path in paths[:count]], [STRENGTH] * count)
            other = scene.run(theirs)
            difference = (scene.run(ours) - other).abs().max() / other.abs().max()
            if not difference <= (1e-3 if scene.full.dtype == torch.float32 else 0.1):
                raise ValueError(f"{count} networks: our output and PEFT's differ by {float(difference):.2g} of the largest value")
            denoisers |= {f"ours {count}": ours, f"PEFT {count}": theirs}
        seconds = timed(scene, denoisers, rounds, clock)
        added = {count: flops(scene, denoisers[f"ours {count}"]) - flops(scene, pipeline) for count in counts}
    null = ratio(seconds, "null", "plain")
    lines, missed = [("0", f"{null[0]:.3f}", f"{null[1]:.3f}", "", "null: plain against plain", "")], []
    for count in counts:
        median, upper = ratio(seconds, f"ours {count}", "plain")
        theirs_median, _ = ratio(seconds, f"PEFT {count}", "plain")
        own = own_flops(scene, pipeline, files[:count])
        goal = ""
        if count in ALLOWED:
            good = upper <= null[1] + ALLOWED[count] and null[1] <= QUIET
            goal = f"bound ≤ {null[1] + ALLOWED[count]:.3f} {'met' if good else 'MISSED' if null[1] <= QUIET else 'not judged'}"
            why = "" if null[1] <= QUIET else f"; not judged: plain against plain is above {QUIET}, the machine is too busy"
            missed += [] if good else [f"k = {count}: bound {upper:.3f}, allowed {null[1] + ALLOWED[count]:.3f}{why}"]
        if added[count] != own:
            missed.append(f"k = {count}: {added[count]:,} FLOPs were added, the ranks' own are {own:,}")
        gflop = f"{added[count] / 1e9:.3f} GFLOP, {added[count] / own:.3f} × the ranks' own"
        lines.append((str(count), f"{median:.3f}", f"{upper:.3f}", f"{theirs_median:.3f}", gflop, goal))
    head = ("k", "median ratio", "upper 95 %", "PEFT's median", "added", "goal")
    return [table(head, lines)], missed, seconds


def by_picture(scene: Scene, pipeline: Any, paths: Sequence[Path], rounds: int, clock: Clock) -> tuple[list[str], list[str]]:
    """A batch of 4: a network of its own for each picture, against one network for all, and all four networks for all."""
    files = [read(path, scene.full.base) for path in paths[:4]]
    with ExitStack() as live:
        denoisers = {name: twin(pipeline) for name in ("four mixes", "one mix", "one mix of four")}
        for name, mixes in (("four mixes", [mix([file]) for file in files]), ("one mix", mix(files[:1])), ("one mix of four", mix(files))):
            live.enter_context(Engine(denoisers[name], scene.full.base).attached(mixes, mode="branch"))
        seconds = timed(scene, denoisers, rounds, clock, batch=4)
    lines, missed = [], []
    for other in ("one mix", "one mix of four"):
        median, upper = ratio(seconds, "four mixes", other)
        good = upper <= MIXED_LIMIT
        lines.append((other, f"{median:.3f}", f"{upper:.3f}", f"bound ≤ {MIXED_LIMIT} {'met' if good else 'MISSED'}"))
        missed += [] if good else [f"4 pictures with 4 mixes against {other}: bound {upper:.3f}"]
    return [table(("4 pictures with 4 mixes, against", "median ratio", "upper 95 %", "goal"), lines)], missed


def strengths(scene: Scene, pipeline: Any, paths: Sequence[Path], counts: Sequence[int], clock: Clock) -> tuple[list[str], list[str]]:
    files = [read(path, scene.full.base) for path in paths]
    lines, missed = [], []
    for count in counts:
        seconds = step_cost(scene, pipeline, files[:count], clock)
        lines.append((str(count), span(seconds), f"≤ {span(STEP_LIMIT)} {'met' if seconds <= STEP_LIMIT else 'MISSED'}"))
        missed += [] if seconds <= STEP_LIMIT else [f"Engine.step with {count} networks: {span(seconds)}"]
    return [table(("networks whose strengths change", "Engine.step", "goal"), lines)], missed


def plot(scene: Scene, seconds: Seconds, counts: Sequence[int], path: Path) -> None:
    """The ratio over k, ours and PEFT's, with the band that plain against plain has."""
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=140, layout="constrained")
    null = np.array(seconds["null"]) / np.array(seconds["plain"])
    axes.axhspan(*np.quantile(null, [0.05, 0.95]), color="0.9", label="plain against plain, 90 % of rounds")
    for name, colour in (("ours", "tab:blue"), ("PEFT", "tab:orange")):
        values = np.array([ratio(seconds, f"{name} {count}", "plain") for count in counts])
        axes.plot(counts, values[:, 0], "o-", color=colour, label="loraloom" if name == "ours" else name)
        axes.fill_between(counts, values[:, 0], values[:, 1], color=colour, alpha=0.2)
    axes.set(
        xscale="log", xticks=counts, xticklabels=map(str, counts), xlabel="networks (rank 16, attention)", ylabel="time of a step, × plain"
    )
    axes.minorticks_off()
    axes.set_title(f"{scene.title}: median and its upper 95 % bound")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    parser = options("steps", __doc__, rounds=30, quick="three rounds, k = 1 and 8")
    parser.add_argument("--base", choices=FULL_SIZES, default="sd1")
    parser.add_argument("--side", type=int, default=16, help="of the latents: an eighth of the picture's")
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="networks")
    arguments = parser.parse_args()
    scene = Scene(FULL_SIZES[arguments.base], arguments.side, arguments.device)
    torch.set_num_threads(arguments.threads)
    silence()
    clock = clock_of(arguments)
    counts, rounds = ((1, 8), 3) if arguments.quick else (tuple(k for k in COUNTS if k <= arguments.most), arguments.rounds)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)) / scene.full.family
        if not (folder / "base" / "model_index.json").is_file():
            save_base(scene.full, folder / "base")
        paths = [
            save_network(scene.full, folder / f"n{seed}.safetensors", rank=RANK, seed=seed, components=("unet",))
            for seed in range(max(*counts, 4))
        ]
        pipeline = open_base(scene.full, folder / "base", scene.device)
        sections, missed, seconds = by_count(scene, pipeline, paths, rounds, counts, clock)
        for more, also in (strengths(scene, twin(pipeline), paths, counts, clock), by_picture(scene, pipeline, paths, rounds, clock)):
            sections += more
            missed += also
    parts = [
        f"# Steps with networks beside them: {scene.title}",
        f"{rounds} interleaved rounds, {arguments.clock} time; networks of rank {RANK} on the UNet's attention layers. "
        f"{machine(scene.device)}.",
        *sections,
    ]
    if missed:
        parts += ["## Missed", "\n".join(f"- {text}" for text in missed)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not arguments.quick:
        write_result("steps" if scene.full.family == "sd1" else f"steps_{scene.full.family}", text, scene.device)
    if not arguments.quick and arguments.threads == 1 and scene.device == "cpu":
        plot(scene, seconds, counts, PICTURE)
    if arguments.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
