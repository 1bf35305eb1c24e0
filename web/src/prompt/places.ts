/** A mistake's place. The server counts characters, JavaScript counts UTF-16 units: they differ behind an emoji. */

import type { Span } from "./tokens";

/** The stretch of `text` from character `column` on, `length` characters long. */
export function placeOf(text: string, column: number, length: number): Span {
  let units = 0;
  let characters = 0;
  let start: number | null = null;
  for (const character of text) {
    if (characters === column) start = units;
    if (characters === column + length) return { start: start ?? units, stop: units };
    units += character.length;
    characters += 1;
  }
  return { start: start ?? text.length, stop: text.length };
}
