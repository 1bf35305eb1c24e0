/** Edits of a prompt's text. Each changes only what it must; everything else keeps its spelling. */

import { INVISIBLE, tags, type Item, type TagSegment } from "./tokens";

/** What a slider of a row sets: a key of the prompt language, or `first`, the number for everything. */
export type StrengthKey = "first" | "te" | "te1" | "te2" | "te3" | "unet" | "in" | "mid" | "out";

const splice = (text: string, start: number, stop: number, put: string): string => text.slice(0, start) + put + text.slice(stop);

/** The item of a tag that decides for `key`: a number that stands for the denoiser counts unless `unet=` is there too. */
export function itemOf(tag: TagSegment, key: StrengthKey): Item | undefined {
  const named = tag.items.find((item) => item.key === key);
  return named ?? (key === "unet" ? tag.items.find((item) => item.key === "second") : undefined);
}

/** The prompt with this value for `key` in its tag number `index`; a value that is there is replaced, else one is added. */
export function setStrength(text: string, index: number, key: StrengthKey, value: string): string {
  const tag = tags(text)[index];
  if (tag === undefined) return text;
  const item = itemOf(tag, key);
  if (item !== undefined) return splice(text, item.value.start, item.value.stop, value);
  if (key === "first") return splice(text, tag.nameStop, tag.nameStop, `:${value}`);
  return splice(text, tag.stop - 1, tag.stop - 1, `:${key}=${value}`);
}

/** The prompt whose tag number `index` says nothing of `key` any more. A number that others stand behind stays. */
export function clearStrength(text: string, index: number, key: StrengthKey): string {
  const tag = tags(text)[index];
  const item = tag && itemOf(tag, key);
  if (tag === undefined || item === undefined) return text;
  const behind = tag.items.slice(tag.items.indexOf(item) + 1);
  if (!item.keyed && behind.some((other) => !other.keyed && other.key !== "lbw")) return text;
  const colon = text.lastIndexOf(":", item.value.start - 1);
  return splice(text, colon, item.value.stop, "");
}

/** A name as a tag spells it: in quotes where it would not read back. */
export function spelled(name: string): string {
  const plain = /^(?:hf:[^:/<>]+\/[^:<>]*|[A-Za-z]:[\\/][^:<>]*|[^:<>]+)$/.test(name) && name === name.trim() && !name.startsWith('"') && name.search(INVISIBLE) < 0;
  return plain ? name : `"${name.replace(/(["\\])/g, "\\$1")}"`;
}

/** The prompt with a tag for this network at its end; `name` as a tag spells it, as the server gives it. */
export function addTag(text: string, name: string, strength: string): string {
  const tag = `<lora:${name}:${strength}>`;
  return text === "" || /\s$/.test(text) ? text + tag : `${text} ${tag}`;
}

/** The prompt without its tag number `index`, and without the separators that only stood beside it. */
export function removeTag(text: string, index: number): string {
  const tag = tags(text)[index];
  return tag === undefined ? text : cutOut(text, tag.start, tag.stop);
}

/** The text without a stretch of it; of the separators on both sides one stays between two neighbours. */
export function cutOut(text: string, start: number, stop: number): string {
  const left = /[\s,]*$/.exec(text.slice(0, start))?.[0] ?? "";
  const right = /^[\s,]*/.exec(text.slice(stop))?.[0] ?? "";
  const before = text.slice(0, start - left.length);
  const after = text.slice(stop + right.length);
  if (before === "" || after === "") return before + after;
  const kept = left.includes(",") || !right.includes(",") ? left : right;
  return before + (kept === "" ? right : kept) + after;
}
