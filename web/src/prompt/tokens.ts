/** A prompt as segments: text, and LoRA tags with the place of every number. Joined, the sources are the prompt.
 *
 *  The grammar is that of src/loraloom/prompts/grammar.py; tests/prompt/cases.json holds both to the same answers.
 *  Nothing here judges values: a mistake stays where it was written, and the server says what it is.
 */

/** A part of the prompt between two places, without the spaces around it. Places count UTF-16 units, as JavaScript does. */
export interface Span {
  readonly start: number;
  readonly stop: number;
}

/** One value of a tag: `0.8`, `te=0.5`, `lbw=OUTALL`. */
export interface Item {
  /** `first`, `second` and `dyn` for numbers without a key, `lbw` for block weights without one; `transformer` and `dit` read `unet`. */
  readonly key: string;
  readonly keyed: boolean;
  readonly text: string;
  readonly value: Span;
}

export interface TextSegment extends Span {
  readonly kind: "text";
  readonly source: string;
}

export interface TagSegment extends Span {
  readonly kind: "tag";
  readonly source: string;
  /** As it is looked up, without quotes; "" where the tag has no usable name. */
  readonly name: string;
  /** Behind the name, where a first number belongs. */
  readonly nameStop: number;
  readonly items: readonly Item[];
}

export type Segment = TextSegment | TagSegment;

const OPENING = /<(?:lora|lyco|loha|lokr|dora|locon):\s*/gi;
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy;
const REST = /[^<>]*>/y;
const UNQUOTED_NAME = /hf:[^:/<>]+\/[^:<>]*|[A-Za-z]:[\\/][^:<>]*|[^:<>]*/y;
const ALIASES: Readonly<Record<string, string>> = { transformer: "unet", dit: "unet", w: "lbw" };
const PRESETS = /^(?:NONE|ALL|ALL0\.5|INS|IND|INALL|MIDD|OUTD|OUTS|OUTALL)$/i;
const BLOCKS: readonly number[] = [12, 17, 20, 26];
/** Characters that nobody sees: zero width, byte order mark, soft hyphen, directions of writing. The server says where. */
export const INVISIBLE = /[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
const POSITIONAL = ["first", "second", "dyn"] as const;

/** The segments of a prompt in order; no segment is empty. A tag that is not closed is text. */
export function tokenize(text: string): Segment[] {
  const segments: Segment[] = [];
  let done = 0;
  let place = 0;
  for (;;) {
    OPENING.lastIndex = place;
    const opening = OPENING.exec(text);
    if (opening === null) break;
    const tag = readTag(text, opening.index, OPENING.lastIndex);
    place = tag === null ? opening.index + opening[0].length : tag.stop;
    if (tag === null) continue;
    if (tag.start > done) segments.push(textSegment(text, done, tag.start));
    segments.push(tag);
    done = tag.stop;
  }
  if (done < text.length) segments.push(textSegment(text, done, text.length));
  return segments;
}

/** The tags of a prompt in order. */
export function tags(text: string): TagSegment[] {
  return tokenize(text).filter((segment) => segment.kind === "tag");
}

function textSegment(text: string, start: number, stop: number): TextSegment {
  return { kind: "text", source: text.slice(start, stop), start, stop };
}

function matchAt(pattern: RegExp, text: string, place: number): RegExpExecArray | null {
  pattern.lastIndex = place;
  return pattern.exec(text);
}

function readTag(text: string, start: number, place: number): TagSegment | null {
  const quoted = text[place] === '"' ? matchAt(QUOTED, text, place) : null;
  if (text[place] === '"' && quoted === null) return null;
  const rest = matchAt(REST, text, quoted === null ? place : place + quoted[0].length);
  if (rest === null) return null;
  const stop = rest.index + rest[0].length;
  let name: string;
  let after: number;
  if (quoted !== null) {
    name = (quoted[1] ?? "").replace(/\\(["\\])/g, "$1");
    after = place + quoted[0].length;
  } else {
    const spelled = matchAt(UNQUOTED_NAME, text.slice(0, stop - 1), place)?.[0] ?? "";
    name = spelled.replace(INVISIBLE, "").trim();
    after = place + spelled.length;
  }
  const [leftover, ...items] = split(text, after, stop - 1);
  const usable = leftover !== undefined && leftover.start === leftover.stop && name !== "";
  return {
    kind: "tag",
    source: text.slice(start, stop),
    start,
    stop,
    name: usable ? name : "",
    nameStop: after,
    items: readItems(text, items),
  };
}

/** The parts between colons, each trimmed. */
function split(text: string, start: number, stop: number): Span[] {
  const spans: Span[] = [];
  let left = start;
  for (let place = start; place <= stop; place += 1) {
    if (place < stop && text[place] !== ":") continue;
    spans.push(trimmed(text, left, place));
    left = place + 1;
  }
  return spans;
}

function trimmed(text: string, start: number, stop: number): Span {
  const part = text.slice(start, stop);
  const from = start + (part.trim() === "" ? 0 : part.length - part.trimStart().length);
  return { start: from, stop: from + part.trim().length };
}

/** Block weights without a key, as an older tool wrote them: a preset's name, or as many numbers as there are blocks. */
function isBlocks(text: string): boolean {
  return PRESETS.test(text) || (BLOCKS.includes(text.split(",").length) && !/[@~]/.test(text));
}

function readItems(text: string, spans: readonly Span[]): Item[] {
  let counted = 0;
  return spans.map((span): Item => {
    const whole = text.slice(span.start, span.stop);
    const middle = whole.indexOf("=");
    if (middle < 0 && isBlocks(whole)) return { key: "lbw", keyed: false, text: whole, value: span };
    if (middle < 0) {
      const key = POSITIONAL[counted] ?? "";
      counted += 1;
      return { key, keyed: false, text: whole, value: span };
    }
    const written = text.slice(span.start, span.start + middle).trim();
    const value = trimmed(text, span.start + middle + 1, span.stop);
    return { key: ALIASES[written] ?? written, keyed: true, text: text.slice(value.start, value.stop), value };
  });
}
