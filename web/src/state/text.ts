/** The text whose tags rows and cards show and change: the prompt, or a mix that becomes a file. */

import { createContext, useContext } from "react";

import { useShared } from "./page";

export interface Text {
  readonly what: "prompt" | "mix";
  readonly text: string;
  edit(by: (text: string) => string): void;
}

/** Set where the text is not the prompt. */
export const TextContext = createContext<Text | null>(null);

export function useText(): Text {
  const { draft, edit } = useShared();
  return useContext(TextContext) ?? { what: "prompt", text: draft.prompt, edit };
}
