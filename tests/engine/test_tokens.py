"""Embeddings that come with a network: words while it is attached, nothing afterwards."""

import pytest
import torch
from running import mix
from safetensors.torch import save_file
from support import fingerprint, hooks, network

from loraloom.bases import NANO
from loraloom.dialects import read
from loraloom.engine import Engine
from loraloom.errors import EngineError, NothingApplied, NotSupported
from loraloom.lorafile import LoraFile

WIDTH = 24


def bringing(word, vectors, component="text_encoder", **options):
    return LoraFile({}, {"ss_output_name": options.get("name", "bringer")}, "nano", embeddings={word: {component: vectors}})


def encoded(pipeline, prompt):
    with torch.no_grad():
        return pipeline.encode_prompt(prompt, "cpu", 1, False)[0]


def by_hand(pipeline, text, word, vectors):
    """The same text with an `a`, which is one token, for the word, and the vector put in at its place."""
    length = pipeline.tokenizer.model_max_length
    ids = pipeline.tokenizer(text.replace(word, "a"), padding="max_length", max_length=length, return_tensors="pt").input_ids
    (letter,) = pipeline.tokenizer("a", add_special_tokens=False).input_ids
    (place,) = (ids[0] == letter).nonzero()[:, 0].tolist()
    embedding = pipeline.text_encoder.get_input_embeddings()

    def put(_module, _inputs, output):
        changed = output.clone()
        changed[0, place] = vectors[0]
        return changed

    handle = embedding.register_forward_hook(put)
    try:
        with torch.no_grad():
            return pipeline.text_encoder(ids)[0]
    finally:
        handle.remove()


def test_a_word_means_its_vector_inside_and_nothing_outside(pipeline):
    vectors = torch.randn(1, WIDTH)
    before, tokenizer, plain = fingerprint(pipeline), pipeline.tokenizer, encoded(pipeline, "the zyx hut")
    with Engine(pipeline).attached(mix((bringing("zyx", vectors), 1))):
        inside = encoded(pipeline, "the zyx hut")
        assert torch.equal(encoded(pipeline, "the hut"), encoded(pipeline, "the hut"))
    assert torch.allclose(inside, by_hand(pipeline, "the zyx hut", "zyx", vectors), atol=1e-6)
    assert not torch.allclose(inside, plain)
    assert pipeline.tokenizer is tokenizer
    assert "zyx" not in tokenizer.get_vocab()
    assert torch.equal(encoded(pipeline, "the zyx hut"), plain)
    assert fingerprint(pipeline) == before
    assert hooks(pipeline) == 0


def test_a_word_of_several_vectors_takes_several_places(pipeline):
    vectors = torch.randn(3, WIDTH)
    with Engine(pipeline).attached(mix((bringing("zyx", vectors), 1))):
        prompt = pipeline.maybe_convert_prompt("the zyx hut", pipeline.tokenizer)
        assert prompt == "the zyx zyx_1 zyx_2 hut"
        whole = encoded(pipeline, "the zyx hut")
    with Engine(pipeline).attached(mix((bringing("zyx", vectors[:1]), 1))):
        assert not torch.allclose(encoded(pipeline, "the zyx hut"), whole)


def test_other_prompts_are_as_they_were(pipeline):
    plain = encoded(pipeline, "a castle at night")
    with Engine(pipeline).attached(mix((bringing("zyx", torch.randn(1, WIDTH)), 1))):
        assert torch.equal(encoded(pipeline, "a castle at night"), plain)


def test_two_networks_that_mean_different_things_are_refused_by_name(pipeline):
    before = fingerprint(pipeline)
    one, two = (bringing("zyx", torch.full((1, WIDTH), value), name=name) for value, name in ((1.0, "one"), (2.0, "two")))
    with pytest.raises(EngineError, match="one and two both bring the word 'zyx'"), Engine(pipeline).attached(mix((one, 1), (two, 1))):
        pass
    with Engine(pipeline).attached(mix((one, 1), (bringing("zyx", torch.full((1, WIDTH), 1.0), name="three"), 1))):
        pass
    assert fingerprint(pipeline) == before


@pytest.mark.parametrize(
    ("vectors", "component", "reason"),
    [(torch.ones(1, 5), "text_encoder", r"\[1, 5\], the text_encoder is 24 wide"), (torch.ones(1, 24), "text_encoder_2", "does not have")],
)
def test_embeddings_that_fit_no_encoder_are_refused(pipeline, vectors, component, reason):
    with pytest.raises(NotSupported, match=reason), Engine(pipeline).attached(mix((bringing("zyx", vectors, component), 1))):
        pass
    assert hooks(pipeline) == 0


def test_an_error_inside_takes_the_words_out(pipeline):
    tokenizer = pipeline.tokenizer
    with pytest.raises(RuntimeError, match="stop"), Engine(pipeline).attached(mix((bringing("zyx", torch.ones(1, WIDTH)), 1))):
        raise RuntimeError("stop")
    assert pipeline.tokenizer is tokenizer
    assert hooks(pipeline) == 0


@pytest.mark.parametrize("key", ["bundle_emb.zyx.string_to_param.*", "bundle_emb.zyx.clip_l", "bundle_emb.a.b c.string_to_param.*"])
def test_files_of_both_spellings_bring_their_words(tmp_path, key):
    vectors = torch.randn(2, WIDTH)
    save_file({key: vectors}, tmp_path / "words.safetensors")
    found = read(tmp_path / "words.safetensors", NANO)
    word = key.removeprefix("bundle_emb.").removesuffix(".string_to_param.*").removesuffix(".clip_l")
    assert found.embeddings.keys() == {word}
    assert torch.equal(found.embeddings[word]["text_encoder"], vectors)
    assert found.unknown == ()


@pytest.mark.parametrize(
    ("key", "tensor", "reason"),
    [
        ("bundle_emb.zyx.clip_g", torch.ones(1, 24), "the text encoders of .* are 24"),
        ("bundle_emb.zyx.string_to_param.*", torch.ones(1, 25), "is 25 wide"),
        ("bundle_emb.zyx.string_to_param.*", torch.ones(24), "is not 1 to 75 vectors"),
        ("bundle_emb.zyx.string_to_param.*", torch.ones(76, 24), "is not 1 to 75 vectors"),
        ("bundle_emb.zyx.string_to_param.*", torch.ones(1, 24, dtype=torch.int32), "I32"),
        ("bundle_emb.zyx.other", torch.ones(1, 24), "no embedding that is known"),
        ("bundle_emb.", torch.ones(1, 24), "no embedding that is known"),
    ],
)
def test_every_other_bundled_key_has_its_reason(tmp_path, key, tensor, reason):
    save_file({key: tensor}, tmp_path / "words.safetensors")
    with pytest.raises(NothingApplied, match=reason):
        read(tmp_path / "words.safetensors", NANO)


def test_a_network_with_adapters_and_words_brings_both(pipeline):
    file = network(NANO)
    both = LoraFile(file.adapters, file.metadata, "nano", embeddings={"zyx": {"text_encoder": torch.randn(1, WIDTH)}})
    before = fingerprint(pipeline)
    with Engine(pipeline).attached(mix((both, 1))) as report:
        assert report.modules == len(file.adapters)
        assert pipeline.tokenizer.convert_tokens_to_ids("zyx") >= 513
    assert fingerprint(pipeline) == before
