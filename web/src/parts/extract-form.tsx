/** What the file may be, and where it goes. */

import { useEffect, useState, type ReactNode } from "react";

import { api, type Curve, type ExtractPlaces, type Mistake } from "../api/client";
import { changes } from "../prompt/mix";
import { fileName, type Precision } from "../state/plan";
import { useShared } from "../state/page";
import { ExtractSize, KINDS, SIZES } from "./extract-size";
import { Check, Field } from "./fields";

/** Fields of a request that have a place here, where what is wrong with them is shown. */
export const PLACED: readonly string[] = [...SIZES, ...KINDS, "name", "dialect", "base", "flatten"];

/** `curve` tells which components and ranks there are, `wrong` what keeps it or the file from being made; `children` is what the file
 *  will be. */
export function ExtractForm({ curve, wrong, children }: { curve: Curve | null; wrong: Mistake | null; children: ReactNode }) {
  const { extracting } = useShared();
  const { plan, mistake, asking, set } = extracting;
  const told = (field: string) => (wrong?.field === field ? wrong.message : "");
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
  return (
    <>
      <ExtractSize curve={curve} wrong={wrong} />
      {curve !== null && <Components curve={curve} />}
      <div className="options two">
        <Field label="Name" wide wrong={told("name")}>
          {(id, said) => (
            <input id={id} value={plan.name} placeholder={fileName({ ...plan, name: "" })} maxLength={100} autoComplete="off" spellCheck={false} onChange={(event) => set({ name: event.target.value })} {...said} />
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
        <Field label="Naming" wrong={told("dialect")}>
          {(id, said) => (
            <select id={id} value={plan.dialect} onChange={(event) => set({ dialect: event.target.value })} {...said}>
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
        <Check label="Read the base’s weights, for DoRA, GLoRA, IA3, OFT and BOFT" checked={plan.weights} wrong={told("base")} onChange={(weights) => set({ weights })} />
        {(changes(plan.mix) || plan.flatten || told("flatten") !== "") && (
          <Check label="Take the mean of strengths that change by step" checked={plan.flatten} wrong={told("flatten")} onChange={(flatten) => set({ flatten })} />
        )}
        <Check label="Replace a file of this name" checked={plan.overwrite} onChange={(overwrite) => set({ overwrite })} />
      </div>
      {mistake !== null && mistake.field !== "mix" && !PLACED.includes(mistake.field ?? "") && <p className="wrong" role="alert">{mistake.message}</p>}
      {children}
      <div className="draw">
        <button type="submit" className="primary" disabled={asking || plan.mix.trim() === ""}>Save as {fileName(plan)}</button>
      </div>
    </>
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
