/** The curve of a mix, asked for when its text rests; what is asked for before is given up. */

import { useEffect, useState } from "react";

import { api, ApiError, type Curve, type Mistake } from "../api/client";
import { curveRequest, type Plan } from "./plan";

const REST_MS = 400;

export interface Drawn {
  /** The last one that came, also while the next is made; null where there is none. */
  readonly curve: Curve | null;
  readonly mistake: Mistake | null;
  readonly busy: boolean;
}

const NOTHING: Drawn = { curve: null, mistake: null, busy: false };

export function useCurve(plan: Plan, base: string | null): Drawn {
  const [drawn, setDrawn] = useState(NOTHING);
  const asked = plan.mix.trim() === "" ? null : JSON.stringify(curveRequest({ ...plan, dialect: "kohya" }, base));
  const [before, setBefore] = useState<string | null>(null);
  if (asked !== before) {
    setBefore(asked);
    setDrawn(asked === null ? NOTHING : { curve: drawn.curve, mistake: null, busy: true });
  }
  useEffect(() => {
    if (asked === null) return;
    const leaving = new AbortController();
    const timer = window.setTimeout(() => {
      api.curve(JSON.parse(asked), leaving.signal).then(
        (curve) => setDrawn({ curve, mistake: null, busy: false }),
        (error: unknown) => {
          if (leaving.signal.aborted) return;
          const told = error instanceof ApiError ? error.mistake : null;
          const message = error instanceof Error ? error.message : String(error);
          setDrawn({ curve: null, mistake: told ?? { message, field: null, column: null, length: 1 }, busy: false });
        },
      );
    }, REST_MS);
    return () => {
      window.clearTimeout(timer);
      leaving.abort();
    };
  }, [asked]);
  return drawn;
}
