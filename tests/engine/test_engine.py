"""Laws of the engine on nano: exact, complete, gone afterwards, and nothing ignored in silence."""

import copy
import re
from types import SimpleNamespace

import pytest
import torch
from support import close, everything, fingerprint, hooks, network, random_lora
from torch import nn
from torch.nn.utils import prune

from loraloom.bases import NANO, SD1, TINY, Target
from loraloom.engine import Engine
from loraloom.engine.mixture import Mixture
from loraloom.errors import EngineError, NothingApplied, NotSupported, SettingsError, WrongBase
from loraloom.lorafile import LoraFile, Mix
from loraloom.schedule import Position, Schedule
from loraloom.strength import LBW_PRESETS, MODULES, Strength

MODES = pytest.mark.parametrize("mode", ["merge", "branch"])
of = Strength.of


def mix(*stack) -> Mix:
    return Mix(tuple((file, of(strength) if isinstance(strength, (int, float)) else strength) for file, strength in stack))


def outputs(pipeline, rows: int = 2) -> torch.Tensor:
    """The UNet's output on the text encoder's: what both change."""
    generator = torch.Generator().manual_seed(1)
    latents, ids = torch.randn(rows, 4, 8, 8, generator=generator), torch.arange(32 * rows).reshape(rows, 32) % 500
    with torch.no_grad():
        text = pipeline.text_encoder(ids).last_hidden_state
        return pipeline.unet(latents.to(text.dtype), 500, text).sample


def by_hand(pipeline, *parts) -> torch.Tensor:
    """The outputs of a copy whose weights were changed one by one: (target, adapter, strength)."""
    changed = copy.deepcopy(pipeline)
    with torch.no_grad():
        for target, adapter, strength in parts:
            modules = dict(getattr(changed, target.component).named_modules())
            layer = modules.get(target.module) or modules[target.module.removeprefix("text_model.")]
            layer.weight += strength * adapter.delta(layer.weight)
            shift = adapter.bias_delta(torch.zeros(len(layer.weight)))
            if shift is not None:
                layer.bias = nn.Parameter((0 if layer.bias is None else layer.bias) + strength * shift)
    return outputs(changed)


def all_of(*stack):
    return [(target, adapter, strength) for file, strength in stack for target, adapter in file.adapters.items()]


ONE, TWO, THREE = network(NANO, everything), network(NANO, seed=100, rank=2), network(NANO, everything, share=0.5, seed=200, rank=6)
BIASED, TUCKER = network(NANO, everything, bias=True, seed=300), network(NANO, everything, tucker=True, seed=400)
STACKS = {
    "one": [(ONE, 0.7)],
    "negative": [(ONE, -0.4)],
    "bias, also where a layer has none": [(BIASED, 0.6)],
    "tucker": [(TUCKER, 0.8)],
    "three": [(ONE, 0.5), (TWO, -0.3), (BIASED, 0.2)],
    "nine": [(network(NANO, seed=500 + n, rank=1 + n), 0.1 * (n + 1)) for n in range(9)],
    "the same twice": [(ONE, 0.3), (ONE, 0.4)],
    "rank above width": [(network(NANO, everything, rank=40), 0.2)],
}


@MODES
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
def test_the_output_is_that_of_weights_changed_by_hand(pipeline, stack, mode):
    before = outputs(pipeline)
    expected = by_hand(pipeline, *all_of(*stack))
    assert not close(before, expected, 1e-2)
    with Engine(pipeline).attached(mix(*stack), mode=mode) as report:
        assert close(outputs(pipeline), expected, 1e-5)
        assert close(outputs(pipeline, rows=1), expected[:1], 1e-4)
        assert report.mode == mode
        assert report.nbytes > 0
    assert torch.equal(outputs(pipeline), before)


@MODES
def test_order_does_not_matter(pipeline, mode):
    stack = STACKS["three"]
    found = []
    for order in (stack, stack[::-1], stack[1:] + stack[:1]):
        with Engine(pipeline).attached(mix(*order), mode=mode):
            found.append(outputs(pipeline))
    assert close(found[0], found[1])
    assert close(found[0], found[2])


@MODES
def test_strength_0_is_the_base_to_the_bit(pipeline, mode):
    before, prints = outputs(pipeline), fingerprint(pipeline)
    with Engine(pipeline).attached(mix((ONE, 0), (BIASED, 0.0), (TUCKER, -0.0)), mode=mode) as report:
        assert torch.equal(outputs(pipeline), before)
        assert fingerprint(pipeline) == prints
        assert all(network.off and network.summary == "off" for network in report.networks)
    with Engine(pipeline).attached(Mix(), mode=mode):
        assert torch.equal(outputs(pipeline), before)


@MODES
def test_parameters_stay_the_same_objects_in_the_same_places(pipeline, mode):
    before = {name: (id(parameter), parameter.data_ptr()) for name, parameter in pipeline.unet.named_parameters()}
    with Engine(pipeline).attached(mix((ONE, 1)), mode=mode):
        assert {name: (id(parameter), parameter.data_ptr()) for name, parameter in pipeline.unet.named_parameters()} == before
    assert {name: (id(parameter), parameter.data_ptr()) for name, parameter in pipeline.unet.named_parameters()} == before


# Strength: each field is either followed or refused.

LAYERS = NANO.by_target


def third(target: Target) -> str | None:
    return LAYERS[target].third


FOLLOWED = {
    "default": (of(0.6), lambda _: 0.6),
    "te": (Strength(te=Schedule.of(0.2)), lambda target: 0.2 if target.component == "text_encoder" else 1),
    "te1": (Strength(te=Schedule.of(3), te1=Schedule.of(0.2)), lambda target: 0.2 if target.component == "text_encoder" else 1),
    "te2": (Strength(te2=Schedule.of(0.2)), lambda _: 1),  # there is no second text encoder
    "te3": (Strength(te3=Schedule.of(0.2)), lambda _: 1),
    "unet": (Strength(unet=Schedule.of(0.2)), lambda target: 0.2 if target.component == "unet" else 1),
    "in_": (Strength(in_=Schedule.of(0.2)), lambda target: 0.2 if third(target) == "in" else 1),
    "mid": (Strength(mid=Schedule.of(0.2)), lambda target: 0.2 if third(target) == "mid" else 1),
    "out": (Strength(out=Schedule.of(0.2), unet=Schedule.of(0)), lambda target: {"out": 0.2, None: 1}.get(third(target), 0)),
    "module te": (Strength(module="te"), lambda target: target.component == "text_encoder"),
    "module unet": (Strength(module="unet"), lambda target: target.component == "unet"),
    "also": (of(0.5) + Strength(mid=Schedule.of(2)), lambda target: 2.5 if third(target) == "mid" else 1.5),
    "dyn of more ranks than there are": (Strength(dyn=99), lambda _: 1),
    "start and stop that leave nothing out": (Strength(start=Position(1, "step"), stop=Position(1, "fraction")), lambda _: 1),
}


@MODES
@pytest.mark.parametrize("field", FOLLOWED)
def test_a_strength_touches_what_it_says_and_nothing_else(pipeline, field, mode):
    strength, expected = FOLLOWED[field]
    wanted = by_hand(pipeline, *((target, adapter, float(expected(target))) for target, adapter in ONE.adapters.items()))
    with Engine(pipeline).attached(mix((ONE, strength)), mode=mode) as report:
        assert close(outputs(pipeline), wanted)
    applied = sum(bool(expected(target)) for target in ONE.adapters)
    assert sum(report.networks[0].applied.values()) == report.modules == applied
    assert sum(report.networks[0].silent.values()) == len(ONE.adapters) - applied


REFUSED = {
    f"lbw {count}": (Strength(lbw=(1.0,) * count), f"is for a base of {blocks} blocks, loraloom nano 1 has 9")
    for count, blocks in ((12, 19), (17, 25), (20, 19), (26, 25))
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_a_strength_asks_for_and_cannot_have_is_refused_by_name(pipeline, field):
    strength, words = REFUSED[field]
    before = fingerprint(pipeline)
    with pytest.raises(NotSupported, match=words), Engine(pipeline).attached(mix((TWO, 1), (ONE, strength))):
        pass
    assert fingerprint(pipeline) == before


def test_every_field_of_strength_is_followed_or_refused():
    fields = set(Strength.__dataclass_fields__)
    tested = {name for name in fields for case in (*FOLLOWED, *REFUSED) if case.split()[0] == name or name in case.split()}
    assert tested == fields
    assert {case.split()[1] for case in FOLLOWED if case.startswith("module")} | {"te1", "te2", "te3", "high", "low"} == set(MODULES)


def test_block_weights_work_where_the_base_has_the_blocks():
    """lbw on SD 1.x: 25 blocks. Strength.at does the arithmetic; the engine only asks whether the blocks are there."""
    strength = Strength(lbw=LBW_PRESETS["OUTALL"])
    Mixture(Mix(((LoraFile({}), strength),)), SD1)
    attention = [layer for layer in SD1.layers if layer.attention]
    values = {
        third: {strength.at(layer.place, 1, 1) for layer in attention if layer.third == third} for third in ("in", "mid", "out", None)
    }
    assert values == {"in": {0.0}, "mid": {0.0}, "out": {1.0}, None: {1.0}}
    with pytest.raises(SettingsError):
        Strength(lbw=(1.0,) * 9)


@MODES
def test_dyn_leaves_the_first_ranks_with_the_scale_of_the_whole(pipeline, mode):
    """The file's own alpha/r is kept, as for DyLoRA."""
    for file in (ONE, BIASED, TUCKER):
        cut = {target: adapter.cut(2) for target, adapter in file.adapters.items()}
        assert {adapter.rank for adapter in cut.values()} == {2}
        expected = by_hand(pipeline, *((target, adapter, 0.7) for target, adapter in cut.items()))
        with Engine(pipeline).attached(mix((file, Strength(Schedule.of(0.7), dyn=2))), mode=mode):
            assert close(outputs(pipeline), expected)
    whole = by_hand(pipeline, *all_of((ONE, 0.7)))
    with Engine(pipeline).attached(mix((ONE, Strength(Schedule.of(0.7), dyn=400))), mode=mode):
        assert close(outputs(pipeline), whole)


def test_what_cannot_run_is_refused_by_name(pipeline):
    engine, bare = Engine(pipeline), SimpleNamespace(unet=pipeline.unet, text_encoder=pipeline.text_encoder, components={})
    ramp = Strength(Schedule.ramp(0, 1))
    for mixes, words in (
        (mix((ONE, ramp)), "change by step cannot be merged"),
        ([mix((ONE, 1)), mix((ONE, 0.5))], "differ between pictures or halves of guidance cannot be merged"),
        (Mix((), ((ONE, of(1)),)), "differ between pictures or halves of guidance cannot be merged"),
    ):
        with pytest.raises(NotSupported, match=words), engine.attached(mixes, mode="merge"):
            pass
    for mixes, words in (
        (mix((ONE, Strength(te=Schedule.ramp(0, 1)))), "SimpleNamespace has no encode_prompt"),
        ([mix((ONE, 1)), mix((ONE, 0.5))], "SimpleNamespace has no encode_prompt"),
    ):
        with pytest.raises(NotSupported, match=words), Engine(bare).attached(mixes):
            pass
    with pytest.raises(NotSupported, match="no mode 'fast'"), engine.attached(Mix(), mode="fast"):
        pass
    with pytest.raises(SettingsError, match="give both the same dyn"), engine.attached(mix((ONE, Strength(dyn=2)), (ONE, 1))):
        pass
    with pytest.raises(EngineError, match="nothing is attached"):
        engine.step(1)
    with engine.attached([mix((ONE, 1)), mix((ONE, 1))]) as report:
        assert report.modules == len(ONE.adapters)
    with engine.attached([]) as report:
        assert report.modules == 0


# Coverage.


def test_the_report_accounts_for_every_module(pipeline):
    extra = {Target("unet", "nowhere"): random_lora(4, 4), Target("text_encoder_2", "text_projection"): random_lora(4, 4)}
    wrong = {Target("unet", "conv_in"): random_lora(16, 4)}
    biased = {Target("text_encoder", "text_model.embeddings.token_embedding"): random_lora(514, 24, bias=True)}
    norm = {Target("text_encoder", "text_model.final_layer_norm"): random_lora(24, 1)}
    file = LoraFile(TWO.adapters | extra | wrong | biased | norm, {}, "nano", ("k: why",), ("doubt",))
    with Engine(pipeline).attached(mix((file, 1))) as report:
        (found,) = report.networks
    assert sum(found.applied.values()) == len(TWO.adapters)
    assert sum(found.applied.values()) + len(found.unused) - 1 == sum(found.present.values())
    text = str(report)
    for words in (
        "unused k: why",
        "warning: doubt",
        "no such module",
        "the adapter gives [16, 4], the module has [16, 4, 3, 3]",
        "Embedding has no place for a bias",
        "lora does not change a module of the kind norm",
    ):
        assert words in text
    with Engine(pipeline).attached(mix((TWO, Strength(te=Schedule.of(0))))) as report:
        assert report.networks[0].summary == "unet 48/48, text_encoder 0/12 (strength 0)"


def test_coverage_by_block_adds_up_and_stands_in_order_of_execution(pipeline):
    with Engine(pipeline).attached(mix((TWO, Strength(mid=Schedule.of(0))))) as report:
        (found,) = report.networks
    assert sum(coverage.present for coverage in found.blocks.values()) == len(TWO.adapters)
    assert sum(coverage.applied for coverage in found.blocks.values()) == sum(found.applied.values())
    off = {part for part, coverage in found.blocks.items() if not coverage.applied}
    assert off == {part for part in found.blocks if part.startswith("unet mid")} != set()
    numbers = [int(part.split()[-1]) for part in found.blocks if part[-1].isdigit()]
    assert numbers == sorted(numbers)
    assert "unet: in 0 " in report.details or "unet: in 1 " in report.details


def test_a_network_that_fits_nothing_or_another_base_is_an_error(pipeline):
    engine = Engine(pipeline)
    with (
        pytest.raises(NothingApplied, match="no such module"),
        engine.attached(mix((LoraFile({Target("unet", "x"): random_lora(4, 4)}, {}, "nano"), 1))),
    ):
        pass
    with pytest.raises(NothingApplied), engine.attached(mix((LoraFile({}, {}, "nano"), 1))):
        pass
    with pytest.raises(WrongBase, match=r"'tiny'.*loraloom nano 1"), engine.attached(mix((network(TINY, share=0.1), 1))):
        pass


# One at a time.


@MODES
def test_a_second_attach_is_refused_and_harms_nothing(pipeline, mode):
    shared = SimpleNamespace(unet=pipeline.unet, text_encoder=copy.deepcopy(pipeline.text_encoder), components={})
    before = fingerprint(pipeline)
    with Engine(pipeline).attached(mix((ONE, 1)), mode=mode):
        inside = outputs(pipeline)
        for other in (pipeline, shared):
            with pytest.raises(EngineError, match="leave that `attached` first"), Engine(other).attached(mix((TWO, 1))):
                pass
        assert torch.equal(outputs(pipeline), inside)
        assert "_loraloom_attached" not in vars(shared.text_encoder)
    assert fingerprint(pipeline) == before
    with Engine(shared).attached(mix((TWO, 1))):
        pass


def test_a_part_that_was_replaced_is_found_again(pipeline):
    changed = copy.deepcopy(pipeline)
    engine = Engine(changed)
    changed.unet = copy.deepcopy(changed.unet)
    expected = by_hand(changed, *all_of((ONE, 1.0)))
    with engine.attached(mix((ONE, 1))):
        assert close(outputs(changed), expected)


def test_peft_layers_and_fused_projections_are_refused(pipeline):
    from peft import LoraConfig

    changed = copy.deepcopy(pipeline)
    engine = Engine(changed)
    changed.unet.add_adapter(LoraConfig(target_modules=["to_q"]))
    for attempt in (lambda: Engine(changed), lambda: engine.attached(mix((ONE, 1))).__enter__()):
        with pytest.raises(NotSupported, match="carries a PEFT adapter"):
            attempt()
    changed = copy.deepcopy(pipeline)
    engine = Engine(changed)
    changed.unet.fuse_qkv_projections()
    with pytest.raises(NotSupported, match="fused projections"), engine.attached(mix((ONE, 1))):
        pass


def wrapped_by_peft(pipeline):
    from peft import LoraConfig, get_peft_model

    pipeline.unet = get_peft_model(pipeline.unet, LoraConfig(target_modules=["to_q"]))


def offloaded(pipeline):
    from accelerate import cpu_offload

    cpu_offload(pipeline.unet, torch.device("cpu"))


def given_an_adapter(pipeline):
    from peft import LoraConfig

    pipeline.unet.add_adapter(LoraConfig(target_modules=["to_q"]))
    pipeline.text_encoder.add_adapter(LoraConfig(target_modules=["q_proj"]))


STATES = {
    "fused": lambda pipeline: pipeline.fuse_qkv_projections(),
    "fused, the UNet alone": lambda pipeline: pipeline.unet.fuse_qkv_projections(),
    "an adapter": given_an_adapter,
    "wrapped by PEFT": wrapped_by_peft,
    "sequential offload": offloaded,
}


@MODES
@pytest.mark.parametrize("state", STATES)
def test_what_a_refusal_says_to_call_is_enough(pipeline, state, mode):
    changed = copy.deepcopy(pipeline)
    with Engine(changed).attached(mix((ONE, 1)), mode=mode):
        expected = outputs(changed)
    before = fingerprint(changed)
    with torch.no_grad():
        STATES[state](changed)
    with pytest.raises(NotSupported) as refusal, Engine(changed).attached(mix((ONE, 1)), mode=mode):
        pass
    (advice,) = re.findall(r"pipeline\.[\w.]+\(\)|pipeline\.\w+ = pipeline\.\w+\.unload\(\)", str(refusal.value))
    exec(advice, {"pipeline": changed})
    with Engine(changed).attached(mix((ONE, 1)), mode=mode):
        assert close(outputs(changed), expected, 1e-6)
    after = fingerprint(changed)
    assert {name: after[name] for name in before} == before  # unfusing leaves diffusers' fused copies behind


def softened(layer):
    """A parametrization of one's own."""
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())


COMPUTED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "weight_norm as it was": nn.utils.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "spectral_norm as it was": nn.utils.spectral_norm,
    "a parametrization": softened,
    "pruning": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_a_weight_that_is_computed_is_never_merged_into(pipeline, kind):
    """Beside the layer it is right: W + delta of the weight that it computes."""
    changed = copy.deepcopy(pipeline)
    changed.unet.eval()
    target = Target("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    layer = changed.unet.get_submodule(target.module)
    COMPUTED[kind](layer)
    outputs(changed)
    before = fingerprint(changed)
    fixed = copy.deepcopy(pipeline)
    with torch.no_grad():
        fixed.unet.get_submodule(target.module).weight.copy_(layer.weight)
    expected = by_hand(fixed, *all_of((TWO, 0.7)))
    with pytest.raises(NotSupported, match=f'{target}: its weight is computed .* use mode="branch"'):
        Engine(changed).attached(mix((TWO, 0.7)), mode="merge").__enter__()
    for mode in ("branch", "auto"):
        with Engine(changed).attached(mix((TWO, 0.7)), mode=mode, steps=10000):
            assert close(outputs(changed), expected)
    assert fingerprint(changed) == before


@pytest.mark.parametrize("how", ["one Parameter", "one memory"])
@pytest.mark.parametrize("across", ["in the UNet", "across components"])
def test_tied_weights_are_not_merged_and_right_beside_the_layer(pipeline, across, how):
    changed = copy.deepcopy(pipeline)
    one = Target("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    other = changed.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_k
    layer = changed.unet.get_submodule(one.module)
    if across == "across components":
        changed.text_encoder.head = other = nn.Linear(*layer.weight.shape[::-1], bias=False)
    other.weight = layer.weight if how == "one Parameter" else nn.Parameter(layer.weight.data)
    file = LoraFile({one: TWO.adapters[one]}, {}, "nano")
    untied = copy.deepcopy(changed)
    untied.unet.get_submodule(one.module).weight = nn.Parameter(layer.weight.detach().clone())
    expected, before = by_hand(untied, *all_of((file, 0.7))), fingerprint(changed)
    with pytest.raises(NotSupported, match=rf'{one}: its weight is tied to that of .*; use mode="branch"'):
        Engine(changed).attached(mix((file, 0.7)), mode="merge").__enter__()
    for mode in ("branch", "auto"):
        with Engine(changed).attached(mix((file, 0.7)), mode=mode, steps=10000):
            assert close(outputs(changed), expected)
    assert fingerprint(changed) == before


def test_states_in_which_a_network_cannot_run_are_refused_by_name(pipeline):
    changed = copy.deepcopy(pipeline)
    changed.unet.to("meta")
    with pytest.raises(NotSupported, match="meta device"), Engine(changed).attached(mix((ONE, 1))):
        pass
    changed = copy.deepcopy(pipeline)
    changed.unet.conv_in.to(torch.float8_e4m3fn)
    with pytest.raises(NotSupported, match="quantised"), Engine(changed).attached(mix((ONE, 1))):
        pass
    changed = copy.deepcopy(pipeline)
    changed.unet.mid_block.compile()
    with pytest.raises(NotSupported, match="compiled"), Engine(changed).attached(mix((ONE, 1)), mode="branch"):
        pass
    for other in (SimpleNamespace(), SimpleNamespace(unet=nn.Linear(2, 2))):
        with pytest.raises(NotSupported, match="not a base that the native engine knows"):
            Engine(other)


def test_a_convolution_in_groups_is_not_changed(pipeline):
    changed = copy.deepcopy(pipeline)
    changed.unet.conv_in = nn.Conv2d(4, 16, 3, padding=1, groups=2)
    with Engine(changed).attached(mix((ONE, 1))) as report:
        assert "unet.conv_in: a convolution of 2 groups takes no adapter" in report.networks[0].unused


@MODES
def test_circular_padding_is_followed(pipeline, mode):
    """Seamless tiles: every convolution wraps around."""
    changed = copy.deepcopy(pipeline)
    for module in changed.unet.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [p for p in reversed(module.padding) for _ in range(2)]
    expected = by_hand(changed, *all_of((ONE, 0.8)))
    assert not close(expected, by_hand(pipeline, *all_of((ONE, 0.8))), 1e-2)
    with Engine(changed).attached(mix((ONE, 0.8)), mode=mode):
        assert close(outputs(changed), expected)


# Precision.


@MODES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_float32_as_the_plain_model_is(pipeline, mode, dtype):
    """The reference is the float32 model; the plain half model's own distance is the yardstick."""
    half = copy.deepcopy(pipeline)
    for part in (half.unet, half.text_encoder):
        part.to(dtype)
    prints = fingerprint(half)
    changed = by_hand(pipeline, *all_of((ONE, 0.3)))
    plain_error = float((outputs(half).float() - outputs(pipeline)).abs().max()) / float(outputs(pipeline).abs().max())
    with Engine(half).attached(mix((ONE, 0.3)), mode=mode):
        found = outputs(half)
    assert found.dtype == dtype
    assert close(found.float(), changed, 4 * plain_error)
    assert fingerprint(half) == prints


@MODES
def test_float64_models_stay_float64(pipeline, mode):
    double = copy.deepcopy(pipeline)
    for part in (double.unet, double.text_encoder):
        part.double()
    expected = by_hand(double, *all_of((ONE, 0.7)))
    with Engine(double).attached(mix((ONE, 0.7)), mode=mode):
        assert close(outputs(double), expected, 1e-6)  # deltas are float32


@MODES
def test_autocast_runs_and_keeps_the_dtypes_of_the_plain_model(pipeline, mode):
    seen: list[torch.dtype] = []
    layer = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q

    def run() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return outputs(pipeline)

    expected = by_hand(pipeline, *all_of((BIASED, 0.3)))
    with Engine(pipeline).attached(mix((BIASED, 0.3)), mode=mode):
        handle = layer.register_forward_hook(lambda *call: seen.append(call[-1].dtype))
        found = run()
        handle.remove()
    assert seen == [torch.bfloat16]
    assert close(found.float(), expected, 0.1)


def cast(pipeline) -> None:
    for part in (pipeline.unet, pipeline.text_encoder):
        part.to(torch.bfloat16)


@MODES
def test_casting_inside_is_an_error_and_the_model_is_as_cast_without_networks(pipeline, mode):
    changed, expected = copy.deepcopy(pipeline), copy.deepcopy(pipeline)
    cast(expected)
    words = r"cast from torch.float32 to torch.bfloat16 while networks were attached"
    with pytest.raises(EngineError, match=words), Engine(changed).attached(mix((ONE, 1)), mode=mode):
        cast(changed)
    assert fingerprint(changed) == fingerprint(expected)
    assert hooks(changed) == 0


def test_a_cast_model_is_not_run_with_branches_of_another_dtype(pipeline):
    changed = copy.deepcopy(pipeline)

    def cast_and_run() -> None:
        with Engine(changed).attached(mix((ONE, 1)), mode="branch"):
            cast(changed)
            outputs(changed)

    with pytest.raises(EngineError, match="leave `attached` before casting"):
        cast_and_run()
