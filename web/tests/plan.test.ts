/** Laws of what is saved: one goal in a request and what goes with it, and how numbers are read. */

import fc from "fast-check";
import { expect, test } from "vitest";

import type { ModuleRow } from "../src/api/client";
import { percent, size } from "../src/state/amounts";
import { boundOf, bytes, extractRequest, NEW, type Plan } from "../src/state/plan";
import { clicked, ordered, WORST } from "../src/state/rows";
import { floor, linearAxis, line, logAxis } from "../src/state/scale";

const plan = (values: Partial<Plan>): Plan => ({ ...NEW, mix: "<lora:ink:1>", ...values });

test("a request has its goal and no other", () => {
  for (const goal of ["exact", "rank", "error", "energy"] as const) {
    const made = extractRequest(plan({ goal }), "tiny");
    expect(["rank", "error", "energy"].filter((name) => name in made)).toEqual(goal === "exact" ? [] : [goal]);
    expect(made.name).toBe("ink");
    expect(made.base).toBeNull();
  }
  expect(extractRequest(plan({ weights: true, name: " mine " }), "tiny")).toMatchObject({ base: "tiny", name: "mine" });
});

test("what a goal does not go with is not asked for", () => {
  const any = fc.record({
    goal: fc.constantFrom("exact", "rank", "error", "energy"),
    type: fc.constantFrom(null, "lora", "lokr", "full"),
    maxRank: fc.option(fc.integer({ min: 1, max: 4096 })),
    factor: fc.constantFrom(null, 2, -1),
  }) as fc.Arbitrary<Partial<Plan>>;
  fc.assert(
    fc.property(any, (values) => {
      const made = extractRequest(plan(values), null);
      const exact = values.goal === "exact";
      const bounded = values.goal === "error" || values.goal === "energy";
      expect(made.max_rank).toBe(bounded ? values.maxRank : null);
      expect(made.factor).toBe(!exact && values.type === "lokr" ? values.factor : null);
      expect(made.type).toBe(exact || values.type === "lokr" ? values.type : null);
    }),
  );
});

test("a bound, and the size of a number, follow from the goal", () => {
  expect(boundOf(plan({ goal: "energy", energy: 0.99 }))).toBeCloseTo(0.1);
  expect(boundOf(plan({ goal: "rank" }))).toBeNull();
  expect(bytes(100, plan({}))).toBe(400);
  expect(bytes(100, plan({ goal: "rank" }))).toBe(200);
});

test("amounts are short and say their unit", () => {
  expect([0, 1, 0.39188, 0.0042, 0.0001, 5.24e-8].map(percent)).toEqual(["0", "100 %", "39 %", "0.42 %", "0.01 %", "5.2·10⁻⁸"]);
  expect([0, 999, 1000, 558_123, 2_700_000, 1e12].map(size)).toEqual(["0 bytes", "999 bytes", "1 kB", "558 kB", "2.7 MB", "1000 GB"]);
});

test("axes put their ends at their ends and keep order", () => {
  fc.assert(
    fc.property(fc.double({ min: 1e-9, max: 2, noNaN: true }), fc.double({ min: 1e-9, max: 2, noNaN: true }), (one, other) => {
      const axis = logAxis(1e-4, 1, 200, 10);
      expect(axis.at(Math.min(one, other))).toBeGreaterThanOrEqual(axis.at(Math.max(one, other)));
      expect(axis.at(one)).toBeLessThanOrEqual(200);
      expect(axis.at(one)).toBeGreaterThanOrEqual(10);
    }),
  );
  expect(logAxis(1e-3, 1, 0, 3).ticks.map((tick) => Math.round(Math.log10(tick)))).toEqual([-3, -2, -1, 0]);
  for (const most of [2, 16, 64, 300, 4096]) expect(linearAxis(1, most, 0, 1, 6).ticks.length).toBeLessThanOrEqual(7);
  expect(line([[0, 1], [2.25, 3]])).toBe("M0.0 1.0L2.3 3.0");
  expect([floor([]), floor([0.5, 0]), floor([0.003]), floor([1e-12])]).toEqual([0.01, 0.01, 0.001, 1e-8]);
});

test("a table begins with the worst; a second click turns it around", () => {
  const row = (module: string, written: number): ModuleRow => ({ module, type: "lora", rank: 1, ranks: 2, error: 0, written, output: written });
  const rows = [row("b.10", 0.1), row("b.9", 0.3), row("a", 0.1)];
  const names = (order: typeof WORST) => ordered(rows, order).map(({ module }) => module);
  expect(names(WORST)).toEqual(["b.9", "b.10", "a"]);
  expect(names(clicked(WORST, "module"))).toEqual(["a", "b.9", "b.10"]);
  expect(names(clicked(WORST, "written"))).toEqual(["b.10", "a", "b.9"]);
});
