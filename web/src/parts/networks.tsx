/** The library beside the prompt: search, filter, cards. */

import { useDeferredValue, useState } from "react";

import type { Network } from "../api/client";
import { tags } from "../prompt/tokens";
import { meant } from "../prompt/rows";
import { ALL, shown } from "../state/library";
import { useShared } from "../state/page";
import { useText } from "../state/text";
import { NetworkCard } from "./network-card";
import { NetworkDialog } from "./network-dialog";

const SHOWN = 60; // cards at once: ten thousand would take seconds

export function NetworksPanel() {
  const { networks, refresh } = useShared();
  const { text } = useText();
  const [filter, setFilter] = useState(ALL);
  const [limit, setLimit] = useState(SHOWN);
  const [details, setDetails] = useState<Network | null>(null);
  const [scanning, setScanning] = useState(false);
  const found = shown(networks.networks, useDeferredValue(filter));
  const inPrompt = new Map<string, number>(); // id -> number of the tag
  tags(text).forEach((tag, index) => {
    const network = tag.name === "" ? undefined : meant(tag.name, networks.networks);
    if (network !== undefined && !inPrompt.has(network.id)) inPrompt.set(network.id, index);
  });
  const narrow = (values: Partial<typeof ALL>) => {
    setFilter({ ...filter, ...values });
    setLimit(SHOWN);
  };
  return (
    <section className="networks" aria-label="Networks">
      <div className="tools">
        <input type="search" aria-label="Search LoRAs" placeholder="Search LoRAs" value={filter.words} onChange={(event) => narrow({ words: event.target.value })} />
        <button
          type="button"
          className="icon"
          aria-label="Scan the folders again"
          title="Scan the folders again"
          disabled={scanning}
          onClick={() => {
            setScanning(true);
            void refresh().finally(() => setScanning(false));
          }}
        >
          <svg viewBox="0 0 24 24" aria-hidden="true" className={scanning ? "turning" : undefined}><path d="M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6" /></svg>
        </button>
        {networks.families.length > 1 && (
          <select aria-label="Family" value={filter.family} onChange={(event) => narrow({ family: event.target.value })}>
            <option value="">All families</option>
            {networks.families.map((family) => <option key={family}>{family}</option>)}
          </select>
        )}
        {networks.types.length > 1 && (
          <select aria-label="Type" value={filter.type} onChange={(event) => narrow({ type: event.target.value })}>
            <option value="">All types</option>
            {networks.types.map((type) => <option key={type}>{type}</option>)}
          </select>
        )}
      </div>
      <p className="quiet" role="status">{count(found.length, networks.networks.length)}</p>
      <ul className="cards">
        {found.slice(0, limit).map((network) => (
          <NetworkCard key={network.id} network={network} tagIndex={inPrompt.get(network.id) ?? null} details={() => setDetails(network)} />
        ))}
      </ul>
      {found.length > limit && <button type="button" onClick={() => setLimit(limit + SHOWN)}>Show more</button>}
      {details !== null && <NetworkDialog network={details} close={() => setDetails(null)} />}
    </section>
  );
}

function count(found: number, all: number): string {
  if (all === 0) return "No LoRAs yet. Put files into ./loras or a folder of the settings.";
  if (found === all) return all === 1 ? "1 LoRA" : `${all} LoRAs`;
  return found === 0 ? "No LoRA has all of these words." : `${found} of ${all} LoRAs`;
}
