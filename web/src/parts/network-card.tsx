/** One LoRA: a click puts it into the prompt or takes it out, a chip does the same with a trigger word. */

import type { Network } from "../api/client";
import { addTag, removeTag } from "../prompt/edits";
import { written } from "../prompt/numbers";
import { findWord, toggleWord } from "../prompt/words";
import { useShared } from "../state/page";
import { useText } from "../state/text";

const CHIPS = 5;

export function NetworkCard({ network, tagIndex, details }: { network: Network; tagIndex: number | null; details: () => void }) {
  const { settings, base } = useShared();
  const { what, edit } = useText();
  const used = tagIndex !== null;
  const strength = written(network.strength ?? Number(settings?.values["default_strength"] ?? 1));
  const warning = network.problem || (network.fits === false ? `made for ${network.base || network.family}; the base is ${base?.title ?? base?.name ?? "another"}` : "");
  return (
    <li className={`card ${used ? `used thread-${tagIndex % 6}` : ""} ${warning ? "unfit" : ""}`}>
      <button
        type="button"
        className="card-main"
        aria-pressed={used}
        aria-label={`${network.name}: ${used ? "take out of" : "add to"} the ${what}`}
        disabled={network.problem !== "" && !used}
        onClick={() => edit((text) => (used ? removeTag(text, tagIndex) : addTag(text, network.tag, strength)))}
      >
        {network.preview === null ? <span className="no-picture" aria-hidden="true">{network.name.slice(0, 1)}</span> : <img src={network.preview} alt="" loading="lazy" decoding="async" width="256" height="256" />}
        <span className="card-name">{network.name}</span>
        <span className="card-facts">{[network.base || network.family || "family unknown", network.types.join(", ")].filter(Boolean).join(" · ")}</span>
      </button>
      <button type="button" className="icon about" aria-label={`About ${network.name}`} title="About" onClick={details}>
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 11v6M12 7v.5M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18" /></svg>
      </button>
      {warning !== "" && <p className="warning">{warning}</p>}
      {what === "prompt" && network.triggers.length > 0 && (
        <div className="chips">
          <Chips words={network.triggers.slice(0, CHIPS)} />
          {network.triggers.length > CHIPS && <button type="button" className="chip" aria-label={`All trigger words of ${network.name}`} onClick={details}>+{network.triggers.length - CHIPS}</button>}
        </div>
      )}
    </li>
  );
}

/** Trigger words; one that is pressed is in the prompt. */
export function Chips({ words }: { words: readonly string[] }) {
  const { draft, edit } = useShared();
  return words.map((word) => (
    <button key={word} type="button" className="chip" aria-pressed={findWord(draft.prompt, word) !== null} title="Trigger word" onClick={() => edit((text) => toggleWord(text, word))}>
      {word}
    </button>
  ));
}
