"""Laws of requests: a mistake names the option and what to do; a grid's columns are complete and none is there twice."""

import pytest

from loraloom.errors import SettingsError
from loraloom.generate.request import GridRequest, ImageRequest
from loraloom.prompts import parse


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 65}, "width: sides are multiples of 8; take 64 or 72 instead of 65"),
        ({"height": 10000}, "height: should be less than or equal to 8192, not 10000"),
        ({"pictures": 0}, "pictures: should be greater than or equal to 1, not 0"),
        ({"steps": 0}, "steps: should be greater"),
        ({"guidance": float("nan")}, "guidance: should be a finite number"),
        ({"seed": -2}, "seed: should be greater than or equal to -1, not -2"),
        ({"sampler": "Eular"}, 'sampler: no sampler "Eular"; did you mean "Euler"'),
        ({"sampler": "foo"}, "there are Euler, Euler Karras"),
        ({"mode": "x"}, "mode: should be 'auto', 'merge' or 'branch', not 'x'"),
        ({"sedd": 1}, "there is no option 'sedd'; did you mean \"seed\"?"),
    ],
)
def test_a_mistake_says_which_option_and_what_to_do(values, message):
    with pytest.raises(SettingsError) as error:
        ImageRequest.of(**{"prompt": "a cat", **values})
    assert message in str(error.value)


def test_samplers_are_found_in_any_case():
    assert ImageRequest(prompt="", sampler="dpm++ 2m karras").sampler == "DPM++ 2M Karras"


@pytest.mark.parametrize(
    ("name", "ours"),
    [("euler_a", "Euler a"), ("k_dpmpp_2m_ka", "DPM++ 2M Karras"), ("dpmpp_2m_sde_karras", "DPM++ 2M SDE Karras"), ("uni_pc", "UniPC")],
)
def test_samplers_are_found_by_the_names_of_other_tools(name, ours):
    assert ImageRequest(prompt="", sampler=name).sampler == ours


def test_seed_minus_1_is_none():
    assert ImageRequest(prompt="", seed=-1).seed is None


def test_columns_begin_with_the_base_and_none_is_there_twice():
    request = GridRequest(
        prompts=("a",), loras=("ink", "odd: name", "ink"), strengths=(0, 0.5, 0.5, 1), columns=({"label": "x", "tags": "<lora:a>"},)
    )
    assert [column.label for column in request.all_columns] == ["base", "ink 0.5", "ink 1", "odd: name 0.5", "odd: name 1", "x"]
    tags = [parse(column.tags).loras[0] for column in request.all_columns[1:5]]
    assert [f"{tag.name} {tag.first}" for tag in tags] == ["ink 0.5", "ink 1", "odd: name 0.5", "odd: name 1"]


def test_a_grid_that_is_too_large_is_refused():
    with pytest.raises(SettingsError, match="40 prompts × 31 columns are 1240 pictures; at most 1024"):
        GridRequest.of(prompts=["a"] * 40, loras=["ink"], strengths=[i / 10 for i in range(1, 31)])
