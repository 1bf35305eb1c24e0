"""What metadata may say: the forms of ModelSpec and of kohya's JSON."""

import pytest

from loraloom.dialects.fields import check_field
from loraloom.errors import SettingsError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("anything", "of any kind\nat all"),
        ("modelspec.title", "Ünïcödé [bold]"),
        ("modelspec.date", "2026-01-31"),
        ("modelspec.date", "2026-01-31T12:00:00Z"),
        ("modelspec.resolution", "1024x768"),
        ("modelspec.prediction_type", "v"),
        ("modelspec.sai_model_spec", "1.0.1"),
        ("modelspec.thumbnail", "data:image/jpeg;base64,/9j/4AAQ=="),
        ("modelspec.something_of_tomorrow", "x"),
        ("ss_tag_frequency", '{"10_ink": {"flat": 3}}'),
        ("ss_datasets", "[]"),
    ],
)
def test_what_others_can_read_is_taken(key, value):
    check_field(key, value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("modelspec.date", "yesterday", "is a date such as"),
        ("modelspec.resolution", "1024", "a width and a height"),
        ("modelspec.prediction_type", "flow", "epsilon or v"),
        ("modelspec.thumbnail", "https://example.org/x.jpg", "a data URI"),
        ("modelspec.titel", "x", 'did you mean "title"'),
        ("modelspec.Title", "x", 'did you mean "title"'),
        ("ss_tag_frequency", "flat, ink", "a JSON object"),
        ("ss_network_args", "3", "a JSON object"),
        ("lora_adapter_metadata", "{", "a JSON object"),
        ("sshs_model_hash", "0" * 64, "computed from the tensors"),
        ("modelspec.hash_sha256", "0x00", "computed from the tensors"),
    ],
)
def test_what_others_could_not_read_is_refused(key, value, words):
    with pytest.raises(SettingsError, match=words) as caught:
        check_field(key, value)
    assert key in str(caught.value)
