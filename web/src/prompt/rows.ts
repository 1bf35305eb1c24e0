/** One row per tag, as the page shows them beside the prompt: its name, its values, and which network it means. */

import { itemOf, spelled, type StrengthKey } from "./edits";
import { plainNumber } from "./numbers";
import { tags, type Item, type TagSegment } from "./tokens";

export interface Control {
  readonly key: StrengthKey;
  readonly text: string;
  /** The plain number; null for a schedule or a mistake. */
  readonly number: number | null;
  readonly given: boolean;
}

export interface Row {
  /** Of the tag among all tags. */
  readonly index: number;
  readonly name: string;
  readonly source: string;
  readonly first: Control;
  /** The other strengths that the tag gives. */
  readonly others: readonly Control[];
  /** What is not a strength: `lbw`, `dyn`, `module`, `start`, `stop`. */
  readonly rest: readonly Item[];
}

/** What a row can unfold to, in this order. */
export const PARTS: readonly StrengthKey[] = ["te", "unet", "in", "mid", "out", "te1", "te2", "te3"];

/** The rows of a prompt; a tag without a usable name has none. */
export function rows(text: string): Row[] {
  return tags(text).flatMap((tag, index) => (tag.name === "" ? [] : [row(tag, index)]));
}

function row(tag: TagSegment, index: number): Row {
  const shown = new Set<Item | undefined>([...PARTS, "first" as const].map((key) => itemOf(tag, key)));
  return {
    index,
    name: tag.name,
    source: tag.source,
    first: control(tag, "first"),
    others: PARTS.map((key) => control(tag, key)).filter((found) => found.given),
    rest: tag.items.filter((item) => !shown.has(item) && item.text !== ""),
  };
}

function control(tag: TagSegment, key: StrengthKey): Control {
  const item = itemOf(tag, key);
  return { key, text: item?.text ?? "", number: plainNumber(item?.text ?? ""), given: item !== undefined };
}

/** Names by which a network can be called in a tag. */
export interface Named {
  readonly tag: string; // as a tag spells it
  readonly name: string;
  readonly folder: string;
  readonly hash: string;
}

/** The network that a name means, as far as the page can tell; the server has the last word. */
export function meant<T extends Named>(name: string, networks: readonly T[]): T | undefined {
  const lower = name.toLowerCase();
  const tag = spelled(name);
  const exact = networks.find((network) => network.tag === tag);
  if (exact !== undefined) return exact;
  const called = networks.filter((network) => [network.name, path(network)].some((each) => each.toLowerCase() === lower));
  if (called.length > 0) return called.length === 1 ? called[0] : undefined;
  return /^[0-9a-f]{8,}$/.test(lower) ? networks.find((network) => network.hash.toLowerCase().startsWith(lower)) : undefined;
}

function path(network: Named): string {
  return network.folder === "" ? network.name : `${network.folder}/${network.name}`;
}
