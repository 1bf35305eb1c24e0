/** Laws of mixes: a mix is the tags of a prompt as they are written, and one tag stands in the place of all of them. */

import fc from "fast-check";
import { expect, test } from "vitest";

import { changes, instead, mixOf, suggestedName } from "../../src/prompt/mix";
import { tags, tokenize } from "../../src/prompt/tokens";
import { tag } from "./random";

const prompt = fc.array(fc.oneof(tag, fc.constantFrom(", ", " ", "an owl", "(blue:1.2)", "\n")), { maxLength: 10 }).map((parts) => parts.join(""));

test("a mix is the prompt's tags and nothing else", () => {
  expect(mixOf('an owl <lora:a:0.5>, blue <lora:"odd: name":te=0.2:unet=1> x')).toBe('<lora:a:0.5><lora:"odd: name":te=0.2:unet=1>');
  expect(mixOf("no tags <b>")).toBe("");
});

test("the new tag stands where the first of the mix stood; other words and tags stay", () => {
  const prompt = "an owl <lora:a:0.5>, blue <lora:b:1> <lora:other:1>";
  expect(instead(prompt, "<lora:a:0.5><lora:b:1>", "c")).toBe("an owl <lora:c:1>, blue <lora:other:1>");
  expect(instead("an owl", "<lora:a:0.5>", "c")).toBe("an owl <lora:c:1>");
  expect(instead("<lora:a:1><lora:a:1>", "<lora:a:1>", "c")).toBe("<lora:c:1><lora:a:1>");
  expect(instead("x <lora:a:1>", "<lora:a:1>", '"odd: name"')).toBe('x <lora:"odd: name":1>');
});

test("in any prompt the whole mix becomes one tag, and the words stay", () => {
  fc.assert(
    fc.property(prompt, (text) => {
      const after = instead(text, mixOf(text), "woven");
      expect(tags(after).map(({ source }) => source)).toEqual(["<lora:woven:1>"]);
      expect(words(after)).toBe(words(text));
    }),
  );
});

function words(prompt: string): string {
  return tokenize(prompt)
    .map((segment) => (segment.kind === "text" ? segment.source : " "))
    .join("")
    .replace(/[\s,]+/g, "");
}

test("a mix changes if one of its strengths does", () => {
  expect([changes("<lora:a:1>"), changes("<lora:a:1:unet=0~1>"), changes("<lora:a@b:1>"), changes("")]).toEqual([false, true, false, false]);
});

test("a name is suggested from the networks, and is none of a path", () => {
  expect(suggestedName("<lora:styles/ink:0.8><lora:neon:1><lora:ink:1>")).toBe("ink-neon");
  expect(suggestedName('<lora:"a: b?":1>')).toBe("a b");
  expect(suggestedName("<lora:../..:1>")).toBe("mix");
  expect(suggestedName("")).toBe("mix");
  expect(suggestedName(`<lora:${"x".repeat(200)}:1>`).length).toBe(60);
});
