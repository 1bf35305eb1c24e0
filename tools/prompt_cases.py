"""Write what the parser reads in many prompts, for the page's own tokenizer: `python -m tools.prompt_cases web/tests/prompt/cases.json`."""

import json
import random
import sys
from pathlib import Path
from typing import Any

from loraloom.prompts import LoraTag, parse_lenient, spelled
from loraloom.prompts.tag import SCHEDULE_KEYS
from loraloom.schedule import Schedule

CASES = 400
# Names of files that a tag has to put in quotes, or nearly.
HOSTILE = (
    "a:b",
    "a<b>",
    "<lora:x:1>",
    '"',
    '"ink"',
    "a\\b",
    "\\",
    " ink",
    "ink ",
    "  ",
    "hf:owner",
    "C:x",
    "1",
    "te=1",
    "a\nb",
    "v1.safetensors",
)
HANDMADE = (
    "",
    "a castle at night",
    "a castle <lora:ink>",
    "a castle at night <lora:ink:0.8> <lora:styles/neon:te=0.5:unet=1.5> <lora:sketch:1:in=0:mid=1:out=0>",
    "<lora:detail:0.2@1,0.9@6>  <lora:detail:unet=0~1>",
    '<lora:"odd: name":1> <lora: "a > b < c" :1> <lora:"say \\"hi\\" \\\\o":1>',
    "<lora:hf:owner/repo:0.8> <lora:hf:0.8> <lora:C:\\loras\\x.safetensors:1>",
    "<LoRA: x : .3 > <lyco:y:0.3:0.9:unet=2> <lora:z:unet=2:0.3:0.9:4>",
    "<lora:x:0.5",
    "<lora:x <lora:y:1>",
    "<lora::1> <lora:> <lora:  :te=1>",
    '<lora:"open:1> <lora:y:1>',
    "<b>bold</b> 1 < 2 > 0 <lora:x:1>",
    "🐙 octopus <lora:ink:0.8>, 🦊 <lora:ink2:1>",
    "größe\n<lora:tinte\n:0.8>\t!",
    "<lora:x:lbw=OUTALL:dyn=8:module=te:start=3:stop=80%>",
    '<lora:"":1> <lora:" ":1> <lora:"x"y:1>',
    "<lora:x:1:OUTALL> <lora:y:0.5:1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1:0.7> <lora:z:all0.5>",
    "<loha:a:1> <LoKr:b:0.5> <dora:c> <locon:d:te=1> <hypernet:e:1> <loras:f:1> < lora:g:1>",
    "<lora:x:step=8-16:w=ALL> <lora:y:lbwe=ATTN:1> <lora:z:1,1,1>",
    "&lt;lora:x:1&gt; ＜lora：y：1＞ [lora:z:1] (lora:v:1) lora:w:1 <lora:x\u200b:0.5> withLora(x,1)",
    '<lora:"a\u200bb":1>',
    *(f"a castle <lora:{spelled(name)}:0.8>, at night" for name in HOSTILE),
)
_NAMES = ("ink", "styles/neon", "a b", '"odd: name"', "hf:owner/repo", "0badcafe", "", "été", "🐙", "x=y", '"q\\"q"')
_VALUES = (
    "0.8",
    "1",
    "-0.5",
    ".3",
    "2.",
    "1e-1",
    "0~1",
    "0.2@1,0.9@6",
    "0@0~1@50%",
    "",
    "much",
    " 1 ",
    "1;2",
    "te",
    "MIDD",
    "8-16",
    ",".join("1" * 12),
)
_KEYS = (
    "te",
    "te1",
    "te2",
    "unet",
    "transformer",
    "dit",
    "in",
    "mid",
    "out",
    "lbw",
    "dyn",
    "module",
    "start",
    "step",
    "w",
    "unett",
    "",
    " te ",
)
_TEXTS = ("a castle", ", ", " ", "\n", "<", ">", "<b>", "🦊", "(word:1.2)", ":", '"', "<lora", "<lora:", "ß")


def _prompt(chance: random.Random) -> str:
    def tag() -> str:
        items = [f"{chance.choice(_KEYS)}={chance.choice(_VALUES)}" for _ in range(chance.randrange(3))]
        items += [chance.choice(_VALUES) for _ in range(chance.randrange(3))]
        chance.shuffle(items)
        return "<" + ":".join([chance.choice(("lora", "lora", "LoRA", "lyco", "loha", "dora")), chance.choice(_NAMES), *items]) + ">"

    return "".join(tag() if chance.random() < 0.5 else chance.choice(_TEXTS) for _ in range(chance.randrange(1, 8)))


def _case(text: str) -> dict[str, Any]:
    prompt, mistakes = parse_lenient(text)
    return {"text": text, "right": not mistakes, "tags": [_tag(tag) for tag in prompt.loras]}


def _tag(tag: LoraTag) -> dict[str, Any]:
    strengths = {"first": tag.first, **{key: getattr(tag.keys, name) for key, name in SCHEDULE_KEYS.items()}}
    given = {key: _value(value) for key, value in strengths.items() if value is not None}
    return {"name": tag.name, "column": tag.column, "length": tag.length, "strengths": given}


def _value(schedule: Schedule) -> float | str:
    return schedule.points[0].value if len(schedule.points) == 1 and schedule == Schedule.of(schedule.points[0].value) else "schedule"


def text() -> str:
    """The cases, one a line; the same at every call."""
    chance = random.Random(7)
    prompts = dict.fromkeys((*HANDMADE, *(_prompt(chance) for _ in range(CASES))))
    return "[\n" + ",\n".join(json.dumps(_case(prompt), ensure_ascii=False) for prompt in prompts) + "\n]\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
