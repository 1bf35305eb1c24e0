/** How large the file may be, and of which type its adapters are: what does not go together is not offered. */

import type { Curve, Mistake } from "../api/client";
import { factorOf, typeOf, type Goal, type Kind } from "../state/plan";
import { useShared } from "../state/page";
import { Check, Choices, Field, Part, rounded, Slider } from "./fields";

const GOALS: readonly (readonly [Goal, string, string])[] = [
  ["exact", "Exact", "Nothing is lost: ranks add up."],
  ["rank", "One rank", "The best there is of this rank, in every module."],
  ["error", "An error", "For each module the smallest rank that keeps its change within this."],
  ["energy", "A share", "For each module the smallest rank that keeps this share of its squared singular values."],
];
const EXACT_TYPES: readonly (readonly [Kind | null, string, string])[] = [
  [null, "LoRA or whole", "A LoRA in every module; the whole change where a LoRA would be no smaller."],
  ["lora", "LoRA", "A LoRA in every module, also where it is larger. A change that has no exact one is refused."],
  ["lokr", "LoKr", "The whole change as a Kronecker product, whose first factor is 1."],
  ["full", "Whole", "The change itself, as large as the modules of the base that it is for."],
];
const TYPES: readonly (readonly [Kind | null, string, string])[] = [
  [null, "LoRA", "A LoRA in every module."],
  ["lokr", "LoKr", "A Kronecker product of a small matrix and a second one, which has the rank. Few mixes of LoRAs are near one whose first factor is above 1."],
];
const FACTORS: readonly (readonly [string, string])[] = [
  ["", "the best for each module"],
  ["2", "2"],
  ["4", "4"],
  ["8", "8"],
  ["16", "16"],
  ["-1", "near the square root"],
];
/** Of a request: a mistake in one of these is shown at the size, or at the type. */
export const SIZES: readonly string[] = ["rank", "error", "energy", "max_rank"];
export const KINDS: readonly string[] = ["type", "factor"];

/** `curve` tells which ranks there are. */
export function ExtractSize({ curve, wrong }: { curve: Curve | null; wrong: Mistake | null }) {
  const { plan, set } = useShared().extracting;
  const most = curve?.ranks.at(-1)?.most ?? 64;
  const told = (fields: readonly string[]) => (wrong !== null && fields.includes(wrong.field ?? "") ? wrong.message : "");
  const bounded = plan.goal === "error" || plan.goal === "energy";
  return (
    <>
      <Choices legend="Size" choices={GOALS} value={plan.goal} wrong={told(SIZES)} onChange={(goal) => set({ goal })}>
        {plan.goal === "rank" && <Rank label="Rank" most={most} value={plan.rank} onChange={(rank) => set({ rank })} />}
        {plan.goal === "error" && <Part label="Error" value={plan.error} onChange={(error) => set({ error })} />}
        {plan.goal === "energy" && <Slider label="Share" min={50} max={100} step={0.1} value={rounded(plan.energy * 100)} unit="%" onChange={(share) => set({ energy: Math.min(1, Math.max(0.001, share / 100)) })} />}
        {bounded && <Check label="No rank above a largest one, whatever is lost" checked={plan.maxRank !== null} onChange={(on) => set({ maxRank: on ? plan.rank : null })} />}
        {bounded && plan.maxRank !== null && <Rank label="Largest" most={most} value={plan.maxRank} onChange={(maxRank) => set({ maxRank })} />}
      </Choices>
      <Choices legend="Type" choices={plan.goal === "exact" ? EXACT_TYPES : TYPES} value={typeOf(plan)} wrong={told(KINDS)} onChange={(type) => set({ type })}>
        {plan.goal !== "exact" && plan.type === "lokr" && (
          <Field label="How large its first factor may be">
            {(id) => (
              <select id={id} value={factorOf(plan) ?? ""} onChange={(event) => set({ factor: event.target.value === "" ? null : Number(event.target.value) })}>
                {FACTORS.map(([factor, label]) => <option key={factor} value={factor}>{label}</option>)}
              </select>
            )}
          </Field>
        )}
      </Choices>
    </>
  );
}

function Rank({ label, most, value, onChange }: { label: string; most: number; value: number; onChange: (rank: number) => void }) {
  return <Slider label={label} min={1} max={Math.max(most, value)} step={1} value={value} unit="" onChange={(rank) => onChange(Math.min(4096, Math.max(1, Math.round(rank))))} />;
}
