/** Fields of a form, each with its name and what is wrong with it. */

import { useId, type ReactNode } from "react";

type Told = { readonly "aria-invalid"?: true; readonly "aria-describedby"?: string };

interface FieldProps {
  readonly label: string;
  readonly wide?: boolean;
  readonly wrong?: string;
  readonly children: (id: string, told: Told) => ReactNode;
}

export function Field({ label, wide = false, wrong = "", children }: FieldProps) {
  const id = useId();
  return (
    <div className={wide ? "field wide" : "field"}>
      <label htmlFor={id}>{label}</label>
      {children(id, told(id, wrong))}
      <Wrong id={id} text={wrong} />
    </div>
  );
}

interface CheckProps {
  readonly label: string;
  readonly checked: boolean;
  readonly wrong?: string;
  readonly onChange: (checked: boolean) => void;
}

export function Check({ label, checked, wrong = "", onChange }: CheckProps) {
  const id = useId();
  return (
    <div className="checked">
      <label className="check">
        <input type="checkbox" checked={checked} onChange={(event) => onChange(event.target.checked)} {...told(id, wrong)} />
        {label}
      </label>
      <Wrong id={id} text={wrong} />
    </div>
  );
}

interface ChoicesProps<Value> {
  readonly legend: string;
  /** Each with its name and a sentence about it, which is seen while it is chosen. */
  readonly choices: readonly (readonly [Value, string, string])[];
  readonly value: Value;
  readonly wrong?: string;
  readonly onChange: (value: Value) => void;
  readonly children?: ReactNode;
}

/** One of a few. */
export function Choices<Value>({ legend, choices, value, wrong = "", onChange, children }: ChoicesProps<Value>) {
  const name = useId();
  return (
    <fieldset className="goals" {...told(name, wrong)}>
      <legend>{legend}</legend>
      <div className="choices">
        {choices.map(([each, label]) => (
          <label key={label} className="choice">
            <input type="radio" name={name} checked={each === value} onChange={() => onChange(each)} />
            {label}
          </label>
        ))}
      </div>
      <p className="quiet">{choices.find(([each]) => each === value)?.[2]}</p>
      {children}
      <Wrong id={name} text={wrong} />
    </fieldset>
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

export function Slider({ label, min, max, step, value, unit, onChange }: SliderProps) {
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

/** A part of the whole: its slider goes by powers, from 0.01 % to 70 %. */
export function Part({ label, value, onChange }: { label: string; value: number; onChange: (value: number) => void }) {
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

export function rounded(percent: number): number {
  return Number(percent.toPrecision(4));
}

function Wrong({ id, text }: { id: string; text: string }) {
  return text === "" ? null : <p className="wrong" id={`${id}-wrong`} role="alert">{text}</p>;
}

function told(id: string, wrong: string): Told {
  return wrong === "" ? {} : { "aria-invalid": true, "aria-describedby": `${id}-wrong` };
}
