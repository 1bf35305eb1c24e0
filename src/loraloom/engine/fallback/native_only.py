"""What only the native engine runs, refused by name on a base whose LoRAs go through diffusers."""

from collections.abc import Sequence

from loraloom.engine.mixture import Mixture
from loraloom.engine.plan import Wish
from loraloom.errors import NotSupported
from loraloom.lorafile import Mix
from loraloom.strength import Strength


def refuse_native_only(mixture: Mixture, mixes: Mix | Sequence[Mix], mode: Wish, reason: str) -> None:
    """Raises NotSupported with what to do instead. `reason` is why the base runs through diffusers."""
    why = f"this base runs LoRAs through diffusers ({reason}), which"
    if mode == "merge":
        raise NotSupported(f'{why} computes them beside the layers; use mode="auto"')
    if any(mix.negative for mix in ([mixes] if isinstance(mixes, Mix) else mixes)):
        raise NotSupported(f"{why} has one set of strengths for both halves of guidance; leave LoRA tags out of the negative prompt")
    if not mixture.one:
        raise NotSupported(f"{why} has one mix for all pictures of a batch; draw them one by one")
    for network, strength in mixture.columns[0].items():
        name = network.file.name
        if _by_block(strength):
            raise NotSupported(f"{name}: {why} has one strength for the whole denoiser; use unet= instead of in=, mid=, out= and lbw=")
        if network.dyn is not None:
            raise NotSupported(f"{name}: {why} runs all ranks of a file; leave dyn= out")
        if network.file.path is None:
            raise NotSupported(f"{name}: {why} reads files; write this network with loraloom.write and read it back")


def _by_block(strength: Strength) -> bool:
    return any(part.in_ or part.mid or part.out or part.lbw is not None for part in (strength, *strength.also))
