/** What will be saved next: the mix, how large its file may be, and its place; and what the curve says of it. */

import type { CombineRequest, Curve, ExtractRequest, Point } from "../api/client";
import { suggestedName } from "../prompt/mix";

export type Goal = "exact" | "rank" | "error" | "energy";
export type Precision = "fp16" | "bf16" | "fp32";

export interface Plan {
  readonly mix: string;
  readonly goal: Goal;
  readonly rank: number;
  /** A part of the change, 0 to 1. */
  readonly error: number;
  /** A share of the squared singular values, 0 to 1. */
  readonly energy: number;
  /** null: all. */
  readonly components: readonly string[] | null;
  /** Whether the base's own weights are read: some types change a weight as it is. */
  readonly weights: boolean;
  /** Whether strengths that change by step count with their mean; a file has one strength for all steps. */
  readonly flatten: boolean;
  /** "": as is suggested. */
  readonly name: string;
  /** null: the first. */
  readonly folder: string | null;
  readonly dialect: string;
  /** null: fp32 where it is exact, else fp16. */
  readonly precision: Precision | null;
  readonly overwrite: boolean;
}

export const NEW: Plan = {
  mix: "",
  goal: "exact",
  rank: 16,
  error: 0.05,
  energy: 0.99,
  components: null,
  weights: false,
  flatten: false,
  name: "",
  folder: null,
  dialect: "kohya",
  precision: null,
  overwrite: false,
};

/** What the curve is asked for; `base` is the name of the server's. */
export function curveRequest(plan: Plan, base: string | null): CombineRequest {
  return {
    mix: plan.mix,
    components: plan.components === null ? null : [...plan.components],
    base: plan.weights ? base : null,
    dialect: plan.dialect,
    flatten: plan.flatten,
  };
}

export function extractRequest(plan: Plan, base: string | null): ExtractRequest {
  return {
    ...curveRequest(plan, base),
    ...(plan.goal === "exact" ? {} : { [plan.goal]: plan[plan.goal] }),
    dtype: plan.precision,
    name: fileName(plan),
    folder: plan.folder,
    overwrite: plan.overwrite,
  };
}

export function fileName(plan: Plan): string {
  return plan.name.trim() || suggestedName(plan.mix);
}

/** The bound on the error of every module that the goal sets; null where it sets none. Energy says the same in squares. */
export function boundOf(plan: Plan): number | null {
  if (plan.goal === "error") return plan.error;
  return plan.goal === "energy" ? Math.sqrt(1 - plan.energy) : null;
}

/** What the file will be, as far as the curve knows: between two ranks it has the error of the smaller one, between two bounds the
 *  ranks of the stricter one. */
export function expected(plan: Plan, curve: Curve): Point | null {
  const last = curve.ranks.at(-1);
  if (plan.goal === "exact" || last === undefined) return curve.exact;
  if (plan.goal === "rank") return curve.ranks.findLast((point) => point.most <= plan.rank) ?? last;
  const bound = boundOf(plan) ?? 0;
  return curve.bounds.find(({ error }) => error <= bound + 1e-12)?.point ?? last;
}

/** Bytes of a file of so many values; what is beside the tensors is small. */
export function bytes(values: number, plan: Plan): number {
  const precision = plan.precision ?? (plan.goal === "exact" ? "fp32" : "fp16");
  return values * (precision === "fp32" ? 4 : 2);
}
