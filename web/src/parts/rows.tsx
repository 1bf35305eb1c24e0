/** One row per tag of the prompt: how strong, where, and what else the tag says. Rows and text are one thing. */

import { useState } from "react";

import { clearStrength, removeTag, setStrength, type StrengthKey } from "../prompt/edits";
import { curve, written } from "../prompt/numbers";
import { meant, PARTS, rows, type Control, type Row } from "../prompt/rows";
import { useShared } from "../state/page";
import { useText } from "../state/text";

const NAMES: Readonly<Record<StrengthKey, string>> = {
  first: "strength",
  te: "text encoder",
  te1: "text encoder 1",
  te2: "text encoder 2",
  te3: "text encoder 3",
  unet: "denoiser",
  in: "input blocks",
  mid: "middle blocks",
  out: "output blocks",
};
const OFFERED: readonly StrengthKey[] = ["te", "unet", "in", "mid", "out"];

export function TagRows() {
  const { text, what } = useText();
  const found = rows(text);
  if (found.length === 0) return null;
  return (
    <ul className="rows" aria-label={`LoRAs of the ${what}`}>
      {found.map((row) => (
        <TagRow key={row.index} row={row} />
      ))}
    </ul>
  );
}

function TagRow({ row }: { row: Row }) {
  const { networks, settings } = useShared();
  const { edit } = useText();
  const [open, setOpen] = useState(false);
  const network = meant(row.name, networks.networks);
  const usual = network?.strength ?? Number(settings?.values["default_strength"] ?? 1);
  const whole = row.first.number ?? usual;
  const keys = PARTS.filter((key) => row.others.some((control) => control.key === key) || (open && OFFERED.includes(key)));
  return (
    <li className={`row thread-${row.index % 6}`}>
      <div className="row-head">
        {network?.preview ? <img src={network.preview} alt="" width="28" height="28" /> : <span className="no-picture" aria-hidden="true" />}
        <span className="row-name" title={row.source}>{row.name}</span>
        {row.rest.map((item) => (
          <span key={item.value.start} className="chip still">{item.key === "" ? item.text : `${item.key} ${item.text}`}</span>
        ))}
        <button type="button" className="icon" aria-expanded={open} aria-label={`Parts of ${row.name}`} title="Text encoder, denoiser, blocks" onClick={() => setOpen(!open)}>
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d={open ? "M6 15l6-6 6 6" : "M6 9l6 6 6-6"} /></svg>
        </button>
        <button type="button" className="icon" aria-label={`Remove ${row.name}`} title="Remove" onClick={() => edit((text) => removeTag(text, row.index))}>
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 6l12 12M18 6L6 18" /></svg>
        </button>
      </div>
      <Strength row={row} control={row.first} usual={usual} />
      {keys.map((key) => {
        const control = row.others.find((each) => each.key === key) ?? { key, text: "", number: null, given: false };
        return <Strength key={key} row={row} control={control} usual={whole} />;
      })}
    </li>
  );
}

/** A slider and its number; a schedule has its text and its curve instead. `usual` is what counts where nothing is given. */
function Strength({ row, control, usual }: { row: Row; control: Control; usual: number }) {
  const { edit } = useText();
  const label = control.key === "first" ? `Strength of ${row.name}` : `${row.name}: ${NAMES[control.key]}`;
  const set = (value: string) => edit((text) => setStrength(text, row.index, control.key, value));
  const value = control.number ?? usual;
  const scheduled = control.given && control.number === null;
  return (
    <div className={control.given ? "strength" : "strength usual"}>
      <span className="strength-name">{NAMES[control.key]}</span>
      {scheduled ? (
        <Curve text={control.text} />
      ) : (
        <input
          type="range"
          aria-label={label}
          min={value < 0 ? -2 : 0}
          max={value > 2 ? Math.ceil(value) : 2}
          step={0.05}
          value={value}
          onChange={(event) => set(written(event.target.valueAsNumber))}
        />
      )}
      <input
        type="text"
        inputMode="decimal"
        className={scheduled ? "number long" : "number"}
        aria-label={`${label}, as text`}
        value={control.given ? control.text : written(usual)}
        onChange={(event) => set(event.target.value.replace(/[<>:="]/g, ""))}
      />
      {control.given && control.key !== "first" && (
        <button type="button" className="icon small" aria-label={`${label}: as the whole again`} title="As the whole again" onClick={() => edit((text) => clearStrength(text, row.index, control.key))}>
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 6l12 12M18 6L6 18" /></svg>
        </button>
      )}
    </div>
  );
}

function Curve({ text }: { text: string }) {
  const { draft, base } = useShared();
  const corners = curve(text, draft.steps ?? base?.steps ?? 20);
  if (corners === null) return <span className="curve" />;
  const low = Math.min(0, ...corners.map(({ value }) => value));
  const high = Math.max(1, ...corners.map(({ value }) => value));
  const points = corners.map(({ at, value }) => `${(at * 100).toFixed(1)},${(22 - ((value - low) / (high - low)) * 20).toFixed(1)}`);
  return (
    <svg className="curve" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={`Strength over the run: ${text}`}>
      <polyline points={points.join(" ")} />
    </svg>
  );
}
