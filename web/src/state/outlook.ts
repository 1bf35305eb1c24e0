/** What a plan's file will be, as far as the curve of its mix knows: never nearer to the mix, nor smaller, than what comes out. */

import type { Curve, Point } from "../api/client";
import { boundOf, maxRankOf, typeOf, type Plan } from "./plan";

export interface Outlook extends Point {
  /** Whether the file may be nearer to the mix than these errors. */
  readonly atMost: boolean;
}

/** null where the curve, which is that of LoRAs, does not tell; `untold` says why. */
export function expected(plan: Plan, curve: Curve): Outlook | null {
  const type = typeOf(plan);
  if (type === "lokr") return null;
  if (plan.goal === "exact") {
    const exact = type === "full" ? curve.full : type === "lora" ? curve.exact_lora : curve.exact;
    return exact && told(exact);
  }
  const bound = boundOf(plan);
  if (bound === null) return ofRank(plan.rank, curve);
  const free = within(bound, curve);
  const most = maxRankOf(plan);
  return most === null || free.most <= most ? free : capped(free, ofRank(most, curve));
}

/** Why nothing is expected of this plan, and what to do about it. */
export function untold(plan: Plan): string {
  if (typeOf(plan) !== "lokr") return "Not every change in this mix has an exact LoRA. Choose “LoRA or whole”, or a rank, an error or a share.";
  const lost = plan.goal === "exact" ? "Nothing is left out. How large it is" : "How far it is from the mix, and how large,";
  return `${lost} is known when it is written: the curve is that of LoRAs.`;
}

/** Between two ranks of the curve: the errors of the smaller one, the size of the larger one. */
function ofRank(rank: number, curve: Curve): Outlook {
  const last = curve.ranks.at(-1) ?? curve.exact;
  const fewer = curve.ranks.findLast((point) => point.most <= rank) ?? last;
  return between(fewer, curve.ranks.find((point) => point.most >= rank) ?? last);
}

/** Between two bounds of the curve: the errors of the looser one, but none above this bound, and the ranks of the stricter one. */
function within(bound: number, curve: Curve): Outlook {
  const more = curve.bounds.find(({ error }) => error <= bound + 1e-12)?.point ?? curve.ranks.at(-1) ?? curve.exact;
  const fewer = curve.bounds.findLast(({ error }) => error >= bound - 1e-12)?.point;
  return between({ ...more, error: Math.min(bound, fewer?.error ?? 1), worst: Math.min(bound, fewer?.worst ?? 1) }, more);
}

function between(fewer: Point, more: Point): Outlook {
  return { ...more, error: fewer.error, worst: fewer.worst, atMost: fewer.error !== more.error };
}

/** A bound with a largest rank: every module has the smaller of its two ranks, and so the larger of their two errors. */
function capped(free: Outlook, rank: Outlook): Outlook {
  return {
    least: Math.min(free.least, rank.least),
    most: Math.min(free.most, rank.most),
    error: Math.min(1, Math.hypot(free.error, rank.error)),
    worst: Math.max(free.worst, rank.worst),
    values: Math.min(free.values, rank.values),
    atMost: true,
  };
}

function told(point: Point): Outlook {
  return { ...point, atMost: false };
}
