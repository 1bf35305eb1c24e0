"""One exception from outside at every place of attach and detach: the base is what it was, each time, and the next attach draws equally.

`python tests/stress/interrupts.py [SCENE ...] [--all] [--signals N]`. A place is a moment at which Python could raise KeyboardInterrupt:
the call, each line and the return of the functions that attach and detach run. Each place gets one; the exception and its traceback
are kept while the base is looked at, as notebooks keep them. `--signals` sends that many real SIGINTs at random moments, and as many
exceptions into another thread.
"""

import argparse
import contextlib
import ctypes
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import diffusers
import peft
import torch

sys.path += [str(Path(__file__).parent.parent / folder) for folder in ("contract", "engine", "stress")]

from running import mix
from support import network

import loraloom
from loraloom import dialects
from loraloom.bases import NANO
from loraloom.bases.nano.model import load
from loraloom.engine import Engine, Fallback
from loraloom.generate.draw import Shot, Style, draw
from loraloom.lorafile import LoraFile
from loraloom.undo import Undo, changing

OWN = str(Path(loraloom.__file__).parent)
MODULES = torch.nn.modules.module.__file__
LOADERS = (str(Path(peft.__file__).parent), str(Path(diffusers.__file__).parent / "loaders"), diffusers.utils.peft_utils.__file__)
PLACES = (OWN, __file__, contextlib.__file__, torch.utils.hooks.__file__, MODULES, *LOADERS)
SMALL = network(NANO, lambda layer: layer.target.module.endswith(("attn1.to_q", "conv_in", "q_proj")), bias=True, share=0.5, seed=3)


@dataclass(frozen=True)
class Scene:
    """What is interrupted: `use` begins it on `pipeline` and ends it, `draw` is what it changes."""

    pipeline: Any
    use: Callable[[], AbstractContextManager[Any]]
    body: Callable[[], object] = lambda: None


def scenes(folder: Path) -> "dict[str, Callable[[], Scene]]":
    """By name; made when they are asked for."""
    words = LoraFile({}, {}, "nano", embeddings={"zyx": {"text_encoder": torch.randn(2, 24)}})

    def native(stack: Any, *, mode: str = "auto", steps: int = 1, opened: Any = None, room: int = 0, drawn: bool = False) -> Scene:
        pipeline = opened or load()
        engine = Engine(pipeline)
        if room:
            engine.prepare(rank=room)

        def body() -> object:
            return list(draw(pipeline, [Shot("a cat", 1)], Style(1, 2.5))) if drawn else None

        return Scene(pipeline, lambda: engine.attached(stack, mode=mode, steps=steps), body)

    def mapped() -> Any:
        load().save_pretrained(folder / "base")
        import diffusers

        return diffusers.StableDiffusionPipeline.from_pretrained(folder / "base")

    def preparing() -> Scene:
        pipeline = load()

        def prepare(undo: Undo) -> None:  # what calls `release` must not be interrupted itself: a `finally` of the user's can be
            engine = Engine(pipeline)
            undo.before(engine.release)
            engine.prepare(rank=2)

        def use() -> AbstractContextManager[None]:
            return changing(prepare)

        return Scene(pipeline, use)

    def fallback() -> Scene:
        pipeline = load()
        runner = Fallback(pipeline)
        plain = network(NANO, lambda layer: layer.attention, share=0.1, seed=3)
        file = runner.read(dialects.write(plain, folder / "plain.safetensors"))
        return Scene(pipeline, lambda: runner.attached(mix((file, "te=0.5:unet=0~1")), steps=2))

    return {
        "merge": lambda: native(mix((SMALL, 0.7)), mode="merge"),
        "merge, base in a file": lambda: native(mix((SMALL, 0.7)), mode="merge", opened=mapped()),
        "branch": lambda: native(mix((SMALL, 0.7)), mode="branch"),
        "mixed": lambda: native(mix((SMALL, "te=0.5:unet=0~1")), steps=4000),
        "moving text": lambda: native(mix((SMALL, "te=0.1@1,0.6@2:unet=0~1"), negative=[(SMALL, 0.2)]), steps=2),
        "words": lambda: native(mix((words, 1), (SMALL, 0.5))),
        "prepared": lambda: native(mix((network(NANO, lambda layer: layer.attention, share=0.1), 0.5)), room=4),
        "preparing": preparing,
        "drawing": lambda: native(mix((SMALL, "te=0.1@1,0.6@2:unet=0~1")), steps=1, drawn=True),
        "through diffusers": fallback,
    }


Line = tuple[str, int, str]  # function, line, event


class Interrupt:
    """A trace function that raises at place number `at`, from 0, or only notes the places."""

    def __init__(self, at: int | None = None) -> None:
        self.places: list[Line] = []
        self._at = at

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(PLACES) or (code.co_filename == MODULES and not code.co_name.startswith("register_")):
            return None
        self._visit(frame, event)
        return self._inside

    def _inside(self, frame: FrameType, event: str, _: Any) -> Any:
        if event in ("line", "return"):
            self._visit(frame, event)
        return self._inside

    def _visit(self, frame: FrameType, event: str) -> None:
        self.places.append((f"{Path(frame.f_code.co_filename).name} {frame.f_code.co_qualname}", frame.f_lineno, event))
        if len(self.places) - 1 == self._at:
            raise KeyboardInterrupt

    def over(self, scene: Scene) -> None:
        """One use of the scene."""
        sys.settrace(self)
        try:
            used(scene)
        finally:
            sys.settrace(None)


def used(scene: Scene) -> None:
    with scene.use():
        scene.body()


def interrupted(scene: Scene, at: int) -> BaseException | None:
    """The exception with its traceback; None where Python itself dropped it."""
    try:
        Interrupt(at).over(scene)
    except KeyboardInterrupt as error:
        _forget_tracing(error)
        return error
    return None


def _forget_tracing(error: BaseException) -> None:
    """The trace function's own frames leave the traceback: they hold the frame that was interrupted, which an interrupt does not."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_next is not None and trace.tb_next.tb_frame.f_code in (Interrupt.__call__.__code__, Interrupt._inside.__code__):
            trace.tb_next = None
        trace = trace.tb_next


def places(scene: Scene) -> list[Line]:
    """Every place of one use."""
    counter = Interrupt()
    counter.over(scene)
    return counter.places


def each_line(found: Sequence[Line]) -> list[int]:
    """Of each line the first visit and the last: most visits are the turns of loops."""
    visits: dict[Line, list[int]] = {}
    for at, line in enumerate(found):
        visits.setdefault(line, []).append(at)
    return sorted({at for turns in visits.values() for at in (turns[0], turns[-1])})


class State:
    """Everything of a pipeline that an attach may change, bit for bit and object for object."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.tensors = {name: tensor.clone() for name, tensor in _tensors(pipeline)}
        self.rest = _rest(pipeline)

    def differences(self) -> list[str]:
        found = [name for name, tensor in _tensors(self._pipeline) if name not in self.tensors or not _same(tensor, self.tensors[name])]
        rest = _rest(self._pipeline)
        return found + [key for key in rest.keys() | self.rest.keys() if rest.get(key) != self.rest.get(key)]


def _tensors(pipeline: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            for path, tensor in part.state_dict(keep_vars=True).items():
                yield f"{name}.{path}", tensor.detach()


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def _rest(pipeline: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"pipeline": _owned(pipeline), "scheduler": _owned(pipeline.scheduler)}
    found["handlers"] = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            for path, module in part.named_modules():
                hooks = (
                    module._forward_hooks,
                    module._forward_pre_hooks,
                    module._forward_hooks_with_kwargs,
                    module._forward_pre_hooks_with_kwargs,
                )
                grads = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
                found[f"{name}.{path}"] = (id(module), sorted(vars(module)), module.training, grads, [list(each.items()) for each in hooks])
    return found


def _owned(owner: Any) -> dict[str, int]:
    """By identity, but for what every step of a sampler makes anew."""
    return (
        {key: id(value) for key, value in vars(owner).items() if not key.startswith("_internal")}
        if owner.__class__.__name__.endswith("Pipeline")
        else dict.fromkeys(vars(owner), 0)
    )


def output(scene: Scene) -> torch.Tensor:
    """The UNet's output on the text encoder's, with the scene in use."""
    generator = torch.Generator().manual_seed(1)
    with scene.use(), torch.no_grad():
        text = scene.pipeline.text_encoder(torch.arange(32)[None]).last_hidden_state
        pipeline = scene.pipeline
        options = {"num_inference_steps": 1, "guidance_scale": 2.5, "output_type": "latent", "generator": generator}
        assert text.isfinite().all()
        return pipeline("a zyx cat", **options).images


class Result:
    def __init__(self) -> None:
        self.places = 0
        self.bad: list[str] = []


def visited(scene: Scene, chosen: Callable[[Sequence[Line]], Iterable[int]]) -> Result:
    """One interrupt at each of the `chosen` places."""
    scene.pipeline.set_progress_bar_config(disable=True)
    expected = output(scene)
    result, before = Result(), State(scene.pipeline)
    found = places(scene)
    for at in chosen(found):
        result.places += 1
        kept = interrupted(scene, at)
        if problem := _problem(scene, before, expected):
            result.bad.append(f"{found[at]}: {problem}")
        del kept
    return result


def _problem(scene: Scene, before: State, expected: torch.Tensor) -> str | None:
    if changed := before.differences():
        return f"changed: {', '.join(changed[:3])}"
    try:
        found = output(scene)
    except loraloom.LoraError as error:
        return f"the next attach is refused: {error}"
    return None if torch.equal(found, expected) else "the next attach draws something else"


def struck(scene: Scene, count: int, strike: Callable[[Callable[[], None], float], None], seed: int = 0) -> Result:
    """`count` exceptions at random moments of a loop that attaches and detaches."""
    scene.pipeline.set_progress_bar_config(disable=True)
    expected, result = output(scene), Result()
    before, dice = State(scene.pipeline), random.Random(seed)
    started = time.perf_counter()
    used(scene)
    span = time.perf_counter() - started
    for _ in range(count):
        result.places += 1
        strike(lambda: used(scene), dice.uniform(0, 1.5 * span))
        if problem := _problem(scene, before, expected):
            result.bad.append(problem)
    return result


def by_signal(work: Callable[[], None], delay: float) -> None:
    """SIGINT while `work` runs over and over; returns when it has ended with KeyboardInterrupt."""
    timer = threading.Timer(delay, signal.raise_signal, (signal.SIGINT,))
    try:
        timer.start()
        while True:
            work()
    except KeyboardInterrupt:
        timer.join()


def by_sending(work: Callable[[], None], delay: float) -> None:
    """KeyboardInterrupt sent into another thread, where no signal is handled, while `work` runs there over and over."""
    ended = threading.Event()

    def run() -> None:
        try:
            while not ended.is_set():
                work()
        except KeyboardInterrupt:
            pass

    thread = threading.Thread(target=run)
    thread.start()
    ended.wait(delay)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt))
    ended.set()
    thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*")
    parser.add_argument("--all", action="store_true", help="every turn of every loop, not the first and the last of each line")
    parser.add_argument("--signals", type=int, default=0, help="real SIGINTs for each scene, and exceptions sent into a thread")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a program that is started in the background may ignore it
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, make in scenes(Path(folder)).items():
            if given.scenes and name not in given.scenes:
                continue
            found = [visited(make(), (lambda lines: range(len(lines))) if given.all else each_line)]
            found += [struck(make(), given.signals, strike) for strike in (by_signal, by_sending) if given.signals]
            bad += sum(len(result.bad) for result in found)
            print(name, "; ".join(f"{len(result.bad)} bad of {result.places}" for result in found), flush=True)
            for line in [line for result in found for line in result.bad][:20]:
                print("   ", line)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
