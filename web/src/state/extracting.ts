/** Saving a mix: the plan, what is wrong with it, and the request. */

import { useMemo, useState } from "react";

import { api, ApiError, type ExtractJob, type Mistake } from "../api/client";
import { extractRequest, NEW, type Plan } from "./plan";

export interface Extracting {
  readonly plan: Plan;
  /** As the server says, after `save`. */
  readonly mistake: Mistake | null;
  readonly asking: boolean;
  set(values: Partial<Plan>): void;
  edit(by: (mix: string) => string): void;
  save(): void;
}

/** `base` is the name of the server's base, `heard` gets the new job, `failed` what is wrong with the connection. */
export function useExtracting(base: string | null, heard: (job: ExtractJob) => void, failed: (error: unknown) => void): Extracting {
  const [plan, change] = useState(NEW);
  const [mistake, setMistake] = useState<Mistake | null>(null);
  const [asking, setAsking] = useState(false);
  return useMemo(
    () => ({
      plan,
      mistake,
      asking,
      set: (values) => {
        setMistake(null);
        change((before) => ({ ...before, ...values }));
      },
      edit: (by) => {
        setMistake(null);
        change((before) => ({ ...before, mix: by(before.mix) }));
      },
      save: () => {
        setMistake(null);
        setAsking(true);
        api
          .extract(extractRequest(plan, base))
          .then(heard, (error: unknown) => {
            if (error instanceof ApiError && error.status !== 401 && error.status !== 0) {
              setMistake(error.mistake ?? { message: error.message, field: null, column: null, length: 1 });
            } else failed(error);
          })
          .finally(() => setAsking(false));
      },
    }),
    [plan, mistake, asking, base, heard, failed],
  );
}
