/** The page reads tags as the server does: cases.json is what the server's parser found (tools/prompt_cases.py). */

import { expect, test } from "vitest";

import { itemOf, type StrengthKey } from "../../src/prompt/edits";
import { isSchedule, plainNumber } from "../../src/prompt/numbers";
import { placeOf } from "../../src/prompt/places";
import { tags } from "../../src/prompt/tokens";
import cases from "./cases.json";

interface Case {
  text: string;
  right: boolean;
  tags: { name: string; column: number; length: number; strengths: Partial<Record<StrengthKey, number | string>> }[];
}

const all = cases as Case[];

test("the cases hold tags, mistakes and schedules", () => {
  expect(all.length).toBeGreaterThan(300);
  expect(all.filter((each) => each.right && each.tags.length > 0).length).toBeGreaterThan(20);
  expect(all.filter((each) => !each.right).length).toBeGreaterThan(100);
});

test.each(all)("the tags of %j", ({ text, tags: expected }) => {
  const found = tags(text).filter((tag) => tag.name !== "");
  expect(found.map(({ name, start, stop }) => ({ name, start, stop }))).toEqual(
    expected.map(({ name, column, length }) => ({ name, ...placeOf(text, column, length) })),
  );
});

test.each(all.filter((each) => each.right))("the strengths of %j", ({ text, tags: expected }) => {
  const found = tags(text).filter((tag) => tag.name !== "");
  expected.forEach(({ strengths }, index) => {
    const tag = found[index];
    for (const key of ["first", "te", "te1", "te2", "te3", "unet", "in", "mid", "out"] as const) {
      const item = tag && itemOf(tag, key);
      const read = item && (plainNumber(item.text) ?? (isSchedule(item.text) ? "schedule" : item.text));
      expect(read, key).toEqual(strengths[key]);
    }
  });
});
