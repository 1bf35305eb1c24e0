"""Laws of emphasis: the WebUI's formula by hand, chunks of its length, and prompts without either drawn as diffusers draws them."""

import copy

import pytest
import torch

from loraloom.bases.nano.model import load as load_nano
from loraloom.bases.nanoxl.model import load as load_nanoxl
from loraloom.generate.chunks import chunks
from loraloom.generate.emphasis import emphasised, weigh
from loraloom.prompts import weighted

EPS = 1.2e-7  # of float32


@pytest.fixture(scope="module")
def pipeline():
    """nano, its text encoder with a last layer norm as trained ones have: its embeddings have a mean."""
    return _with_mean(load_nano())


@pytest.fixture(scope="module")
def sdxl():
    return _with_mean(load_nanoxl())


def _with_mean(made):
    made.set_progress_bar_config(disable=True)
    for part in (made.text_encoder, getattr(made, "text_encoder_2", None)):
        if part is not None:
            with torch.no_grad():
                next(module for name, module in part.named_modules() if name.endswith("final_layer_norm")).bias.fill_(0.25)
    return made


def encoded(pipeline, prompt, negative=None, **options):
    with emphasised(pipeline), torch.no_grad():
        return _plain(pipeline, prompt, negative, **options)


def _plain(pipeline, prompt, negative=None, **options):
    with torch.no_grad():
        return pipeline.encode_prompt(
            prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True, negative_prompt=negative, **options
        )


def by_hand(encoder, tokenizer, spans, states=lambda found: found.last_hidden_state):
    """One chunk, written out: ids of each span, the encoder itself, z · w, and the mean of all of it put back."""
    ids, weights = [tokenizer.bos_token_id], [1.0]
    for text, weight in spans:
        found = tokenizer(text, add_special_tokens=False).input_ids
        ids += found
        weights += [weight] * len(found)
    room = tokenizer.model_max_length
    ids += [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (room - len(ids) - 1)
    weights += [1.0] * (room - len(weights))
    with torch.no_grad():
        z = states(encoder(torch.tensor([ids]), output_hidden_states=True))[0]
    changed = z * torch.tensor(weights)[:, None]
    return changed * (z.mean() / changed.mean())


def close(found, expected, lost=1.0):
    """1e-5 of the largest: what an encoder's sums may differ by where a batch of another size is summed in other blocks. `lost` is how much
    larger its numbers are than their mean: the mean, and all that it multiplies, has that much less of the digits."""
    return bool((found - expected).abs().max() <= 1e-5 * lost * expected.abs().max())


def lost(tensor):
    """How much larger numbers are than their mean; small where they are no random ones around zero."""
    return float(tensor.abs().mean() / tensor.mean().abs())


def test_weights_are_the_webuis_formula(pipeline):
    found, negative = encoded(pipeline, ["a (red:1.3) [cat]"], ["(dark)"])
    spans, dark = [("a ", 1.0), ("red", 1.3), (" ", 1.0), ("cat", 1 / 1.1)], [("dark", 1.1)]
    assert close(found[0], by_hand(pipeline.text_encoder, pipeline.tokenizer, spans))
    assert close(negative[0], by_hand(pipeline.text_encoder, pipeline.tokenizer, dark))


def test_a_formula_in_numbers():
    """z = 1, 2, 3, 6 with weights 1, 2: 1, 2, 6, 12 has mean 5.25 where z had 3: times 4/7."""
    z = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    found = weigh(z, torch.tensor([1.0, 2.0]))
    assert torch.allclose(found, torch.tensor([[1.0, 2.0], [6.0, 12.0]]) * (3 / 5.25), rtol=2 * EPS)


def test_both_encoders_of_sdxl_have_a_mean_of_their_own(sdxl):
    found, _, pooled, _ = encoded(sdxl, ["a (red:1.5) cat"], ["dark"])
    spans = [("a ", 1.0), ("red", 1.5), (" cat", 1.0)]

    def penultimate(given):
        return given.hidden_states[-2]

    first = by_hand(sdxl.text_encoder, sdxl.tokenizer, spans, penultimate)
    second = by_hand(sdxl.text_encoder_2, sdxl.tokenizer_2, spans, penultimate)
    assert close(found[0], torch.cat([first, second], dim=-1), max(lost(first), lost(second)))
    assert torch.equal(pooled, _plain(sdxl, ["a red cat"], ["dark"])[2])  # pooled vectors are not weighed


@pytest.mark.parametrize("text", ["a red cat", "", "x" * 30, "a (red:1.0) cat", r"a red \(cat\)"])
def test_a_prompt_that_fits_and_weighs_nothing_is_diffusers_own(pipeline, sdxl, text):
    words = text.replace("(red:1.0)", "red").replace("\\", "")
    for made in (pipeline, sdxl):
        for negative in (None, [text]):
            found, expected = encoded(made, [text], negative), _plain(made, [words], negative and [words])
            assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


def test_an_encoder_whose_embeddings_have_no_mean_keeps_their_size():
    """A layer norm without a shift: both means are rounding, and their ratio could be anything."""
    plain = load_nano()
    found, unweighed = encoded(plain, ["a (red:1.3) cat"])[0], encoded(plain, ["a red cat"])[0]
    assert close(found[0, 2:5], unweighed[0, 2:5] * 1.3)  # after the begin and "a", a token for each letter
    assert torch.equal(found[0, :2], unweighed[0, :2])


def tokens(pipeline, text):
    """The words of each chunk, and the weights of its words."""
    tokenizer = pipeline.tokenizer
    found = chunks(text, tokenizer)
    assert all(len(chunk.ids) == len(chunk.weights) == tokenizer.model_max_length for chunk in found)
    assert all(chunk.ids[0] == tokenizer.bos_token_id and chunk.ids[chunk.used - 1] == tokenizer.eos_token_id for chunk in found)
    assert all({*chunk.ids[chunk.used :]} <= {tokenizer.pad_token_id} for chunk in found)
    assert all({chunk.weights[0], *chunk.weights[chunk.used - 1 :]} == {1.0} for chunk in found)
    return ["".join(tokenizer.convert_ids_to_tokens(chunk.ids[1 : chunk.used - 1])).replace("</w>", " ").strip() for chunk in found]


# nano reads bytes: 30 of them are a chunk.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [""]),
        ("x" * 30, ["x" * 30]),
        ("x" * 31, ["x" * 30, "x"]),
        ("x" * 95, ["x" * 30, "x" * 30, "x" * 30, "x" * 5]),
        ("x" * 20 + "," + "y" * 9 + "z", ["x" * 20 + " ,", "y" * 9 + "z"]),  # the comma is 10 from the end: what follows it moves
        ("x" * 9 + "," + "y" * 21, ["x" * 9 + " , " + "y" * 20, "y"]),  # 21 from the end: too far
        ("x" * 10 + "," + "y" * 20, ["x" * 10 + " ,", "y" * 20]),  # 20 from the end
        ("x" * 29 + "," + "y" * 3, ["x" * 29 + " ,", "y" * 3]),
        ("x" * 30 + "," + "y" * 3, ["x" * 30, ", " + "y" * 3]),
        ("x" * 15 + "," + "y" * 10 + "," + "z" * 9, ["x" * 15 + " , " + "y" * 10 + " ,", "z" * 9]),  # the last comma counts
    ],
)
def test_chunks_are_full_or_end_behind_a_comma(pipeline, text, expected):
    assert tokens(pipeline, text) == expected


def test_what_moves_to_the_next_chunk_takes_its_weight_along(pipeline):
    first, second = chunks("x" * 25 + ", (" + "y" * 10 + ":1.5)", pipeline.tokenizer)
    assert set(first.weights) == {1.0}
    assert second.weights[1:11] == (1.5,) * 10


@pytest.mark.parametrize("text", ["(a:1.3) " * 9 + "[b], c " * 20, "(" * 40 + "x" * 100, "a, " * 200])
def test_no_token_is_lost_or_doubled(pipeline, text):
    spans = weighted(text)
    expected = [
        (token, weight) for piece, weight in spans for token in pipeline.tokenizer(piece, add_special_tokens=False, verbose=False).input_ids
    ]
    found = chunks(text, pipeline.tokenizer)
    assert [pair for each in found for pair in list(zip(each.ids, each.weights, strict=True))[1 : each.used - 1]] == expected


def test_a_long_prompt_is_its_chunks_one_after_another(pipeline, sdxl):
    long, parts = "x " * 70, ["x " * 30, "x " * 30, "x " * 10]
    for made in (pipeline, sdxl):
        found, negative, *pooled = encoded(made, [long], ["dark"])
        expected, dark, *vectors = _plain(made, parts, ["dark", "", ""])
        assert close(found[0], expected.flatten(0, 1))
        assert close(negative[0], dark.flatten(0, 1))  # filled up with empty chunks
        assert all(close(left[0], right[0]) for left, right in zip(pooled, vectors, strict=True))  # of the first chunk


def test_weights_keep_the_mean_of_each_chunk(pipeline):
    [found], [unweighed] = (encoded(pipeline, [text])[0].unflatten(1, (2, 32)) for text in ("x " * 30 + "(y:2)", "x " * 30 + "y"))
    assert close(found[0], unweighed[0])
    assert abs(found[1].mean() - unweighed[1].mean()) <= 8 * EPS * unweighed[1].abs().mean()
    assert not close(found[1], unweighed[1])


def test_prompts_of_one_call_do_not_see_one_another(pipeline, sdxl):
    texts = ["a (red:1.3) cat", "x" * 70, "", "[dark] " * 20]
    for made in (pipeline, sdxl):
        together = encoded(made, texts, ["", "(a)", "b", "y" * 40])
        alone = encoded(made, texts[1:2], ["(a)"])
        assert all(close(left[1:2], right) for left, right in zip(together, alone, strict=True))


def test_several_pictures_of_a_prompt_follow_one_another(pipeline, sdxl):
    texts = ["(a:1.2)", "x" * 40]
    for made in (pipeline, sdxl):
        with emphasised(made), torch.no_grad():
            several = made.encode_prompt(texts, device="cpu", num_images_per_prompt=2, do_classifier_free_guidance=True)
        for left, right in zip(several, encoded(made, texts), strict=True):
            assert torch.equal(left, right.repeat_interleave(2, dim=0))


def test_layers_are_skipped_as_the_pipeline_skips_them(sdxl):
    found = encoded(sdxl, ["a (red:1.3) cat"], clip_skip=1)[0]
    spans, width = [("a ", 1.0), ("red", 1.3), (" cat", 1.0)], sdxl.text_encoder.config.hidden_size
    expected = by_hand(sdxl.text_encoder, sdxl.tokenizer, spans, lambda given: given.hidden_states[-3])
    assert close(found[0, :, :width], expected, lost(expected))
    assert not close(found, encoded(sdxl, ["a (red:1.3) cat"])[0])


def test_padding_that_is_no_end_stays_padding():
    """SD 2.x and SDXL's second encoder pad with `!`."""
    other = _with_mean(load_nano())
    other.tokenizer.pad_token = "!"
    found = encoded(other, ["(red:1.3)"])[0]
    assert close(found[0], by_hand(other.text_encoder, other.tokenizer, [("red", 1.3)]))


def test_half_precision_is_rounded_once(pipeline):
    half = copy.deepcopy(pipeline)
    half.text_encoder.to(torch.bfloat16)
    found, plain = (encoded(half, [text])[0] for text in ("a (red:1.3) cat", "a red cat"))
    assert found.dtype == torch.bfloat16
    weights = torch.ones(32)
    weights[2:5] = 1.3
    assert torch.equal(found[0], weigh(plain[0].float(), weights).to(torch.bfloat16))


def test_the_pipeline_is_left_as_it_was(pipeline):
    tokenizer, config = pipeline.tokenizer, dict(pipeline.config)
    encoded(pipeline, ["(a)"])
    handle = pipeline.text_encoder.register_forward_pre_hook(_broken)
    with pytest.raises(RuntimeError, match="broken"):
        encoded(pipeline, ["(a)"])
    handle.remove()
    assert pipeline.tokenizer is tokenizer
    assert dict(pipeline.config) == config
    assert "encode_prompt" not in vars(pipeline)


def _broken(*_):
    raise RuntimeError("broken")


def test_embeddings_of_the_callers_own_are_left_alone(pipeline):
    own = torch.randn(1, 32, 24)
    with emphasised(pipeline):
        found, _ = pipeline.encode_prompt(None, "cpu", 1, False, prompt_embeds=own)
    assert torch.equal(found, own)
