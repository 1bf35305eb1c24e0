/** Laws of the prompt model over random prompts: nothing is lost, and an edit changes only what it must. */

import fc from "fast-check";
import { expect, test } from "vitest";

import { addTag, clearStrength, itemOf, removeTag, setStrength, spelled, type StrengthKey } from "../../src/prompt/edits";
import { plainNumber, written } from "../../src/prompt/numbers";
import { PARTS, rows } from "../../src/prompt/rows";
import { tags, tokenize, type TagSegment } from "../../src/prompt/tokens";
import { addWord, findWord, removeWord, toggleWord } from "../../src/prompt/words";
import { prompt } from "./random";

const RUNS = { numRuns: 1000, seed: 7 };
const KEYS: StrengthKey[] = ["first", ...PARTS];
const number = fc.double({ min: -2, max: 2, noNaN: true }).map(written);

/** What a tag says, without where it stands. */
const said = (tag: TagSegment) => ({ name: tag.name, items: tag.items.map(({ key, keyed, text }) => ({ key, keyed, text })) });

test("text → segments → text is the same text, and segments lie end to end", () => {
  fc.assert(
    fc.property(prompt, (text) => {
      const segments = tokenize(text);
      expect(segments.map((segment) => segment.source).join("")).toBe(text);
      expect(segments.every((segment, index) => segment.start === (segments[index - 1]?.stop ?? 0))).toBe(true);
      expect(segments.every((segment) => segment.source === text.slice(segment.start, segment.stop))).toBe(true);
    }),
    RUNS,
  );
});

test("setting every control of every row to what it says changes nothing", () => {
  fc.assert(
    fc.property(prompt, (text) => {
      let after = text;
      for (const row of rows(text)) {
        for (const control of [row.first, ...row.others]) {
          if (control.given) after = setStrength(after, row.index, control.key, control.text);
        }
      }
      expect(after).toBe(text);
    }),
    RUNS,
  );
});

test("a slider changes its number and nothing else", () => {
  let set = 0;
  fc.assert(
    fc.property(prompt, fc.nat(), fc.constantFrom(...KEYS), number, (text, pick, key, value) => {
      const before = tags(text);
      const index = pick % Math.max(1, before.length);
      const tag = before[index];
      if (tag === undefined || tag.name === "") return;
      set += 1;
      const item = itemOf(tag, key);
      const after = setStrength(text, index, key, value);
      const found = tags(after);
      expect(plainNumber(itemOf(found[index] as TagSegment, key)?.text ?? "")).toBe(Number(value));
      if (item !== undefined) {
        expect(after).toBe(text.slice(0, item.value.start) + value + text.slice(item.value.stop));
      } else {
        expect(after.length).toBe(text.length + (key === "first" ? `:${value}` : `:${key}=${value}`).length);
        expect(clearStrength(after, index, key)).toBe(text);
      }
      expect(found.filter((_, place) => place !== index).map(said)).toEqual(before.filter((_, place) => place !== index).map(said));
      expect(found[index]?.items.filter((each) => each.key !== key && each.key !== "second").map((each) => each.text)).toEqual(
        tag.items.filter((each) => each.key !== key && each.key !== "second").map((each) => each.text),
      );
    }),
    RUNS,
  );
  expect(set).toBeGreaterThan(400);
});

test("a tag that was added has its name and strength, and is gone after it is removed", () => {
  fc.assert(
    fc.property(prompt, fc.string({ minLength: 1, maxLength: 12 }), number, (text, name, value) => {
      fc.pre(!tokenize(text).some((part) => part.kind === "text" && /<(?:lora|lyco):/i.test(part.source))); // an open tag swallows what comes behind it
      const before = tags(text);
      const added = addTag(text, spelled(name), value);
      const found = tags(added);
      expect(found.slice(0, -1).map(said)).toEqual(before.map(said));
      expect(found.at(-1)?.name).toBe(name);
      expect(found.at(-1)?.items.map((item) => item.text)).toEqual([value]);
      expect(removeTag(added, found.length - 1).replace(/[\s,]+$/, "")).toBe(text.replace(/[\s,]+$/, ""));
    }),
    RUNS,
  );
});

test("a trigger word goes in once, leaves every tag as it is, and goes out again", () => {
  fc.assert(
    fc.property(prompt, fc.constantFrom("zvz", "ink style", "c++ (wow)", "naïve"), (text, word) => {
      const before = tags(text).map(said);
      const added = addWord(text, word);
      expect(findWord(added, word)).not.toBeNull();
      expect(addWord(added, word.toUpperCase())).toBe(added);
      expect(tags(added).map(said)).toEqual(before);
      expect(tags(removeWord(added, word)).map(said)).toEqual(before);
    }),
    RUNS,
  );
  expect(toggleWord(toggleWord("a castle <lora:ink:1>", "zvz"), "zvz")).toBe("a castle <lora:ink:1>");
});
