/** What will be saved next: the mix, how large its file may be, of which type it is, and its place. */

import type { CombineRequest, ExtractRequest } from "../api/client";
import { suggestedName } from "../prompt/mix";

export type Goal = "exact" | "rank" | "error" | "energy";
export type Kind = "lora" | "lokr" | "full";
export type Precision = "fp16" | "bf16" | "fp32";

/** What a goal does not go with is remembered and not asked for. */
export interface Plan {
  readonly mix: string;
  readonly goal: Goal;
  readonly rank: number;
  /** A part of the change, 0 to 1. */
  readonly error: number;
  /** A share of the squared singular values, 0 to 1. */
  readonly energy: number;
  /** With an error or a share, no rank is above this; null: whatever they take. */
  readonly maxRank: number | null;
  /** null: a LoRA, or the whole change where a LoRA would be no smaller. */
  readonly type: Kind | null;
  /** How large the first factor of a LoKr may be, -1 near the square root; null: whichever is best. */
  readonly factor: number | null;
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
  maxRank: null,
  type: null,
  factor: null,
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
    max_rank: maxRankOf(plan),
    type: typeOf(plan),
    factor: factorOf(plan),
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

export function maxRankOf(plan: Plan): number | null {
  return boundOf(plan) === null ? null : plan.maxRank;
}

/** Only an exact file can be of whole changes; with a rank, an error or a share what is no LoKr is a LoRA. */
export function typeOf(plan: Plan): Kind | null {
  return plan.goal === "exact" || plan.type === "lokr" ? plan.type : null;
}

/** An exact LoKr has 1 as its first factor. */
export function factorOf(plan: Plan): number | null {
  return plan.goal !== "exact" && plan.type === "lokr" ? plan.factor : null;
}

/** Bytes of a file of so many values; what is beside the tensors is small. */
export function bytes(values: number, plan: Plan): number {
  const precision = plan.precision ?? (plan.goal === "exact" ? "fp32" : "fp16");
  return values * (precision === "fp32" ? 4 : 2);
}
