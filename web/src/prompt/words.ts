/** Trigger words in a prompt: whether one is there, and how it goes in and out. Tags are never looked into. */

import { cutOut } from "./edits";
import { tokenize, type Span } from "./tokens";

/** Where a whole phrase stands in the text of a prompt, in any case; null if it does not. */
export function findWord(text: string, word: string): Span | null {
  const phrase = word.trim();
  if (phrase === "") return null;
  const escaped = phrase.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/\s+/g, "\\s+");
  const whole = new RegExp(`(?<![\\p{L}\\p{N}_])${escaped}(?![\\p{L}\\p{N}_])`, "iu");
  for (const segment of tokenize(text)) {
    const match = segment.kind === "text" ? whole.exec(segment.source) : null;
    if (match !== null) return { start: segment.start + match.index, stop: segment.start + match.index + match[0].length };
  }
  return null;
}

/** The prompt with this word behind its last text, or as it is if the word is there. */
export function addWord(text: string, word: string): string {
  if (findWord(text, word) !== null || word.trim() === "") return text;
  const last = tokenize(text).findLast((segment) => segment.kind === "text" && /[^\s,]/.test(segment.source));
  if (last === undefined) return text.trim() === "" ? word.trim() : `${word.trim()} ${text.trimStart()}`;
  const stop = last.start + last.source.replace(/[\s,]+$/, "").length;
  const rest = text.slice(stop).replace(/^\s*,\s*$/, "");
  return `${text.slice(0, stop)}, ${word.trim()}${rest}`;
}

/** The prompt without this word; only the first one goes. In front of a tag its comma goes with it. */
export function removeWord(text: string, word: string): string {
  const found = findWord(text, word);
  if (found === null) return text;
  const tagBehind = tokenize(text).find((segment) => segment.kind === "tag" && segment.start >= found.stop);
  if (tagBehind === undefined || text.slice(found.stop, tagBehind.start).trim() !== "") return cutOut(text, found.start, found.stop);
  return text.slice(0, found.start).replace(/[\s,]+$/, "") + text.slice(found.stop);
}

/** In if it is out, out if it is in. */
export function toggleWord(text: string, word: string): string {
  return findWord(text, word) === null ? addWord(text, word) : removeWord(text, word);
}
