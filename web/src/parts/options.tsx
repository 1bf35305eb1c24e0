/** Seed, size, steps and the rest. An empty field is what the base does by itself, and shows it. */

import { useId, type ReactNode } from "react";

import type { Draft } from "../state/draft";
import { pictures } from "../state/jobs";
import { useShared } from "../state/page";

export function Options() {
  const { draft, base, samplers, jobs, set } = useShared();
  const last = pictures(jobs)[0]?.picture.seed ?? null;
  return (
    <div className="options">
      <Field label="Seed">
        {(id) => (
          <span className="seed">
            <input
              id={id}
              type="number"
              min={0}
              max={2 ** 53}
              placeholder="random"
              value={draft.seed ?? ""}
              onChange={(event) => set({ seed: wholeOrNull(event.target.value) })}
            />
            <button type="button" className="icon" aria-pressed={draft.seed !== null} aria-label="Keep the seed" title={draft.seed === null ? "Keep the last seed" : "A new seed each time"} onClick={() => set({ seed: draft.seed === null ? (last ?? Math.floor(Math.random() * 2 ** 32)) : null })}>
              <svg viewBox="0 0 24 24" aria-hidden="true">
                <path d={draft.seed === null ? "M7 11V7a5 5 0 0 1 9.6-2M5 11h14v10H5z" : "M7 11V7a5 5 0 0 1 10 0v4M5 11h14v10H5z"} />
              </svg>
            </button>
          </span>
        )}
      </Field>
      <NumberField label="Pictures" name="pictures" min={1} max={1000} usual={1} />
      <NumberField label="Steps" name="steps" min={1} max={1000} usual={base?.steps} />
      <NumberField label="Guidance" name="guidance" min={0} max={100} step={0.5} usual={base?.guidance} />
      <NumberField label="Width" name="width" min={8} max={8192} step={8} usual={base?.width} />
      <NumberField label="Height" name="height" min={8} max={8192} step={8} usual={base?.height} />
      <details className="advanced">
        <summary>More</summary>
        <div className="options">
          <Field label="Sampler">
            {(id) => (
              <select id={id} value={draft.sampler ?? ""} onChange={(event) => set({ sampler: event.target.value || null })}>
                <option value="">{base?.sampler ? `${base.sampler} (the base's own)` : "the base's own"}</option>
                {samplers.map((name) => <option key={name}>{name}</option>)}
              </select>
            )}
          </Field>
          <Field label="LoRAs run">
            {(id) => (
              <select id={id} value={draft.mode} onChange={(event) => set({ mode: event.target.value as Draft["mode"] })}>
                <option value="auto">as is best</option>
                <option value="merge">merged into the weights</option>
                <option value="branch">beside the weights</option>
              </select>
            )}
          </Field>
          <label className="check">
            <input type="checkbox" checked={draft.strict} onChange={(event) => set({ strict: event.target.checked })} />
            Refuse LoRAs of which a part does not fit
          </label>
          <label className="check">
            <input type="checkbox" checked={draft.force} onChange={(event) => set({ force: event.target.checked })} />
            Run LoRAs of another family where shapes fit
          </label>
        </div>
      </details>
    </div>
  );
}

function Field({ label, children }: { label: string; children: (id: string) => ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
    </div>
  );
}

type Counted = "pictures" | "steps" | "guidance" | "width" | "height";

function NumberField(props: { label: string; name: Counted; min: number; max: number; step?: number; usual: number | null | undefined }) {
  const { draft, set } = useShared();
  const value = draft[props.name];
  return (
    <Field label={props.label}>
      {(id) => (
        <input
          id={id}
          type="number"
          min={props.min}
          max={props.max}
          step={props.step ?? 1}
          placeholder={props.usual?.toString() ?? "auto"}
          value={props.name === "pictures" && value === 1 ? "" : (value ?? "")}
          onChange={(event) => {
            const given = numberOrNull(event.target.value);
            set({ [props.name]: props.name === "pictures" ? (given ?? 1) : given });
          }}
        />
      )}
    </Field>
  );
}

function numberOrNull(text: string): number | null {
  return text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text);
}

function wholeOrNull(text: string): number | null {
  const value = numberOrNull(text);
  return value === null ? null : Math.max(0, Math.trunc(value));
}
