/** Everything that the parts of the page share: the draft, jobs, networks, settings, and what can be done with them. */

import { createContext, useCallback, useContext, useEffect, useMemo, useReducer, useState } from "react";

import { api, ApiError, type AnyJob, type BaseInfo, type Mistake, type Networks, type SettingsView } from "../api/client";
import { listen } from "../api/events";
import { change, load, request, save, type Draft } from "./draft";
import { useExtracting, type Extracting } from "./extracting";
import { hear } from "./jobs";

export interface Page {
  readonly draft: Draft;
  readonly jobs: readonly AnyJob[];
  readonly networks: Networks;
  readonly base: BaseInfo | null;
  readonly samplers: readonly string[];
  readonly settings: SettingsView | null;
  /** What is wrong with the draft, as the server says. */
  readonly mistake: Mistake | null;
  /** What is wrong with the connection, "" if nothing. */
  readonly trouble: string;
  readonly asking: boolean;
  /** The job that the stage shows; null: the newest. */
  readonly chosen: string | null;
  readonly extracting: Extracting;
  set(values: Partial<Draft>): void;
  edit(by: (prompt: string) => string): void;
  draw(): void;
  interrupt(id: string): void;
  choose(id: string | null): void;
  refresh(): Promise<void>;
  changeSetting(name: string, value: unknown): Promise<void>;
}

const NONE: Networks = { networks: [], families: [], types: [] };

export const PageContext = createContext<Page | null>(null);

export function useShared(): Page {
  const page = useContext(PageContext);
  if (page === null) throw new Error("used outside of the page");
  return page;
}

/** The page's state; `leave` is called when the server wants a login again. */
export function usePage(leave: () => void): Page {
  const [draft, changeDraft] = useReducer(change, undefined, () => load(localStorage));
  const [jobs, tell] = useReducer(hear, []);
  const [networks, setNetworks] = useState(NONE);
  const [base, setBase] = useState<BaseInfo | null>(null);
  const [samplers, setSamplers] = useState<readonly string[]>([]);
  const [settings, setSettings] = useState<SettingsView | null>(null);
  const [mistake, setMistake] = useState<Mistake | null>(null);
  const [trouble, setTrouble] = useState("");
  const [asking, setAsking] = useState(false);
  const [chosen, choose] = useState<string | null>(null);

  const failed = useCallback(
    (error: unknown) => {
      if (error instanceof ApiError && error.status === 401) leave();
      else setTrouble(error instanceof Error ? error.message : String(error));
    },
    [leave],
  );
  const heard = useCallback((job: AnyJob) => tell({ kind: "one", job }), []);
  const extracting = useExtracting(base?.name ?? null, heard, failed);
  const loadNetworks = useCallback(() => api.networks().then(setNetworks, failed), [failed]);

  useEffect(() => {
    void loadNetworks();
    api.samplers().then(setSamplers, failed);
    api.settings().then(setSettings, failed);
    api.base().then(setBase, failed);
    return listen({
      job: (job) => tell({ kind: "one", job }),
      jobs: (all) => {
        setTrouble("");
        tell({ kind: "all", jobs: all });
      },
      networks: () => void loadNetworks(),
      failed,
    });
  }, [loadNetworks, failed]);

  useEffect(() => save(localStorage, draft), [draft]);

  // What a base does by itself is known once it is open: after its first job.
  const opened = base?.opened ?? true;
  const steps = jobs.some((job) => job.step > 0);
  useEffect(() => {
    if (!opened && steps) api.base().then(setBase, failed);
  }, [opened, steps, failed]);

  return useMemo(
    () => ({
      draft,
      jobs,
      networks,
      base,
      samplers,
      settings,
      mistake,
      trouble,
      asking,
      chosen,
      extracting,
      set: (values) => {
        setMistake(null);
        changeDraft({ kind: "set", values });
      },
      edit: (by) => {
        setMistake(null);
        changeDraft({ kind: "edit", edit: by });
      },
      draw: () => {
        setMistake(null);
        setAsking(true);
        api
          .draw(request(draft))
          .then(
            (job) => {
              choose(null);
              tell({ kind: "one", job });
            },
            (error: unknown) => {
              if (error instanceof ApiError && error.status !== 401 && error.status !== 0) {
                setMistake(error.mistake ?? { message: error.message, field: null, column: null, length: 1 });
              } else failed(error);
            },
          )
          .finally(() => setAsking(false));
      },
      interrupt: (id) => void api.interrupt(id).then((job) => tell({ kind: "one", job }), failed),
      choose,
      refresh: () => api.refresh().then(setNetworks, failed),
      changeSetting: async (name, value) => {
        setSettings(await api.change({ [name]: value }));
        if (name === "base") {
          setBase(await api.base());
          await loadNetworks();
        }
      },
    }),
    [draft, jobs, networks, base, samplers, settings, mistake, trouble, asking, chosen, extracting, failed, loadNetworks],
  );
}
