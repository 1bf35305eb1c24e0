/** Laws of the page's state: jobs never go back, drafts survive a visit, a recipe draws the same again. */

import { expect, test } from "vitest";

import type { DrawnPicture, Job, Network } from "../src/api/client";
import { change, EMPTY, load, recipe, request, save, type Draft } from "../src/state/draft";
import { hear, pictures } from "../src/state/jobs";
import { ALL, shown } from "../src/state/library";

const drawn: DrawnPicture = { id: "p", url: "/api/v1/pictures/p", seed: 7, width: 64, height: 64, recipe: "", notes: [] };
const job = (id: string, created: string, values: Partial<Job> = {}): Job => ({
  kind: "draw",
  id,
  created,
  state: "running",
  request: request(EMPTY),
  place: 0,
  step: 0,
  steps: 10,
  rate: 0,
  seconds_left: null,
  preview: null,
  pictures: [],
  report: "",
  notes: [],
  mistake: null,
  ...values,
});

test("jobs are shown newest first, and a list replaces what is gone", () => {
  const two = hear(hear([], { kind: "one", job: job("a", "2026-01-01") }), { kind: "one", job: job("b", "2026-01-02") });
  expect(two.map(({ id }) => id)).toEqual(["b", "a"]);
  expect(hear(two, { kind: "all", jobs: [job("a", "2026-01-01")] }).map(({ id }) => id)).toEqual(["a"]);
});

test("late news do not make a job go back", () => {
  const known = [job("a", "2026-01-01", { step: 5 })];
  expect(hear(known, { kind: "one", job: job("a", "2026-01-01", { step: 3 }) })[0]?.step).toBe(5);
  expect(hear(known, { kind: "all", jobs: [job("a", "2026-01-01", { step: 6 })] })[0]?.step).toBe(6);
  const over = [job("a", "2026-01-01", { state: "done", step: 10 })];
  expect(hear(over, { kind: "one", job: job("a", "2026-01-01", { step: 10 }) })[0]?.state).toBe("done");
});

test("pictures come in the order of jobs and seeds", () => {
  const jobs = [job("b", "2026-01-02", { pictures: [drawn, { ...drawn, id: "q", seed: 8 }] }), job("a", "2026-01-01", { pictures: [drawn] })];
  expect(pictures(jobs).map(({ job: of, picture }) => of.id + picture.id)).toEqual(["bp", "bq", "ap"]);
});

test("two edits in a row both count", () => {
  const first = change(EMPTY, { kind: "edit", edit: (text) => `${text}a` });
  expect(change(first, { kind: "edit", edit: (text) => `${text}b` }).prompt).toBe("ab");
});

test("a draft survives a visit; what is not of its kind does not", () => {
  const draft: Draft = { ...EMPTY, prompt: "a <lora:ink:1>", seed: 7, sampler: "Euler", mode: "merge", pictures: 4 };
  const box = new Map<string, string>();
  const storage = { getItem: (name: string) => box.get(name) ?? null, setItem: (name: string, value: string) => void box.set(name, value) };
  save(storage, draft);
  expect(load(storage)).toEqual(draft);
  box.set("loraloom.draft", '{"prompt": 7, "seed": "x", "mode": "odd", "pictures": 2, "stranger": 1}');
  expect(load(storage)).toEqual({ ...EMPTY, pictures: 2 });
  for (const broken of ["{", "null", "[]", "7"]) {
    box.set("loraloom.draft", broken);
    expect(load(storage)).toEqual(EMPTY);
  }
});

test("a recipe asks for the same picture", () => {
  const draft: Draft = { ...EMPTY, prompt: "a", negative: "b", steps: 4, width: 64, height: 64, seed: 5, pictures: 3 };
  expect(request(recipe(request(draft), drawn))).toEqual({ ...request(draft), seed: 7, pictures: 1 });
});

test("a network is shown if it has every word, in any case", () => {
  const network = { name: "delft", folder: "styles", family: "tiny", base: "tiny", types: ["LoRA"], triggers: ["zvz"] } as unknown as Network;
  const count = (values: Partial<typeof ALL>) => shown([network], { ...ALL, ...values }).length;
  expect([count({}), count({ words: " ZVZ del " }), count({ words: "zvz x" }), count({ family: "sd1" }), count({ type: "LoRA" })]).toEqual([1, 1, 0, 0, 1]);
});
