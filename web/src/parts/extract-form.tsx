/** How large the file may be, and where it goes. */

import { useEffect, useId, useState, type ReactNode } from "react";

import { api, type Curve, type ExtractPlaces } from "../api/client";
import { changes } from "../prompt/mix";
import { fileName, type Goal, type Precision } from "../state/plan";
import { useShared } from "../state/page";

const GOALS: readonly (readonly [Goal, string, string])[] = [
  ["exact", "Exact", "Nothing is lost: ranks add up."],
  ["rank", "One rank", "The best there is of this rank, in every module."],
  ["error", "An error", "For each module the smallest rank that keeps its change within this."],
  ["energy", "A share", "For each module the smallest rank that keeps this share of its squared singular values."],
];

/** `curve` tells which components and ranks there are; `children` is what the file will be. */
export function ExtractForm({ curve, children }: { curve: Curve | null; children: ReactNode }) {
  const { extracting } = useShared();
  const { plan, mistake, asking, set } = extracting;
  const [places, setPlaces] = useState<ExtractPlaces | null>(null);
  useEffect(() => {
    let over = false;
    api.places().then(
      (found) => over || setPlaces(found),
      () => undefined, // the connection's trouble is told at the top of the page
    );
    return () => {
      over = true;
    };
  }, []);
  const most = curve?.ranks.at(-1)?.most ?? 64;
  return (
    <>
      <Goals most={most} />
      {curve !== null && <Components curve={curve} />}
      <div className="options two">
        <Field label="Name" wide wrong={mistake?.field === "name" ? mistake.message : ""}>
          {(id, told) => (
            <input id={id} value={plan.name} placeholder={fileName({ ...plan, name: "" })} maxLength={100} autoComplete="off" spellCheck={false} onChange={(event) => set({ name: event.target.value })} {...told} />
          )}
        </Field>
        {places !== null && places.folders.length > 1 && (
          <Field label="Folder" wide>
            {(id) => (
              <select id={id} value={plan.folder ?? ""} onChange={(event) => set({ folder: event.target.value || null })}>
                {places.folders.map((folder, index) => <option key={folder.id} value={index === 0 ? "" : folder.id}>{folder.name}</option>)}
              </select>
            )}
          </Field>
        )}
        <Field label="Naming">
          {(id) => (
            <select id={id} value={plan.dialect} onChange={(event) => set({ dialect: event.target.value })}>
              {(places?.dialects ?? [{ name: "kohya", title: "kohya" }]).map((each) => <option key={each.name} value={each.name}>{each.title}</option>)}
            </select>
          )}
        </Field>
        <Field label="Precision">
          {(id) => (
            <select id={id} value={plan.precision ?? ""} onChange={(event) => set({ precision: (event.target.value || null) as Precision | null })}>
              <option value="">{plan.goal === "exact" ? "float32 (usual)" : "float16 (usual)"}</option>
              <option value="fp16">float16</option>
              <option value="bf16">bfloat16</option>
              <option value="fp32">float32</option>
            </select>
          )}
        </Field>
        <label className="check">
          <input type="checkbox" checked={plan.weights} onChange={(event) => set({ weights: event.target.checked })} />
          Read the base’s weights, for DoRA, GLoRA, IA3, OFT and BOFT
        </label>
        {(changes(plan.mix) || plan.flatten) && (
          <label className="check">
            <input type="checkbox" checked={plan.flatten} onChange={(event) => set({ flatten: event.target.checked })} />
            Take the mean of strengths that change by step
          </label>
        )}
        <label className="check">
          <input type="checkbox" checked={plan.overwrite} onChange={(event) => set({ overwrite: event.target.checked })} />
          Replace a file of this name
        </label>
      </div>
      {mistake !== null && mistake.field !== "name" && mistake.field !== "mix" && <p className="wrong" role="alert">{mistake.message}</p>}
      {children}
      <div className="draw">
        <button type="submit" className="primary" disabled={asking || plan.mix.trim() === ""}>Save as {fileName(plan)}</button>
      </div>
    </>
  );
}

function Goals({ most }: { most: number }) {
  const { plan, set } = useShared().extracting;
  const name = useId();
  const [, , help] = GOALS.find(([goal]) => goal === plan.goal) ?? GOALS[0] ?? ["", "", ""];
  return (
    <fieldset className="goals">
      <legend>Size</legend>
      <div className="choices">
        {GOALS.map(([goal, label]) => (
          <label key={goal} className="choice">
            <input type="radio" name={name} checked={plan.goal === goal} onChange={() => set({ goal })} />
            {label}
          </label>
        ))}
      </div>
      <p className="quiet">{help}</p>
      {plan.goal === "rank" && <Slider label="Rank" min={1} max={Math.max(most, plan.rank)} step={1} value={plan.rank} unit="" onChange={(rank) => set({ rank: Math.max(1, Math.round(rank)) })} />}
      {plan.goal === "error" && <Part label="Error" value={plan.error} onChange={(error) => set({ error })} />}
      {plan.goal === "energy" && <Slider label="Share" min={50} max={100} step={0.1} value={rounded(plan.energy * 100)} unit="%" onChange={(share) => set({ energy: Math.min(1, Math.max(0.001, share / 100)) })} />}
    </fieldset>
  );
}

/** A part of the change: its slider goes by powers, from 0.01 % to 70 %. */
function Part({ label, value, onChange }: { label: string; value: number; onChange: (value: number) => void }) {
  const place = Math.log10(Math.min(Math.max(value, 1e-4), 0.7));
  return (
    <div className="strength">
      <span className="strength-name">{label}</span>
      <input type="range" aria-label={label} min={-4} max={-0.155} step={0.005} value={place} onChange={(event) => onChange(Number((10 ** event.target.valueAsNumber).toPrecision(2)))} />
      <input type="number" className="number" aria-label={`${label} in percent`} min={0} max={99} step="any" value={rounded(value * 100)} onChange={(event) => Number.isFinite(event.target.valueAsNumber) && onChange(Math.min(0.99, Math.max(0, event.target.valueAsNumber / 100)))} />
      <span className="quiet">%</span>
    </div>
  );
}

interface SliderProps {
  readonly label: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly value: number;
  readonly unit: string;
  readonly onChange: (value: number) => void;
}

function Slider({ label, min, max, step, value, unit, onChange }: SliderProps) {
  const set = (given: number) => Number.isFinite(given) && onChange(given);
  return (
    <div className="strength">
      <span className="strength-name">{label}</span>
      <input type="range" aria-label={label} min={min} max={max} step={step} value={value} onChange={(event) => set(event.target.valueAsNumber)} />
      <input type="number" className="number" aria-label={`${label} as a number`} min={min} max={4096} step="any" value={value} onChange={(event) => set(event.target.valueAsNumber)} />
      <span className="quiet">{unit}</span>
    </div>
  );
}

/** Which components go into the file; those of the whole mix are remembered while fewer are chosen. */
function Components({ curve }: { curve: Curve }) {
  const { plan, set } = useShared().extracting;
  const [known, setKnown] = useState<readonly string[]>([]);
  if (plan.components === null && known.join() !== curve.components.join()) setKnown(curve.components);
  if (known.length < 2) return null;
  const chosen = plan.components ?? known;
  const toggle = (name: string) => {
    const wanted = known.filter((each) => (each === name ? !chosen.includes(each) : chosen.includes(each)));
    if (wanted.length > 0) set({ components: wanted.length === known.length ? null : wanted });
  };
  return (
    <fieldset className="goals">
      <legend>Components</legend>
      <div className="choices">
        {known.map((name) => (
          <label key={name} className="choice">
            <input type="checkbox" checked={chosen.includes(name)} onChange={() => toggle(name)} />
            {name}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

interface FieldProps {
  readonly label: string;
  readonly wide?: boolean;
  readonly wrong?: string;
  readonly children: (id: string, told: { "aria-invalid"?: true; "aria-describedby"?: string }) => ReactNode;
}

function Field({ label, wide = false, wrong = "", children }: FieldProps) {
  const id = useId();
  return (
    <div className={wide ? "field wide" : "field"}>
      <label htmlFor={id}>{label}</label>
      {children(id, wrong === "" ? {} : { "aria-invalid": true, "aria-describedby": `${id}-wrong` })}
      {wrong !== "" && <p className="wrong" id={`${id}-wrong`} role="alert">{wrong}</p>}
    </div>
  );
}

function rounded(percent: number): number {
  return Number(percent.toPrecision(4));
}

