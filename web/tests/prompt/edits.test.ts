/** What edits make of prompts that people write. */

import { expect, test } from "vitest";

import { addTag, clearStrength, removeTag, setStrength, spelled } from "../../src/prompt/edits";
import { curve } from "../../src/prompt/numbers";
import { placeOf } from "../../src/prompt/places";
import { meant, rows } from "../../src/prompt/rows";
import { addWord, findWord, removeWord } from "../../src/prompt/words";

test.each([
  ["a <lora:ink:0.8> b", "first", "a <lora:ink:1.2> b"],
  ["a <lora:ink> b", "first", "a <lora:ink:1.2> b"],
  ["a <LoRA: ink : te = 0.5 > b", "first", "a <LoRA: ink :1.2: te = 0.5 > b"],
  ["a <lora:ink:te = 0.5 > b", "te", "a <lora:ink:te = 1.2 > b"],
  ["a <lora:ink:0.5:0.8> b", "unet", "a <lora:ink:0.5:1.2> b"],
  ["a <lora:ink:0.5:0.8:dit=2> b", "unet", "a <lora:ink:0.5:0.8:dit=1.2> b"],
  ["a <lora:ink:1> b", "mid", "a <lora:ink:1:mid=1.2> b"],
  ['<lora:"odd: name":1>', "first", '<lora:"odd: name":1.2>'],
] as const)("%s with %s = 1.2", (text, key, expected) => {
  expect(setStrength(text, 0, key, "1.2")).toBe(expected);
});

test.each([
  ["<lora:ink:0.8:te=0.5>", "te", "<lora:ink:0.8>"],
  ["<lora:ink:0.8:te=0.5>", "first", "<lora:ink:te=0.5>"],
  ["<lora:ink:0.8:1>", "first", "<lora:ink:0.8:1>"],
  ["<lora:ink:0.8:1>", "unet", "<lora:ink:0.8>"],
  ["<lora:ink:0.8:1:4>", "unet", "<lora:ink:0.8:1:4>"],
] as const)("%s without %s", (text, key, expected) => {
  expect(clearStrength(text, 0, key)).toBe(expected);
});

test.each([
  ["<lora:ink:1>", ""],
  ["a castle <lora:ink:1>", "a castle"],
  ["<lora:ink:1> a castle", "a castle"],
  ["a castle <lora:ink:1> at night", "a castle at night"],
  ["a castle, <lora:ink:1>, at night", "a castle, at night"],
  ["a castle <lora:ink:1>, at night", "a castle, at night"],
  ["a castle\n<lora:ink:1> at night", "a castle\nat night"],
  ["ca<lora:ink:1>stle", "castle"],
])("%j without its tag", (text, expected) => {
  expect(removeTag(text, 0)).toBe(expected);
});

test("a name is spelled so that it reads back", () => {
  expect(["ink", "styles/neon", "odd: name", 'say "hi"', '"hi"', " x", "a<b"].map(spelled)).toEqual([
    "ink",
    "styles/neon",
    '"odd: name"',
    'say "hi"',
    '"\\"hi\\""',
    '" x"',
    '"a<b"',
  ]);
  expect(addTag("a castle", "ink", "0.8")).toBe("a castle <lora:ink:0.8>");
  expect(addTag("", "ink", "1")).toBe("<lora:ink:1>");
});

test.each([
  ["", "zvz", "zvz"],
  ["a castle", "zvz", "a castle, zvz"],
  ["a castle,", "zvz", "a castle, zvz"],
  ["a castle <lora:ink:1>", "zvz", "a castle, zvz <lora:ink:1>"],
  ["<lora:ink:1>", "zvz", "zvz <lora:ink:1>"],
  ["a ZVZ castle", "zvz", "a ZVZ castle"],
  ["zvzvz", "zvz", "zvzvz, zvz"],
  ["<lora:zvz:1>", "zvz", "zvz <lora:zvz:1>"],
])("%j with %s is %j", (text, word, expected) => {
  expect(addWord(text, word)).toBe(expected);
});

test("a word leaves with its comma, and is found as a whole phrase only", () => {
  expect(removeWord("a castle, zvz, at night", "zvz")).toBe("a castle, at night");
  expect(removeWord("a castle, zvz <lora:ink:1>", "zvz")).toBe("a castle <lora:ink:1>");
  expect(findWord("pen and ink\nstyle", "ink style")).toEqual({ start: 8, stop: 17 });
  expect(findWord("inky style", "ink")).toBeNull();
});

test("rows show what is given", () => {
  const [row] = rows("a <lora:ink:0.5:0.8:te1=0~1:lbw=OUTALL> <lora::1>");
  expect(row).toMatchObject({ index: 0, name: "ink", first: { number: 0.5, given: true } });
  expect(row?.others.map(({ key, number, text }) => [key, number, text])).toEqual([
    ["unet", 0.8, "0.8"],
    ["te1", null, "0~1"],
  ]);
  expect(row?.rest.map((item) => item.key)).toEqual(["lbw"]);
  expect(rows("<lora::1>")).toEqual([]);
});

test("a name means a network by tag, name, path or hash, and nothing where it is not clear", () => {
  const ink = { tag: "a/ink", name: "ink", folder: "a", hash: "0badcafe11" };
  const other = { tag: "b/ink", name: "ink", folder: "b", hash: "deadbeef22" };
  expect(["a/ink", "B/INK", "ink", "0badcafe", "0bad", "neon"].map((name) => meant(name, [ink, other])?.tag)).toEqual([
    "a/ink",
    "b/ink",
    undefined,
    "a/ink",
    undefined,
    undefined,
  ]);
});

test.each([
  ["0~1", [[0, 0], [1, 1]]],
  ["0.2@1,0.9@6", [[0, 0.2], [0, 0.2], [0.5, 0.2], [0.5, 0.9], [1, 0.9]]],
  ["1@0,0@50%", [[0, 1], [0, 1], [0.5, 1], [0.5, 0], [1, 0]]],
  ["0@1~1@11", [[0, 0], [0, 0], [1, 1], [1, 1]]],
  ["much", null],
  ["0,1", null],
])("the curve of %s over 11 steps", (text, expected) => {
  expect(curve(text, 11)?.map(({ at, value }) => [at, value]) ?? null).toEqual(expected);
});

test("a mistake's place is counted in characters", () => {
  expect(placeOf("🐙🐙 ab", 3, 1)).toEqual({ start: 5, stop: 6 });
  expect(placeOf("ab", 2, 1)).toEqual({ start: 2, stop: 2 });
});
