/** What will be drawn next: the fields of the form, kept in the browser, and the request that they make. */

import type { DrawnPicture, ImageRequest } from "../api/client";

export interface Draft {
  readonly prompt: string;
  readonly negative: string;
  /** null: a new one for every job. */
  readonly seed: number | null;
  readonly pictures: number;
  /** null everywhere: what the base does by itself. */
  readonly steps: number | null;
  readonly guidance: number | null;
  readonly width: number | null;
  readonly height: number | null;
  readonly sampler: string | null;
  readonly mode: "auto" | "merge" | "branch";
  readonly strict: boolean;
  readonly force: boolean;
}

export const EMPTY: Draft = {
  prompt: "",
  negative: "",
  seed: null,
  pictures: 1,
  steps: null,
  guidance: null,
  width: null,
  height: null,
  sampler: null,
  mode: "auto",
  strict: false,
  force: false,
};

export type Change =
  | { readonly kind: "set"; readonly values: Partial<Draft> }
  /** An edit of the prompt as it is when it is applied, so that two quick ones do not undo one another. */
  | { readonly kind: "edit"; readonly edit: (prompt: string) => string };

export function change(draft: Draft, by: Change): Draft {
  return by.kind === "set" ? { ...draft, ...by.values } : { ...draft, prompt: by.edit(draft.prompt) };
}

export function request(draft: Draft): ImageRequest {
  const { negative, ...same } = draft;
  return { ...same, negative_prompt: negative, lenient: false, skip_missing: false, denoise: 0.75 };
}

/** The form that draws this picture again. */
export function recipe(of: ImageRequest, picture: DrawnPicture): Draft {
  return {
    prompt: of.prompt,
    negative: of.negative_prompt,
    seed: picture.seed,
    pictures: 1,
    steps: of.steps ?? null,
    guidance: of.guidance ?? null,
    width: of.width ?? null,
    height: of.height ?? null,
    sampler: of.sampler ?? null,
    mode: of.mode,
    strict: of.strict,
    force: of.force,
  };
}

const KEY = "loraloom.draft";

/** The draft of the last visit; what is not of its kind there is left out. */
export function load(storage: Pick<Storage, "getItem">): Draft {
  try {
    const kept: unknown = JSON.parse(storage.getItem(KEY) ?? "{}");
    if (typeof kept !== "object" || kept === null) return EMPTY;
    const known = Object.entries(kept).filter(([name, value]) => name in EMPTY && sameKind(EMPTY[name as keyof Draft], value, name));
    return { ...EMPTY, ...Object.fromEntries(known) };
  } catch {
    return EMPTY;
  }
}

export function save(storage: Pick<Storage, "setItem">, draft: Draft): void {
  try {
    storage.setItem(KEY, JSON.stringify(draft));
  } catch {
    // A full or forbidden storage: the next visit begins anew.
  }
}

function sameKind(empty: unknown, value: unknown, name: string): boolean {
  if (name === "mode") return value === "auto" || value === "merge" || value === "branch";
  if (empty === null) return value === null || typeof value === (name === "sampler" ? "string" : "number");
  return typeof value === typeof empty;
}
