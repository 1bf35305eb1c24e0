"""Which picture stands where in a run: a function of the step alone, so that a run may stop anywhere.

An epoch takes every picture as often as its folder says. Pictures of one shape make an endless stream of shuffled passes, from which
batches are cut: every batch is full and of one shape. A shape's batches come as often as its pictures ask for; what does not fill a
batch in one epoch waits for the next. Regularisation pictures are strewn evenly among the others of their shape, in all as many of
them as of the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

from loraloom.lazy import torch
from loraloom.train.chance import Sample, generator

Entry = tuple[int, int]  # picture, and which of its repeats


@dataclass(frozen=True)
class Stream:
    """One pass after the other over the same entries, each in an order of its own."""

    entries: tuple[Entry, ...]
    names: tuple[str, ...]  # of the passes' generators

    def at(self, place: int, seed: int) -> tuple[int, int, int]:
        """(picture, pass, repeat)."""
        number, position = divmod(place, len(self.entries))
        picture, repeat = self.entries[_shuffled(seed, self.names, number, len(self.entries))[position]]
        return picture, number, repeat


@dataclass(frozen=True)
class Group:
    """All pictures of one shape."""

    own: Stream
    regular: Stream
    own_rate: Fraction  # places in an epoch
    regular_rate: Fraction

    @property
    def rate(self) -> Fraction:
        return self.own_rate + self.regular_rate

    def at(self, place: int, seed: int) -> tuple[int, int, int]:
        """(picture, pass, repeat) at a place of the two streams strewn into one another."""
        share = self.own_rate / self.rate
        before = place * share.numerator // share.denominator
        if (place + 1) * share.numerator // share.denominator > before:
            return self.own.at(before, seed)
        return self.regular.at(place - before, seed)

    def batches(self, epochs: int, size: int) -> int:
        """How many batches are full after so many epochs."""
        return int(epochs * self.rate / size)


@dataclass(frozen=True)
class Order:
    """The order of a run. Pictures are known by their index."""

    seed: int
    names: tuple[str, ...]  # of the pictures
    repeats: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...] = ()  # width and height of each; empty: all are alike
    regular: frozenset[int] = frozenset()

    @property
    def epoch_length(self) -> int:
        """Pictures in an epoch, regularisation pictures included."""
        return self._own * (2 if self.regular else 1)

    @cached_property
    def _own(self) -> int:
        return sum(times for picture, times in enumerate(self.repeats) if picture not in self.regular)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """One for each shape, in the order of shapes."""
        shapes = self.shapes or ((0, 0),) * len(self.names)
        return tuple(self._group(shape, shapes) for shape in sorted(set(shapes)))

    def _group(self, shape: tuple[int, int], shapes: Sequence[tuple[int, int]]) -> Group:
        name = (f"{shape[0]}x{shape[1]}",) if len(set(shapes)) > 1 else ()
        kinds: tuple[list[Entry], list[Entry]] = ([], [])
        for picture, times in enumerate(self.repeats):
            if shapes[picture] == shape:
                kinds[picture in self.regular].extend((picture, repeat) for repeat in range(times))
        all_regular = sum(self.repeats) - self._own
        own, regular = Stream(tuple(kinds[0]), ("order", *name)), Stream(tuple(kinds[1]), ("order of regularisation", *name))
        return Group(own, regular, Fraction(len(kinds[0])), Fraction(len(kinds[1]) * self._own, all_regular or 1))

    def samples(self, step: int, batch: int, passes: int = 1) -> tuple[Sample, ...]:
        """The samples of `step`, counted from 1: `passes` batches one after the other."""
        first = (step - 1) * passes
        return tuple(sample for number in range(first, first + passes) for sample in self._batch(step, number, batch))

    def _batch(self, step: int, number: int, size: int) -> Iterator[Sample]:
        group, index = self._place(number, size)
        for place in range(index * size, (index + 1) * size):
            picture, epoch, repeat = group.at(place, self.seed)
            yield Sample(self.seed, step, picture, f"{self.names[picture]}#{epoch}.{repeat}")

    def _place(self, number: int, size: int) -> tuple[Group, int]:
        """Of the run's batch `number`: its group, and which of the group's batches it is."""
        if len(self.groups) == 1:
            return self.groups[0], number
        epoch = int(number * size / sum(group.rate for group in self.groups))
        while self._until(epoch, size) > number:
            epoch -= 1
        while self._until(epoch + 1, size) <= number:
            epoch += 1
        before = [group.batches(epoch, size) for group in self.groups]
        counts = tuple(group.batches(epoch + 1, size) - done for group, done in zip(self.groups, before, strict=True))
        which, earlier = _mixed(self.seed, epoch, counts)[number - sum(before)]
        return self.groups[which], before[which] + earlier

    def _until(self, epochs: int, size: int) -> int:
        return sum(group.batches(epochs, size) for group in self.groups)


@lru_cache(maxsize=64)
def _shuffled(seed: int, names: tuple[str, ...], number: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=generator(seed, *names, number)).tolist())


@lru_cache(maxsize=4)
def _mixed(seed: int, epoch: int, counts: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(group, how many batches of it came before in this epoch), shuffled: each group so often."""
    groups = [group for group, count in enumerate(counts) for _ in range(count)]
    seen = [0] * len(counts)
    found = []
    for index in torch.randperm(len(groups), generator=generator(seed, "order of shapes", epoch)).tolist():
        group = groups[index]
        found.append((group, seen[group]))
        seen[group] += 1
    return tuple(found)
