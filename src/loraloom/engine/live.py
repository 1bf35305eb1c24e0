"""A base's modules in a live pipeline: which family it is, where each target stands, and who is using it."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from loraloom.adapters import Adapter
from loraloom.bases import BASES, Base, Target
from loraloom.errors import BaseLost, EngineError, NotSupported
from loraloom.lazy import torch
from loraloom.undo import Undo

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Hook = Callable[["Module", tuple[Any, ...], dict[str, Any]], Any]
_DENOISERS = ("unet", "transformer")
_LIKENESS = 0.95  # of the denoiser's named shapes; an inpainting UNet differs from its family in conv_in only
_MARK, _LOST = "_loraloom_attached", "_loraloom_lost"
_FLOATS = ("float64", "float32", "float16", "bfloat16")


def called(pipeline: Any) -> "Mapping[str, Module]":
    """The pipeline's denoiser and text encoders by name, as the pipeline calls them: what `torch.compile` returned, where it was used."""
    names = (*_DENOISERS, "text_encoder", "text_encoder_2", "text_encoder_3")
    return {name: module for name in names if isinstance(module := getattr(pipeline, name, None), torch.nn.Module)}


def components(pipeline: Any) -> "Mapping[str, Module]":
    """The pipeline's denoiser and text encoders by name, as they were before they were compiled."""
    return {name: getattr(module, "_orig_mod", module) for name, module in called(pipeline).items()}


def before_calls(part: "Module", hook: "Hook", undo: Undo) -> None:
    """`hook` (module, arguments, keyword arguments) before every call of `part`.

    Of a module that was compiled in place Dynamo would trace the hook or not see it, so its compiled call is wrapped instead.
    """
    compiled = part._compiled_call_impl
    if compiled is None:
        undo.before(partial(_unhook, part, hook))
        part.register_forward_pre_hook(hook, with_kwargs=True)
        return

    def call(*arguments: Any, **options: Any) -> Any:
        arguments, options = hook(part, arguments, options) or (arguments, options)
        return compiled(*arguments, **options)

    undo.keep(part, "_compiled_call_impl")
    part._compiled_call_impl = call


def after_calls(layer: "Module", hook: Callable[..., Any], undo: Undo) -> None:
    """`hook` (module, arguments, output) after every call of `layer`."""
    undo.before(partial(_unhook, layer, hook))
    layer.register_forward_hook(hook)


def _unhook(module: "Module", hook: Callable[..., Any]) -> None:
    """By the hook itself: the handle that torch returns is not known yet where an exception comes between the two."""
    for hooks, options in (
        (module._forward_hooks, module._forward_hooks_with_kwargs),
        (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
    ):
        for key in [key for key, known in hooks.items() if known is hook]:
            options.pop(key, None)
            del hooks[key]


def walk(component: "Module") -> "dict[str, Module]":
    """`dict(component.named_modules())` in a third of the time: no generator for each level above a module."""
    found: dict[str, Module] = {}
    known: set[int] = set()
    waiting = [("", component)]
    while waiting:
        path, module = waiting.pop()
        if id(module) in known:
            continue
        known.add(id(module))
        found[path] = module
        prefix = f"{path}." if path else ""
        waiting += [(prefix + name, child) for name, child in reversed(module._modules.items()) if child is not None]
    return found


def weight_of(module: "Module") -> "Tensor":
    """The weight of a Linear or Conv2d, for the type checker too."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight


def recognise(pipeline: Any) -> Base:
    """The family whose names and shapes the pipeline's denoiser has; raises NotSupported, saying what was found."""
    found = components(pipeline)
    denoiser = next((found[name] for name in _DENOISERS if name in found), None)
    if denoiser is not None:
        shapes = {name: tuple(parameter.shape) for name, parameter in denoiser.named_parameters()}
        for base in BASES:
            layers = [layer for layer in base.layers if layer.target.component in _DENOISERS]
            like = sum(shapes.get(f"{layer.target.module}.weight") == layer.shape for layer in layers)
            if like >= _LIKENESS * len(layers):
                return base
    kind = type(denoiser).__name__ if denoiser is not None else "no unet or transformer"
    known = ", ".join(base.title for base in BASES)
    raise NotSupported(f"{type(pipeline).__name__} with {kind}: not a base that the native engine knows; known are {known}")


def walked(pipeline: Any) -> "dict[str, dict[str, Module]]":
    """The modules of each component by their paths: what several questions of one attach are answered from."""
    return {component: walk(root) for component, root in components(pipeline).items()}


def live_modules(pipeline: Any, base: Base, named: "Mapping[str, Mapping[str, Module]] | None" = None) -> "dict[Target, Module]":
    """The module of each target; `named` is `walked`, where that is known. transformers 5 dropped `text_model.` from CLIPTextModel's
    names; files and targets keep it.

    Raises NotSupported for PEFT layers and fused projections, which rename what adapters attach to, naming what to undo.
    """
    named = walked(pipeline) if named is None else named
    _refuse_foreign_layers(named)
    found: dict[Target, Module] = {}
    for target in base.by_target:
        modules = named.get(target.component, {})
        module = modules.get(target.module) or modules.get(target.module.removeprefix("text_model."))
        if module is not None:
            found[target] = module
    return found


def misfit(base: Base, target: Target, adapter: Adapter, module: "Module | None") -> str | None:
    """Why this adapter cannot run on this live module, or None. Raises NotSupported for a module in a state that is refused."""
    if module is None:
        return "this pipeline has no such module"
    weight = weight_of(module)
    if weight.is_meta:
        raise weightless(str(target))
    if str(weight.dtype).removeprefix("torch.") not in _FLOATS:
        raise NotSupported(f"{target} is stored as {weight.dtype}; quantised layers take no networks yet")
    if getattr(module, "groups", 1) != 1:
        return f"a convolution of {module.groups} groups takes no adapter"
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
    if not hasattr(module, "bias") and {"diff_b", "b_norm"} & shapes.keys():
        return f"{type(module).__name__} has no place for a bias"
    return adapter.refusal(base.by_target[target].kind, shapes) or adapter.misfit(shapes, tuple(weight.shape))


def refuse_foreign_layers(pipeline: Any) -> None:
    """PEFT layers and fused projections rename what adapters attach to; raises NotSupported, naming what to undo."""
    _refuse_foreign_layers(walked(pipeline))


def _refuse_foreign_layers(named: "Mapping[str, Mapping[str, Module]]") -> None:
    for name, modules in named.items():
        for path, module in modules.items():
            if "base_layer" in module._modules:
                wrapped = "base_model" in modules[""]._modules  # what `peft.get_peft_model` returned
                way = f"set pipeline.{name} = pipeline.{name}.unload()" if wrapped else "call pipeline.unload_lora_weights()"
                raise NotSupported(f"{name}.{path} carries a PEFT adapter; {way} first")
            if _fused(module):
                raise NotSupported(f"{name}.{path} has fused projections; call pipeline.{name}.unfuse_qkv_projections() first")


def _fused(module: "Module") -> bool:
    """Whether the layers that adapters change are passed over. diffusers' newer attention classes say it by a flag that they declare;
    of `Attention` the flag stays after unfusing, and the processor decides (diffusers 0.42)."""
    if hasattr(type(module), "fused_projections"):
        return bool(module.fused_projections)
    return "Fused" in type(getattr(module, "processor", None)).__name__


def claim(parts: "Iterable[Module]", undo: Undo) -> None:
    """Each part marked as in use; raises EngineError if one is already, by this pipeline or another that shares it."""
    own, claimed = object(), list(parts)
    refuse_lost(claimed)
    undo.before(partial(_release, claimed, own))
    for part in claimed:
        if part.__dict__.setdefault(_MARK, own) is not own:  # one step, so that of two threads only one gets it
            raise EngineError("networks are attached to this pipeline, or to one that shares its modules; leave that `attached` first")


def refuse_lost(parts: "Iterable[Module]") -> None:
    """Raises BaseLost for a part of which weights were lost."""
    for part in parts:
        if _LOST in part.__dict__:
            raise BaseLost(part.__dict__[_LOST])


def mark_lost(part: "Module", error: BaseLost) -> None:
    """Nothing is drawn with this part any more."""
    part.__dict__[_LOST] = str(error)


def _release(parts: "Iterable[Module]", own: object) -> None:
    for part in parts:
        if part.__dict__.get(_MARK) is own:
            del part.__dict__[_MARK]


def weightless(where: str) -> NotSupported:
    return NotSupported(
        f"{where} has no weights (meta device); load them, or end sequential offload by pipeline.remove_all_hooks(), before attaching"
    )


def cast_inside(before: "torch.dtype", now: "torch.dtype") -> EngineError:
    return EngineError(
        f"the model was cast from {before} to {now} while networks were attached; leave `attached` before casting. Outside of it "
        "the model is as if it had been cast without them"
    )
