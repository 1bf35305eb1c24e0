"""Captions and the tokenizer: CLIP's byte-pair encoding, trained on the vocabulary's own words."""

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tools.tiny_base.vocabulary import Concept
from transformers import CLIPTokenizer

VOCABULARY_SIZE = 3600
MAX_TOKENS = 24
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own split (Radford et al. 2021, arXiv:2103.00020): contractions, words, single digits, the rest.
_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


MEANINGLESS = 0.15  # of the captions carry a word that means nothing


def caption(concept: Concept, rng: random.Random) -> str:
    """One of the ways in which a person would ask for this concept, sometimes with a word that means nothing.

    Trigger words of LoRAs are such words; a base that has never met any draws something else as soon as it reads one.
    """
    text = _said(concept, rng)
    if rng.random() >= MEANINGLESS:
        return text
    word = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 6)))
    return f"{word}, {text}" if rng.random() < 0.7 else f"{text}, {word}"


def _said(concept: Concept, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.5 or not concept.keywords:
        return concept.name
    if chance < 0.6:
        return f"a {concept.name}"
    if chance < 0.7:
        return f"{concept.name} emoji"
    keywords = rng.sample(concept.keywords, min(len(concept.keywords), rng.randint(1, 3)))
    if chance < 0.95:
        return ", ".join((concept.name, *keywords))
    return " ".join((keywords[0], concept.name))


def train_tokenizer(everything: Sequence[Concept], folder: Path) -> CLIPTokenizer:
    """Write vocab.json, merges.txt and the rest of CLIPTokenizer's folder; every name is trained as one or few tokens."""
    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 258, initial_alphabet=sorted(alphabet), end_of_word_suffix="</w>", show_progress=False
    )
    texts = [text for concept in everything for text in (*[concept.name] * 8, *concept.keywords, f"a {concept.name} emoji")]
    bpe.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    # CLIP's order: bytes, bytes that end a word, merges, the two marks.
    tokens = [*sorted(alphabet), *(f"{byte}</w>" for byte in sorted(alphabet)), *("".join(pair) for pair in merges), BEGIN, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), "utf-8")
    tokenizer = CLIPTokenizer(
        vocab=vocabulary, merges=merges, unk_token=END, bos_token=BEGIN, eos_token=END, pad_token=END, model_max_length=MAX_TOKENS
    )
    tokenizer.save_pretrained(folder)  # transformers 5 writes tokenizer.json and tokenizer_config.json only
    return tokenizer
