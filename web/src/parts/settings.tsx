/** Settings. What is fixed elsewhere is shown, and says so. A change is kept as soon as its field is left. */

import { useId, useState, type ReactNode } from "react";

import { useShared } from "../state/page";

const LOADERS: readonly (readonly [string, string])[] = [
  ["auto", "loraloom's engine where it knows the base"],
  ["native", "always loraloom's engine"],
  ["diffusers", "always diffusers"],
];

export function SettingsPage() {
  const { settings } = useShared();
  if (settings === null) return <p className="waiting" role="status">Loading…</p>;
  return (
    <div className="settings">
      <section aria-labelledby="settings-networks">
        <h2 id="settings-networks">Networks</h2>
        <Setting name="lora_folders" label="LoRA folders" help="Searched at any depth, after the LoRAs of the package and before ./loras; one a line.">
          {(field) => <ListInput {...field} />}
        </Setting>
        <Setting name="default_strength" label="Default strength" help="Of a LoRA without a number, unless it has a preferred strength of its own.">
          {(field) => <NumberInput {...field} step={0.05} />}
        </Setting>
        <Setting name="auto_apply_triggers" label="Apply trigger words" help="Words that a LoRA was trained with are added to the prompt unasked: where it says _tags_, else at its end. −1 is all of them, 0 none.">
          {(field) => <NumberInput {...field} step={1} min={-1} />}
        </Setting>
        <Setting name="loader" label="LoRAs are run by" help="">
          {({ id, value, disabled, keep }) => (
            <select id={id} value={String(value)} disabled={disabled} onChange={(event) => keep(event.target.value)}>
              {LOADERS.map(([name, label]) => <option key={name} value={name}>{label}</option>)}
            </select>
          )}
        </Setting>
      </section>
      <section aria-labelledby="settings-drawing">
        <h2 id="settings-drawing">Drawing</h2>
        <Setting name="base" label="Base model" help="Its LoRAs fit; others are marked.">{(field) => <TextInput {...field} />}</Setting>
        <Setting name="output_folder" label="Pictures are kept in" help="">{(field) => <TextInput {...field} />}</Setting>
        <Setting name="model_folders" label="Folders of base models" help="">{(field) => <ListInput {...field} />}</Setting>
      </section>
      <p className="quiet">Kept in <code>{settings.file}</code></p>
    </div>
  );
}

interface FieldProps {
  readonly id: string;
  readonly value: unknown;
  readonly disabled: boolean;
  readonly keep: (value: unknown) => void;
}

/** One setting; nothing where the server does not have it. */
function Setting({ name, label, help, children }: { name: string; label: string; help: string; children: (field: FieldProps) => ReactNode }) {
  const { settings, changeSetting } = useShared();
  const id = useId();
  const [state, setState] = useState<{ wrong: string; kept: boolean }>({ wrong: "", kept: false });
  if (settings === null || !(name in settings.values)) return null;
  const fixed = settings.fixed.includes(name);
  const keep = (value: unknown) => {
    if (JSON.stringify(value) === JSON.stringify(settings.values[name])) return;
    changeSetting(name, value).then(
      () => setState({ wrong: "", kept: true }),
      (error: unknown) => setState({ wrong: error instanceof Error ? error.message : String(error), kept: false }),
    );
  };
  return (
    <div className="setting">
      <label htmlFor={id}>{label}</label>
      {children({ id, value: settings.values[name], disabled: fixed, keep })}
      {help !== "" && <p className="quiet">{help}</p>}
      {fixed && <p className="quiet fixed">Fixed here: set by <code>LORALOOM_{name.toUpperCase()}</code> or in the settings file.</p>}
      {state.wrong !== "" && <p className="wrong" role="alert">{state.wrong}</p>}
      {state.kept && <p className="kept" role="status">Kept.</p>}
    </div>
  );
}

function TextInput({ id, value, disabled, keep }: FieldProps) {
  return <input id={id} key={String(value)} defaultValue={String(value)} disabled={disabled} onBlur={(event) => keep(event.target.value)} onKeyDown={leave} />;
}

function NumberInput({ step, min, id, value, disabled, keep }: FieldProps & { step: number; min?: number }) {
  return (
    <input
      id={id}
      key={String(value)}
      type="number"
      step={step}
      min={min}
      defaultValue={String(value)}
      disabled={disabled}
      onBlur={(event) => Number.isFinite(event.target.valueAsNumber) && keep(event.target.valueAsNumber)}
      onKeyDown={leave}
    />
  );
}

function ListInput({ id, value, disabled, keep }: FieldProps) {
  const lines = Array.isArray(value) ? value.map(String) : [];
  return (
    <textarea
      id={id}
      key={lines.join("\n")}
      rows={Math.max(2, lines.length)}
      defaultValue={lines.join("\n")}
      placeholder={disabled ? "none" : ""}
      disabled={disabled}
      onBlur={(event) => keep(event.target.value.split("\n").map((line) => line.trim()).filter(Boolean))}
    />
  );
}

function leave(event: React.KeyboardEvent<HTMLInputElement>): void {
  if (event.key === "Enter") event.currentTarget.blur();
}
