/** Laws of what is expected: never nearer to the mix nor smaller than what comes out, and that itself where the curve has the place. */

import fc from "fast-check";
import { expect, test } from "vitest";

import type { Curve, Point } from "../src/api/client";
import { expected, untold } from "../src/state/outlook";
import { boundOf, maxRankOf, NEW, type Plan } from "../src/state/plan";

/** A mix of modules by their singular values, and what the server makes of it. */
type Mix = readonly (readonly number[])[];

function point(mix: Mix, rankOf: (module: readonly number[]) => number): Point {
  const squares = (values: readonly number[]) => values.reduce((sum, value) => sum + value ** 2, 0);
  const ranks = mix.map(rankOf);
  const left = mix.map((module, index) => squares(module.slice(ranks[index])));
  return {
    least: Math.min(...ranks),
    most: Math.max(...ranks),
    error: Math.sqrt(left.reduce((sum, each) => sum + each, 0) / squares(mix.flat())),
    worst: Math.max(...mix.map((module, index) => Math.sqrt((left[index] ?? 0) / squares(module)))),
    values: ranks.reduce((sum, rank, index) => sum + Math.max(rank, 1) * (index + 10), 0),
  };
}

/** The smallest rank whose error is at most `bound`. */
function rankFor(bound: number): (module: readonly number[]) => number {
  return (module) => [...module.keys(), module.length].find((rank) => point([module], () => rank).error <= bound) ?? module.length;
}

const RANKS = [1, 2, 3, 5, 8];
const BOUNDS = [0.7, 0.5, 0.2, 0.1];

function curveOf(mix: Mix): Curve {
  const last = Math.max(...mix.map(({ length }) => length));
  const ofRank = (rank: number) => point(mix, ({ length }) => Math.min(rank, length));
  const exact = ofRank(last);
  return {
    base: "tiny",
    modules: mix.length,
    components: ["unet"],
    exact,
    exact_lora: null,
    full: { ...exact, least: 0, most: 0, values: 9999 },
    ranks: [...RANKS.filter((rank) => rank < last), last].map(ofRank),
    bounds: BOUNDS.map((error) => ({ error, point: point(mix, rankFor(error)) })),
  };
}

/** What the server makes of a plan. */
function made(plan: Plan, mix: Mix): Point {
  const bound = boundOf(plan);
  const wanted = bound === null ? () => plan.rank : rankFor(bound);
  return point(mix, (module) => Math.min(wanted(module), module.length, maxRankOf(plan) ?? 4096));
}

const mixes: fc.Arbitrary<Mix> = fc.array(
  fc.array(fc.double({ min: 0.01, max: 1, noNaN: true }), { minLength: 1, maxLength: 12 }).map((values) => values.sort((one, other) => other - one)),
  { minLength: 1, maxLength: 6 },
);
const plans: fc.Arbitrary<Plan> = fc
  .record({
    goal: fc.constantFrom("rank", "error", "energy") as fc.Arbitrary<Plan["goal"]>,
    rank: fc.integer({ min: 1, max: 14 }),
    error: fc.oneof(fc.constantFrom(...BOUNDS), fc.double({ min: 0, max: 0.9, noNaN: true })),
    energy: fc.double({ min: 0.5, max: 0.999, noNaN: true }),
    maxRank: fc.option(fc.integer({ min: 1, max: 14 })),
  })
  .map((values) => ({ ...NEW, ...values }));

test("what comes out is as near and as small as was expected", () => {
  fc.assert(
    fc.property(mixes, plans, (mix, plan) => {
      const [hoped, found] = [expected(plan, curveOf(mix)), made(plan, mix)];
      if (hoped === null) throw new Error("nothing is expected");
      for (const name of ["error", "worst", "values", "most"] as const) expect(hoped[name]).toBeGreaterThanOrEqual(found[name] - 1e-9);
      if (!hoped.atMost) expect(hoped.error).toBeCloseTo(found.error);
    }),
    { numRuns: 500 },
  );
});

test("at the places of the curve it is what comes out", () => {
  fc.assert(
    fc.property(mixes, fc.constantFrom(...RANKS), fc.constantFrom(...BOUNDS), (mix, rank, error) => {
      for (const values of [{ goal: "rank", rank }, { goal: "error", error }, { goal: "error", error, maxRank: 12 }] as const) {
        const plan = { ...NEW, ...values };
        expect(expected(plan, curveOf(mix))).toEqual({ ...made(plan, mix), atMost: false });
      }
    }),
  );
});

test("a type has its own size, or words where the curve has none", () => {
  const curve = curveOf([[1, 0.5], [1, 0.1, 0.01]]);
  const plan = (values: Partial<Plan>): Plan => ({ ...NEW, ...values });
  expect(expected(plan({}), curve)).toMatchObject({ most: 3, error: 0, atMost: false });
  expect(expected(plan({ type: "full" }), curve)).toMatchObject({ most: 0, values: 9999 });
  expect(expected(plan({ type: "full", goal: "rank", rank: 2 }), curve)?.most).toBe(2);
  expect(expected(plan({ type: "lora" }), curve)).toBeNull();
  expect(untold(plan({ type: "lora" }))).toContain("has an exact LoRA");
  expect(expected(plan({ type: "lora" }), { ...curve, exact_lora: curve.exact })?.most).toBe(3);
  for (const goal of ["exact", "rank", "error", "energy"] as const) {
    expect(expected(plan({ type: "lokr", goal }), curve)).toBeNull();
    expect(untold(plan({ type: "lokr", goal }))).toContain("known when it is written");
  }
});
